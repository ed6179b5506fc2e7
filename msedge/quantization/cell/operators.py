"""The cell of each kind of step: compiled operators where there are any, MindSpore's otherwise.

A cell takes the step's activations, then its parameters, in the order of the ONNX node's inputs.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from msedge.errors import ModelError
from msedge.mindspore_setup import load_mindspore
from msedge.quantization.cell.patterns import Step

load_mindspore()

from mindspore import Tensor, nn, ops  # noqa: E402

from msedge.models.cpu_gradients import RowNorm, RowSoftmax  # noqa: E402
from msedge.models.maps import BandMeans, NativeMeans, Scale, Spread  # noqa: E402
from msedge.models.native import fake_quant as compiled  # noqa: E402
from msedge.models.native import operators as native  # noqa: E402
from msedge.quantization.cell.fake import Quantiser, StoredActivation, WeightQuantiser  # noqa: E402


@dataclass(frozen=True)
class Context:
    """What a cell is built from besides its step: values of initialisers, shapes of all tensors, and for units what
    stores the weight and the output."""

    values: dict[str, np.ndarray]
    shapes: dict[str, tuple[int, ...]]
    weight: WeightQuantiser | None = None
    output: Quantiser | StoredActivation | None = None


class Unit(nn.Cell):
    """A product with a weight, the sum with a bias, and both stored by their quantisers. `product(x, weight)`."""

    def __init__(self, context: Context, has_bias: bool):
        super().__init__(auto_prefix=False)
        self.weight, self.output, self.has_bias = context.weight, context.output, has_bias
        self.stores_weight, self.stores_output = context.weight is not None, context.output is not None

    def construct(self, x, weight, *rest):
        if self.stores_weight:
            weight = self.weight(weight)
        if not self.has_bias:
            y = self.product(x, weight)
            return self.output(y) if self.stores_output else y
        return self.with_bias(x, weight, rest[0])

    def with_bias(self, x, weight, bias):
        y = self.add(self.product(x, weight), bias)
        return self.output(y) if self.stores_output else y


class Conv(Unit):
    """x [N, C, H, W], weight [out, C / groups, k, k], bias [out]."""

    def __init__(self, step: Step, context: Context):
        super().__init__(context, len(step.inputs) > 2)
        a = step.settings
        if a.get("auto_pad", b"NOTSET") not in (b"NOTSET", "NOTSET"):
            raise ModelError(f"the node {step.node.name!r} has auto_pad", "give its padding as numbers")
        out, _, *kernel = context.shapes[step.inputs[1]]
        group, stride = a.get("group", 1), tuple(a.get("strides", (1, 1)))
        top, left, bottom, right = a.get("pads", (0, 0, 0, 0))
        dilation = tuple(a.get("dilations", (1, 1)))
        depthwise = group == out == context.shapes[step.inputs[0]][1] and kernel[0] == kernel[1] in (1, 3, 5, 7)
        same = (top, left, bottom, right) == (kernel[0] // 2,) * 4 and stride in ((1, 1), (2, 2)) and dilation == (1, 1)
        pads = (top, bottom, left, right)
        plain = ops.Conv2D(out, tuple(kernel), pad_mode="pad", pad=pads, stride=stride, dilation=dilation, group=group)
        ready = native.available()
        self.product = native.Depthwise(stride[0]) if ready and depthwise and same else plain
        self.add = compiled.ChannelBias() if ready else ops.BiasAdd()

    def with_bias(self, x, weight, bias):
        y = self.product(x, weight)
        return self.output.of_sum(y, bias) if self.stores_output else self.add(y, bias)


class Gemm(Unit):
    """x [rows, in], weight [out, in], bias [out]."""

    def __init__(self, step: Step, context: Context):
        super().__init__(context, len(step.inputs) > 2)
        a = step.settings
        bias = context.shapes[step.inputs[2]] if self.has_bias else (1,)
        if a.get("transA", 0) or a.get("alpha", 1.0) != 1.0 or a.get("beta", 1.0) != 1.0 or len(bias) != 1:
            raise ModelError(f"the Gemm {step.node.name!r} is not x * weight + bias of rows", "export it with msedge")
        turned = bool(a.get("transB", 0))
        ready = native.available() and turned
        self.product = native.Linear() if ready else ops.MatMul(transpose_b=turned)
        self.joint = native.LinearBias() if ready and self.has_bias else None
        self.is_joint, self.add = self.joint is not None, ops.BiasAdd()

    def with_bias(self, x, weight, bias):
        y = self.joint(x, weight, bias) if self.is_joint else self.add(self.product(x, weight), bias)
        return self.output(y) if self.stores_output else y


class Product(nn.Cell):
    """Of tensors with different numbers of axes."""

    def construct(self, x, y):
        return ops.matmul(x, y)


class MatMul(Unit):
    """Products of activations, or with a weight [in, out]; `turned`: the second's last two axes are exchanged."""

    def __init__(self, step: Step, context: Context):
        super().__init__(context, False)
        a, b = (len(context.shapes[i]) for i in step.inputs)
        turned = step.settings.get("turned", False)
        if a == b == 2:
            self.product = ops.MatMul(transpose_b=turned)
        elif a == b:
            self.product = ops.BatchMatMul(transpose_b=turned)
        else:
            self.product = Product()


