"""Config dataclasses to plain JSON values and back, strictly."""

from __future__ import annotations

import dataclasses
from typing import Any

from msedge.errors import ModelError
from msedge.recipe.build import suggest


def plain(value: Any) -> Any:
    """A config dataclass as a dict, tuples as lists."""
    if dataclasses.is_dataclass(value):
        return {f.name: plain(getattr(value, f.name)) for f in dataclasses.fields(value)}
    return [plain(v) for v in value] if isinstance(value, (tuple, list)) else value


def updated(config: Any, widths: dict[str, Any], name: str) -> Any:
    """`config` with some fields replaced.

    Raises ModelError for unknown fields (with a near miss), and for values that are not of the field's kind: numbers
    where numbers stand, lists where lists do (of any length; the architecture checks that they fit together).
    """
    fields = [f.name for f in dataclasses.fields(config)]
    changes = {}
    for key, value in widths.items():
        if key not in fields:
            raise ModelError(f"{name} has no width '{key}'", suggest(key, fields))
        changes[key] = _like(value, getattr(config, key), f"{name}: {key}")
    return dataclasses.replace(config, **changes)


def _like(value: Any, example: Any, where: str) -> Any:
    if isinstance(example, tuple):
        if not isinstance(value, (list, tuple)) or not value:
            raise ModelError(f"{where} is {value!r}", "a list is needed")
        return tuple(_like(v, example[0], where) for v in value)
    if isinstance(example, bool):
        if not isinstance(value, bool):
            raise ModelError(f"{where} is {value!r}", "true or false is needed")
        return value
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise ModelError(f"{where} is {value!r}", "a number is needed")
    if isinstance(example, int):
        if not float(value).is_integer() or value < 1:
            raise ModelError(f"{where} is {value!r}", "a whole number from 1 on is needed")
        return int(value)
    if not 0 <= value < 1:
        raise ModelError(f"{where} is {value!r}", "a rate from 0 to below 1 is needed")
    return float(value)
