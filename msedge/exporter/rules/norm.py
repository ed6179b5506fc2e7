"""Normalisation, in the forms that Lite fuses into one node (and converts right: see docs/export.md)."""

from __future__ import annotations

import math

import numpy as np

from msedge.exporter.emitter import Op
from msedge.exporter.registry import rule


@rule("BatchNorm", "BatchNormExt")
def batch_norm(op: Op) -> list[str]:
    if op.static(5, "is_training", False) is True:
        raise op.fail("it uses batch statistics", "call set_train(False) on the cell before exporting it")
    eps = float(op.static(6 if op.node.op == "BatchNorm" else 7, "epsilon", 1e-5))
    return [op.op("BatchNormalization", *[op.tensor(i) for i in range(5)], epsilon=eps)]


def _layer_norm(op: Op, x: str, eps: float, weight: str, bias: str) -> str:
    """Over the last axis. The order and the forms of these nodes are what Lite's LayerNormFusion looks for."""
    centred = op.op("Sub", x, op.op("ReduceMean", x, axes=[-1], keepdims=1))
    variance = op.op("ReduceMean", op.op("Pow", centred, op.scalar(2.0, "two")), axes=[-1], keepdims=1)
    deviation = op.op("Sqrt", op.op("Add", variance, op.scalar(eps, "epsilon")))
    normal = op.op("Div", centred, deviation)
    return op.op("Add", op.op("Mul", normal, weight), bias)


@rule("LayerNorm", "LayerNormV3")
def layer_norm(op: Op) -> list[str]:
    """Arguments x, gamma, beta, begin_norm_axis, begin_params_axis, epsilon."""
    rank = len(op.shape(0))
    axis = int(op.static(3, "begin_norm_axis")) % rank
    return [_over_last_axes(op, rank - axis, op.tensor(1), op.tensor(2), float(op.static(5, "epsilon")))]


@rule("LayerNormExt")
def layer_norm_ext(op: Op) -> list[str]:
    """Arguments x, normalized_shape, weight, bias, eps; weight and bias may be None."""
    shape = op.ints(1)
    weight = op.tensor(2) if op.has(2) else op.constant(np.ones(shape, op.result[1]), "ones")
    bias = op.tensor(3) if op.has(3) else op.constant(np.zeros(shape, op.result[1]), "zeros")
    return [_over_last_axes(op, len(shape), weight, bias, float(op.static(4)))]


def _over_last_axes(op: Op, axes: int, weight: str, bias: str, eps: float) -> str:
    """Several axes are flattened into one: Lite 2.0.0 fuses a LayerNorm over several to wrong numbers."""
    x, shape = op.tensor(0), op.shape(0)
    if axes == 1:
        return _layer_norm(op, x, eps, weight, bias)
    size = math.prod(shape[-axes:])
    flat = op.reshape(x, (*shape[:-axes], size))
    y = _layer_norm(op, flat, eps, op.reshape(weight, (size,)), op.reshape(bias, (size,)))
    return op.reshape(y, shape)


@rule("GroupNorm")
def group_norm(op: Op) -> list[str]:
    """Arguments x, groups, weight, bias, eps. As InstanceNormalization of rank 4: Lite refuses rank 3 at load."""
    shape, groups = op.shape(0), int(op.static(1))
    if len(shape) != 4:
        raise op.fail(f"the input has rank {len(shape)}, not 4")
    if groups == 1:
        return [_over_images(op)]
    batch, channels, height, width = shape
    ones, zeros = (op.constant(f(groups, op.result[1]), n) for f, n in ((np.ones, "ones"), (np.zeros, "zeros")))
    grouped = op.reshape(op.tensor(0), (batch, groups, channels // groups * height, width))
    normal = op.op("InstanceNormalization", grouped, ones, zeros, epsilon=float(op.static(4)))
    normal = op.reshape(normal, shape)
    weight, bias = (op.reshape(op.tensor(i), (channels, 1, 1)) for i in (2, 3))
    return [op.op("Add", op.op("Mul", normal, weight), bias)]


def _over_images(op: Op) -> str:
    """One group in single steps: they read the map as it lies, and its scale goes into a convolution that follows."""
    x, axes = op.tensor(0), [1, 2, 3]
    centred = op.op("Sub", x, op.op("ReduceMean", x, axes=axes, keepdims=1))
    variance = op.op("ReduceMean", op.op("Mul", centred, centred), axes=axes, keepdims=1)
    deviation = op.op("Sqrt", op.op("Add", variance, op.scalar(float(op.static(4)), "epsilon")))
    weight, bias = (op.reshape(op.tensor(i), (op.shape(0)[1], 1, 1)) for i in (2, 3))
    return op.op("Add", op.op("Mul", op.op("Div", centred, deviation), weight), bias)


@rule("InstanceNorm")
def instance_norm(op: Op) -> list[str]:
    raise op.fail("it keeps running statistics", "use GroupNorm with one group per channel")


@rule("L2Normalize")
def l2_normalize(op: Op) -> str:
    """x / sqrt(max(sum(x^2), epsilon))."""
    axes = [int(a) for a in op.attr("axis")]
    x = op.tensor(0)
    total = op.op("ReduceSum", op.op("Mul", x, x), op.numbers(axes, "axes"), keepdims=1)
    floor = op.op("Max", total, op.scalar(float(op.attr("epsilon", 1e-4)), "epsilon"))
    return op.op("Div", x, op.op("Sqrt", floor))
