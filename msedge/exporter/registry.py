"""Which rule translates which MindSpore primitive."""

from __future__ import annotations

from collections.abc import Callable

from msedge.errors import ExportError
from msedge.exporter.emitter import Op

Rule = Callable[[Op], "str | list[str]"]
_RULES: dict[str, Rule] = {}


def rule(*primitives: str) -> Callable[[Rule], Rule]:
    """Register a function from an `Op` to its result tensor (or the list of them, for a primitive that returns a tuple;
    results that nothing reads may be left out at the end)."""

    def register(function: Rule) -> Rule:
        for name in primitives:
            if name in _RULES:
                raise ValueError(f"two rules for {name}")
            _RULES[name] = function
        return function

    return register


def supported() -> list[str]:
    """The primitives that have a rule."""
    from msedge.exporter import rules  # noqa: F401 (registers them)

    return sorted(_RULES)


def find(op: Op) -> Rule:
    """The rule for a primitive. Raises ExportError that names it, its layer, and what to do."""
    from difflib import get_close_matches

    known = supported()
    if op.node.op in _RULES:
        return _RULES[op.node.op]
    near = get_close_matches(op.node.op, known, 3, 0.6)
    instead = f" (near: {', '.join(near)})" if near else ""
    raise ExportError(
        f"the primitive {op.where} has no ONNX rule",
        f"use primitives that msedge exports in that layer{instead}, or add a rule in msedge/exporter/rules",
    )
