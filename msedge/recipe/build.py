"""From a YAML tree to frozen dataclasses: strict keys, strict types, near-miss suggestions."""

from __future__ import annotations

import dataclasses
import difflib
import math
import types
import typing
from typing import Any

from msedge.errors import RecipeError
from msedge.recipe.tree import Node

_NAMES = {int: "a whole number", float: "a number", bool: "true or false", str: "text", dict: "a mapping"}


def build(cls: type, node: Node, key: str = "") -> Any:
    """Build the dataclass `cls` from a mapping node; raises RecipeError naming file, line and key."""
    if not isinstance(node.value, dict):
        raise RecipeError(f"{node.where}: '{key or 'recipe'}' must be a mapping, not {_describe(node)}")
    hints = typing.get_type_hints(cls)
    for name, child in node.value.items():
        if name not in hints:
            raise RecipeError(f"{child.where}: unknown key '{_join(key, name)}'", suggest(name, hints))
    values = {name: _coerce(hints[name], child, _join(key, name)) for name, child in node.value.items()}
    return cls(**values)


def suggest(name: str, known) -> str:
    """'did you mean ...' for a near miss, else the list of what is known."""
    near = difflib.get_close_matches(name, list(known), n=1, cutoff=0.6)
    return f"did you mean '{near[0]}'?" if near else f"known here: {', '.join(sorted(known))}"


def _join(prefix: str, name: str) -> str:
    return f"{prefix}.{name}" if prefix else name


def _describe(node: Node) -> str:
    value = node.plain()
    if value is None:
        return "empty"
    kind = {dict: "a mapping", list: "a list"}.get(type(value))
    return kind or f"{value!r}"


def _coerce(hint: Any, node: Node, key: str) -> Any:
    origin = typing.get_origin(hint)
    if origin in (types.UnionType, typing.Union):
        if node.value is None:
            return None
        (inner,) = [a for a in typing.get_args(hint) if a is not type(None)]
        return _coerce(inner, node, key)
    if dataclasses.is_dataclass(hint):
        return build(hint, node, key)
    if origin is tuple:
        return _tuple(typing.get_args(hint), node, key)
    value = node.value
    if hint is float and type(value) in (int, float) and math.isfinite(value):
        return float(value)
    if hint is dict and isinstance(value, dict):
        return node.plain()
    if hint in (int, bool, str) and type(value) is hint:
        return value
    raise RecipeError(f"{node.where}: '{key}' must be {_NAMES[hint]}, not {_describe(node)}")


def _tuple(args: tuple, node: Node, key: str) -> tuple:
    if not isinstance(node.value, list):
        raise RecipeError(f"{node.where}: '{key}' must be a list, not {_describe(node)}")
    if args[-1] is Ellipsis:
        args = (args[0],) * len(node.value)
    if len(args) != len(node.value):
        raise RecipeError(f"{node.where}: '{key}' must have {len(args)} values, not {len(node.value)}")
    return tuple(_coerce(arg, child, f"{key}[{i}]") for i, (arg, child) in enumerate(zip(args, node.value, strict=True)))
