"""How many bytes a plan's model will have, before it is written."""

from __future__ import annotations

import math

from msedge.quantization.graph import ModelGraph, Unit
from msedge.quantization.plan import Plan

FLOAT_BYTES = 4
_SCALE_BYTES = {"int8": 24, "weight": 4}  # of one channel: in a `.ms` an int8 tensor has a table for each scale of its own


def node_bytes(graph: ModelGraph, plan: Plan, name: str, precision: str | None = None) -> int:
    """Bytes of a node's constants as the plan stores them, or as it would in `precision`.

    int8: the bits of the weight, 4 bytes for a bias, 24 for each scale of its own of the weight; `weight`: the same with 4 for
    a scale; float: 4 for each number.
    """
    unit = graph.units[name]
    precision = precision or plan.nodes[name].precision
    bias = FLOAT_BYTES * graph.weights[unit.bias].size if unit.bias else 0
    if unit.weight is None:
        return bias
    count = graph.weights[unit.weight].size
    if precision == "float":
        return FLOAT_BYTES * count + bias
    stored = plan.tensors[unit.weight]
    return math.ceil(count * stored.bits / 8) + _SCALE_BYTES[precision] * len(set(stored.scale)) + bias


def added_bytes(graph: ModelGraph, plan: Plan, name: str) -> int:
    """What the file grows by where this quantised node stays float."""
    return node_bytes(graph, plan, name, "float") - node_bytes(graph, plan, name)


def model_bytes(graph: ModelGraph, plan: Plan) -> int:
    """Bytes of all constants of the model by the plan: what does not belong to its nodes is float. Without the graph itself.

    A constant that several nodes read is stored once for each form that is asked for.
    """
    owned = {c for name in plan.nodes for c in _constants(graph.units[name])}
    rest = sum(w.nbytes for n, w in graph.weights.items() if n not in owned and w.dtype.kind == "f")
    forms = {(_constants(graph.units[n]), p.precision): node_bytes(graph, plan, n) for n, p in plan.nodes.items()}
    return rest + sum(forms.values())


def _constants(unit: Unit) -> tuple[str, ...]:
    return tuple(c for c in (unit.weight, unit.bias) if c)
