"""Reductions."""

from __future__ import annotations

from msedge.exporter.emitter import Op
from msedge.exporter.registry import rule

_KINDS = {
    "ReduceMean": "ReduceMean",
    "MeanExt": "ReduceMean",
    "ReduceSum": "ReduceSum",
    "SumExt": "ReduceSum",
    "ReduceMax": "ReduceMax",
    "ReduceMin": "ReduceMin",
    "ReduceProd": "ReduceProd",
    "ProdExt": "ReduceProd",
}


@rule(*_KINDS)
def reduce(op: Op) -> str:
    """Arguments x, axes, keep_dims. A mean over all pixels becomes GlobalAveragePool, which Lite runs in its own layout
    (a ReduceMean makes it transpose the whole feature map first)."""
    rank = len(op.shape(0))
    axes = sorted(a % rank for a in op.ints(1, "axis")) if op.has(1) and op.static(1, "axis") != () else list(range(rank))
    keep = bool(op.static(2, "keep_dims", False))
    kind = _KINDS[op.node.op]
    if kind == "ReduceMean" and rank == 4 and axes == [2, 3]:
        mean = op.op("GlobalAveragePool", op.tensor(0))
        return mean if keep else op.reshape(mean, op.shape(0)[:2])
    if kind == "ReduceSum":
        return op.op(kind, op.tensor(0), op.numbers(axes, "axes"), keepdims=int(keep))
    return op.op(kind, op.tensor(0), axes=axes, keepdims=int(keep))


@rule("CumSum", "CumsumExt")
def cumulative_sum(op: Op) -> str:
    """Arguments x, axis, exclusive, reverse."""
    flags = [int(bool(op.static(i, default=False))) for i in (2, 3)] if op.node.op == "CumSum" else [0, 0]
    return op.op("CumSum", op.tensor(0), op.numbers(op.static(1), "axis"), exclusive=flags[0], reverse=flags[1])


@rule("ArgMaxWithValue", "ArgMinWithValue")
def extreme_with_place(op: Op) -> list[str]:
    """Arguments x, axis, keep_dims; gives the place and the value."""
    axis, keep = int(op.static(1, "axis")), int(bool(op.static(2, "keep_dims", False)))
    kind = op.node.op[3:6]
    place = op.op(f"Arg{kind}", op.tensor(0), axis=axis, keepdims=keep)
    return [place, op.op(f"Reduce{kind}", op.tensor(0), axes=[axis], keepdims=keep)]


@rule("Argmax", "ArgMaxExt")
def arg_max(op: Op) -> str:
    """`Argmax(x, axis)`, `ArgMaxExt(x, axis, keep_dims)`."""
    keep = int(bool(op.static(2))) if op.node.op == "ArgMaxExt" else 0
    return op.op("ArgMax", op.tensor(0), axis=int(op.static(1, "axis")), keepdims=keep)