class LayerNorm(nn.Cell):
    """Over the last axis of x."""

    def __init__(self, eps: float):
        super().__init__(auto_prefix=False)
        self.native = native.available()
        self.norm = native.LayerNorm(eps) if self.native else RowNorm(eps)

    def construct(self, x, weight, bias):
        rows = x if x.ndim == 2 else x.reshape(-1, x.shape[-1])
        y = self.norm(rows, weight, bias)
        y = y[0] if self.native else y
        return y if x.ndim == 2 else y.reshape(x.shape)


class Moments(nn.Cell):
    """(variance + eps, image less its mean) of each image."""

    def __init__(self, eps: float):
        super().__init__(auto_prefix=False)
        self.spread = Spread(eps)

    def construct(self, x):
        centred, deviation = self.spread(x)
        return deviation * deviation, centred


class Gather(nn.Cell):
    """Rows by a constant index."""

    def __init__(self, index: np.ndarray, axis: int):
        super().__init__(auto_prefix=False)
        self.axis, self.index = axis, Tensor(index.astype(np.int32))

    def construct(self, x):
        return ops.gather(x, self.index, self.axis)


class Permute(Gather):
    """Each row once: the gradient takes the inverse order, where MindSpore's own would scatter."""

    def __init__(self, index: np.ndarray, axis: int):
        super().__init__(index, axis)
        self.inverse = Tensor(np.argsort(index.reshape(-1)).astype(np.int32))

    def bprop(self, x, out, dout):
        return (ops.gather(dout.reshape(x.shape), self.inverse, self.axis),)


class Reshape(nn.Cell):
    def __init__(self, shape: tuple[int, ...]):
        super().__init__(auto_prefix=False)
        self.shape = shape

    def construct(self, x):
        return ops.reshape(x, self.shape)


class Transpose(nn.Cell):
    def __init__(self, order: tuple[int, ...]):
        super().__init__(auto_prefix=False)
        self.order = order

    def construct(self, x):
        return ops.transpose(x, self.order)


class Mean(nn.Cell):
    """Over the last axes, `area` elements in all."""

    def __init__(self, area: int, shape: tuple[int, ...]):
        super().__init__(auto_prefix=False)
        self.area, self.shape = area, shape

    def construct(self, x):
        return x.reshape(-1, self.area).mean(-1).reshape(self.shape)


class MeanOf(nn.Cell):
    def __init__(self, axes: tuple[int, ...], keep: bool):
        super().__init__(auto_prefix=False)
        self.mean, self.axes = ops.ReduceMean(keep_dims=keep), axes

    def construct(self, x):
        return self.mean(x, self.axes)


