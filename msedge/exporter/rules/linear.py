"""Matrix products."""

from __future__ import annotations

from msedge.exporter.emitter import Op
from msedge.exporter.registry import rule
from msedge.exporter.values import Parameter


def _swapped(op: Op, x: str, rank: int) -> str:
    """The last two axes exchanged; Lite takes such a Transpose into the MatMul that reads it."""
    return op.op("Transpose", x, perm=[*range(rank - 2), rank - 1, rank - 2])


@rule("MatMul")
def matmul(op: Op) -> str:
    """Arguments a, b, transpose_a, transpose_b, both of rank 2: Gemm where b is a weight."""
    flip_a, flip_b = bool(op.static(2, "transpose_a", False)), bool(op.static(3, "transpose_b", False))
    if isinstance(op.node.inputs[1], Parameter):
        return op.op("Gemm", op.tensor(0), op.tensor(1), transA=int(flip_a), transB=int(flip_b))
    a, b = op.tensor(0), op.tensor(1)
    return op.op("MatMul", _swapped(op, a, 2) if flip_a else a, _swapped(op, b, 2) if flip_b else b)


@rule("BatchMatMul")
def batch_matmul(op: Op) -> str:
    a, b = op.tensor(0), op.tensor(1)
    if op.static(2, "transpose_a", False):
        a = _swapped(op, a, len(op.shape(0)))
    if op.static(3, "transpose_b", False):
        b = _swapped(op, b, len(op.shape(1)))
    return op.op("MatMul", a, b)


@rule("MatMulExt", "BatchMatMulExt", "Mm")
def matmul_ext(op: Op) -> str:
    return op.op("MatMul", op.tensor(0), op.tensor(1))


@rule("Dense")
def dense(op: Op) -> str:
    """Arguments x [..., in], weight [out, in], bias [out] or None."""
    rank = len(op.shape(0))
    bias = [op.tensor(2)] if op.has(2) else []
    if rank == 2:
        return op.op("Gemm", op.tensor(0), op.tensor(1), *bias, transB=1)
    y = op.op("MatMul", op.tensor(0), _swapped(op, op.tensor(1), 2))
    return op.op("Add", y, *bias) if bias else y


@rule("BiasAdd")
def bias_add(op: Op) -> str:
    """A bias per channel; the channels are axis 1."""
    spare = len(op.shape(0)) - 2
    bias = op.tensor(1)
    if spare:
        bias = op.reshape(bias, (op.shape(1)[0], *[1] * spare))
    return op.op("Add", op.tensor(0), bias)
