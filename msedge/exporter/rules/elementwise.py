"""Arithmetic, comparison and type conversion."""

from __future__ import annotations

import numpy as np
import onnx

from msedge.exporter.decode import TYPE_IDS
from msedge.exporter.emitter import Op
from msedge.exporter.registry import rule

_UNARY = {
    "Neg": "Neg",
    "Abs": "Abs",
    "Exp": "Exp",
    "Log": "Log",
    "Sqrt": "Sqrt",
    "Erf": "Erf",
    "Sin": "Sin",
    "Cos": "Cos",
    "Tanh": "Tanh",
    "Sigmoid": "Sigmoid",
    "Floor": "Floor",
    "Ceil": "Ceil",
    "Round": "Round",
    "Sign": "Sign",
    "Reciprocal": "Reciprocal",
    "LogicalNot": "Not",
}
_BINARY = {
    "Add": "Add",
    "Sub": "Sub",
    "Mul": "Mul",
    "Div": "Div",
    "RealDiv": "Div",
    "Pow": "Pow",
    "Maximum": "Max",
    "Minimum": "Min",
    "Equal": "Equal",
    "Greater": "Greater",
    "GreaterEqual": "GreaterOrEqual",
    "Less": "Less",
    "LessEqual": "LessOrEqual",
    "LogicalAnd": "And",
    "LogicalOr": "Or",
}
# The same with a Python number on one side.
_WITH_NUMBER = {
    "Muls": "Mul",
    "Divs": "Div",
    "PowTensorScalar": "Pow",
    "PowScalarTensor": "Pow",
    "EqScalar": "Equal",
    "LessScalar": "Less",
    "GreaterEqualScalar": "GreaterOrEqual",
}


@rule(*_UNARY)
def unary(op: Op) -> str:
    return op.op(_UNARY[op.node.op], op.tensor(0))


def _sides(op: Op) -> tuple[str, str]:
    """Both arguments; a Python number, or a tensor of another type, takes the type that MindSpore computes in."""
    dtype = np.result_type(*[op.dtype(i) for i in (0, 1) if not op.is_number(i)] or [np.float32])
    if op.result[1] != np.bool_:
        dtype = op.result[1]
    return op.tensor_as(0, dtype), op.tensor_as(1, dtype)


@rule(*_BINARY)
def binary(op: Op) -> str:
    return op.op(_BINARY[op.node.op], *_sides(op))


@rule(*_WITH_NUMBER)
def with_number(op: Op) -> str:
    return op.op(_WITH_NUMBER[op.node.op], *_sides(op))


@rule("NotEqual")
def not_equal(op: Op) -> str:
    return op.op("Not", op.op("Equal", *_sides(op)))


@rule("AddExt", "SubExt", "AddScalar", "SubScalar", "InplaceAddExt", "InplaceSubExt", "InplaceAddsExt", "InplaceSubScalar")
def scaled_add(op: Op) -> str:
    """x + alpha * y."""
    x, y = _sides(op)
    alpha = float(op.static(2, default=1))
    if alpha != 1:
        y = op.op("Mul", y, op.scalar(alpha, "alpha"))
    return op.op("Sub" if "Sub" in op.node.op else "Add", x, y)


@rule("InplaceMul", "InplaceMuls", "InplaceDiv", "InplaceDivs")
def in_place(op: Op) -> str:
    return op.op("Mul" if "Mul" in op.node.op else "Div", *_sides(op))


@rule("Square")
def square(op: Op) -> str:
    return op.op("Mul", op.tensor(0), op.tensor(0))


@rule("Rsqrt")
def rsqrt(op: Op) -> str:
    return op.op("Reciprocal", op.op("Sqrt", op.tensor(0)))


@rule("FloorDiv", "FloorDivScalar")
def floor_div(op: Op) -> str:
    quotient = op.op("Div", *_sides(op))
    return op.op("Floor", quotient) if op.result[1].kind == "f" else quotient


@rule("FloorMod", "RemainderTensorScalar")
def floor_mod(op: Op) -> str:
    x, y = _sides(op)
    if op.result[1].kind != "f":
        return op.op("Mod", x, y)
    return op.op("Sub", x, op.op("Mul", y, op.op("Floor", op.op("Div", x, y))))


@rule("AddN")
def add_n(op: Op) -> str:
    total, *rest = op.tensors(0)
    for x in rest:
        total = op.op("Add", total, x)
    return total


@rule("ClampScalar")
def clamp(op: Op) -> str:
    bounds = [float(op.static(i)) if op.has(i) else None for i in (1, 2)]
    names = [op.scalar(b, role) if b is not None else "" for b, role in zip(bounds, ("low", "high"), strict=True)]
    return op.op("Clip", op.tensor(0), *names)


@rule("Cast")
def cast(op: Op) -> str:
    to = TYPE_IDS.get(op.static(1, default=None), op.result[1])
    return op.op("Cast", op.tensor(0), to=int(onnx.helper.np_dtype_to_tensor_dtype(to)))


@rule("Select")
def select(op: Op) -> str:
    return op.op("Where", op.tensor(0), op.tensor_as(1, op.result[1]), op.tensor_as(2, op.result[1]))


@rule("MaskedFill", "MaskedFillScalar")
def masked_fill(op: Op) -> str:
    return op.op("Where", op.tensor(1), op.tensor_as(2, op.result[1]), op.tensor(0))