class Clip(nn.Cell):
    def __init__(self, low: float | None, high: float | None):
        super().__init__(auto_prefix=False)
        self.low, self.high = low, high

    def construct(self, x):
        return ops.clamp(x, self.low, self.high)


class Concat(nn.Cell):
    def __init__(self, axis: int):
        super().__init__(auto_prefix=False)
        self.axis = axis

    def construct(self, *inputs):
        return ops.cat(inputs, self.axis)


class Split(nn.Cell):
    def __init__(self, sizes: tuple[int, ...], axis: int):
        super().__init__(auto_prefix=False)
        self.sizes, self.axis = sizes, axis

    def construct(self, x):
        return ops.split(x, self.sizes, self.axis)


class Identity(nn.Cell):
    def construct(self, x):
        return x


class Silu(nn.Cell):
    def construct(self, x):
        return ops.silu(x)


class Gelu(nn.Cell):
    def construct(self, x):
        return x * (ops.erf(x * 0.7071067811865476) + 1.0) * 0.5


def _activation(name: str, plain: Callable) -> Callable[[Step, Context], nn.Cell]:
    return lambda step, context: native.Act(name) if native.available() else plain()


def _primitive(primitive: Callable) -> Callable[[Step, Context], Callable]:
    return lambda step, context: primitive()


def _multiply(step: Step, context: Context) -> Callable:
    """Of a map and a factor for each image or channel: with sums in two dimensions in the gradient."""
    map_, factor = (context.shapes[i] for i in step.inputs)
    if len(map_) == len(factor) == 4 and factor[2:] == (1, 1) and map_[2:] != (1, 1):
        return Scale()
    return ops.Mul()


def _gather(step: Step, context: Context) -> nn.Cell:
    shape = context.shapes[step.inputs[0]]
    axis = step.settings.get("axis", 0) % len(shape)
    if step.inputs[1] not in context.values:
        raise ModelError(f"the Gather {step.node.name!r} has an index that is computed", "only constant ones can be trained")
    index = context.values[step.inputs[1]]
    index = np.where(index < 0, index + shape[axis], index)
    if native.available() and axis in (0, 1) and index.ndim:
        return compiled.Gather(index, axis)
    once = index.size == shape[axis] and len(np.unique(index)) == index.size
    return (Permute if once else Gather)(index, axis)


def _pool(step: Step, context: Context) -> Callable:
    a, shape = step.settings, context.shapes[step.inputs[0]]
    kernel, strides, pads = tuple(a["kernel_shape"]), tuple(a.get("strides", (1, 1))), tuple(a.get("pads", (0, 0, 0, 0)))
    if a.get("ceil_mode", 0) or tuple(a.get("dilations", (1, 1))) != (1, 1):
        raise ModelError(f"the pooling {step.node.name!r} rounds up or is dilated", "such a model cannot be trained here")
    if step.op == "MaxPool":
        return MaxPool(kernel, strides, pads)
    if pads == (0, 0, 0, 0):
        return ops.AvgPool(kernel, strides, "valid")
    if (kernel, strides, pads) == ((3, 3), (1, 1), (1, 1, 1, 1)) and not a.get("count_include_pad", 0) and shape[2] == shape[3]:
        return NativeMeans(shape[1], shape[2]) if native.available() else BandMeans(shape[2])
    raise ModelError(f"the pooling {step.node.name!r} has a padding of {list(pads)}", "such a model cannot be trained here")


class MaxPool(nn.Cell):
    def __init__(self, kernel: tuple[int, ...], strides: tuple[int, ...], pads: tuple[int, ...]):
        super().__init__(auto_prefix=False)
        top, left, bottom, right = pads
        self.around, self.padded = (left, right, top, bottom), any(pads)
        self.pool = ops.MaxPool(kernel, strides, "valid")

    def construct(self, x):
        if self.padded:
            x = ops.pad(x, self.around, value=-3.0e38)
        return self.pool(x)


def _mean(step: Step, context: Context) -> nn.Cell:
    shape, out = context.shapes[step.inputs[0]], context.shapes[step.output]
    axes = sorted(a % len(shape) for a in step.settings.get("axes", range(len(shape))))
    if axes == list(range(axes[0], len(shape))):
        return Mean(int(np.prod(shape[axes[0] :])), out)
    return MeanOf(tuple(axes), bool(step.settings.get("keepdims", 1)))


def _global_mean(step: Step, context: Context) -> nn.Cell:
    shape = context.shapes[step.inputs[0]]
    return Mean(int(np.prod(shape[2:])), context.shapes[step.output])


def _clip(step: Step, context: Context) -> nn.Cell:
    bounds = [float(context.values[i].reshape(())) if i else None for i in step.node.input[1:]]
    return Clip(*(bounds + [None, None])[:2])


def _hard_sigmoid(step: Step, context: Context) -> Callable:
    slope, middle = step.settings.get("alpha", 0.2), step.settings.get("beta", 0.5)
    if abs(slope - 1 / 6) > 1e-6 or middle != 0.5:
        raise ModelError(f"the HardSigmoid {step.node.name!r} has slope {slope}", "1/6 is known here")
    return ops.HSigmoid()


def _softmax(step: Step, context: Context) -> nn.Cell:
    rank, axis = len(context.shapes[step.output]), step.settings.get("axis", -1)
    if axis % rank != rank - 1:
        return ops.Softmax(axis)
    return native.Softmax() if native.available() else RowSoftmax()


def _split(step: Step, context: Context) -> nn.Cell:
    outputs, axis = (step.output, *step.also), step.settings.get("axis", 0)
    return Split(tuple(context.shapes[o][axis] for o in outputs), axis)


def _move(step: Step, context: Context) -> nn.Cell:
    return Reshape(context.shapes[step.output])


OPERATORS: dict[str, Callable[[Step, Context], Callable]] = {
    "Conv": Conv,
    "Gemm": Gemm,
    "MatMul": MatMul,
    "LayerNorm": lambda step, context: LayerNorm(step.settings["eps"]),
    "Spread": lambda step, context: Moments(step.settings["eps"]),
    "Silu": _activation("silu", Silu),
    "Gelu": _activation("gelu", Gelu),
    "Softmax": _softmax,
    "Gather": _gather,
    "Mul": _multiply,
    "Clip": _clip,
    "HardSigmoid": _hard_sigmoid,
    "ReduceMean": _mean,
    "GlobalAveragePool": _global_mean,
    "AveragePool": _pool,
    "MaxPool": _pool,
    "Concat": lambda step, context: Concat(step.settings["axis"]),
    "Split": _split,
    "Transpose": lambda step, context: Transpose(tuple(step.settings["perm"])),
    "Identity": lambda step, context: Identity(),
    **dict.fromkeys(("Reshape", "Flatten", "Squeeze", "Unsqueeze"), _move),
    "Add": _primitive(ops.Add),
    "Sub": _primitive(ops.Sub),
    "Div": _primitive(ops.RealDiv),
    "Pow": _primitive(ops.Pow),
    "Sqrt": _primitive(ops.Sqrt),
    "Erf": _primitive(ops.Erf),
    "Relu": _primitive(ops.ReLU),
    "Sigmoid": _primitive(ops.Sigmoid),
    "Tanh": _primitive(ops.Tanh),
}
SHAPED = ("Reshape", "Split", "Squeeze", "Unsqueeze", "Gather", "Clip")  # only their first input is a tensor of the graph


def build(step: Step, context: Context) -> Callable:
    """The cell or primitive of a step. Raises ModelError for operators that are not known here."""
    if step.op not in OPERATORS:
        raise ModelError(
            f"the node {step.node.name!r} is a {step.op}, which the quantised graph cannot train",
            "leave out QAT for this model: PTQ and weight-only quantisation take any operator",
        )
    return OPERATORS[step.op](step, context)
