"""Activations, in the forms that Lite fuses into one node."""

from __future__ import annotations

import math

from msedge.exporter.emitter import Op
from msedge.exporter.registry import rule


@rule("ReLU")
def relu(op: Op) -> str:
    return op.op("Relu", op.tensor(0))


@rule("ReLU6")
def relu6(op: Op) -> str:
    return op.op("Clip", op.tensor(0), op.scalar(0.0, "zero"), op.scalar(6.0, "six"))


@rule("Hardtanh")
def hard_tanh(op: Op) -> str:
    """`hardtanh(x, low, high)`; ReLU6 is 0 to 6."""
    low, high = (float(op.static(i)) for i in (1, 2))
    return op.op("Clip", op.tensor(0), op.scalar(low, "low"), op.scalar(high, "high"))


@rule("SiLU")
def silu(op: Op) -> str:
    """x * sigmoid(x), in this order: Lite does not fuse the other."""
    x = op.tensor(0)
    return op.op("Mul", x, op.op("Sigmoid", x))


def erf_gelu(op: Op, x: str) -> str:
    erf = op.op("Erf", op.op("Div", x, op.scalar(math.sqrt(2), "root")))
    return op.op("Mul", op.op("Mul", x, op.op("Add", erf, op.scalar(1.0, "one"))), op.scalar(0.5, "half"))


def tanh_gelu(op: Op, x: str) -> str:
    """Constants stand left where Lite's fusion looks for them there."""
    cubic = op.op("Mul", op.scalar(0.044715, "cubic"), op.op("Pow", x, op.scalar(3.0, "three")))
    inner = op.op("Mul", op.scalar(math.sqrt(2 / math.pi), "scale"), op.op("Add", x, cubic))
    share = op.op("Add", op.scalar(1.0, "one"), op.op("Tanh", inner))
    return op.op("Mul", x, op.op("Mul", op.scalar(0.5, "half"), share))


@rule("GeLU")
def gelu(op: Op) -> str:
    """MindSpore's GeLU is the tanh form."""
    return tanh_gelu(op, op.tensor(0))


@rule("GeluExt")
def gelu_ext(op: Op) -> str:
    """`mint.nn.functional.gelu(x, approximate)`: none or tanh."""
    return tanh_gelu(op, op.tensor(0)) if op.static(1, default=0) in (1, "tanh") else erf_gelu(op, op.tensor(0))


@rule("FastGeLU")
def quick_gelu(op: Op) -> str:
    """x * sigmoid(1.702 x)."""
    x = op.tensor(0)
    return op.op("Mul", x, op.op("Sigmoid", op.op("Mul", x, op.scalar(1.702, "scale"))))


@rule("HSigmoid")
def hard_sigmoid(op: Op) -> str:
    return op.op("HardSigmoid", op.tensor(0), alpha=1 / 6, beta=0.5)


@rule("HSwish")
def hard_swish(op: Op) -> str:
    """x * clip(x + 3, 0, 6) / 6: opset 13 has no HardSwish, and Lite fuses this order of nodes."""
    x = op.tensor(0)
    clipped = op.op("Clip", op.op("Add", x, op.scalar(3.0, "three")), op.scalar(0.0, "zero"), op.scalar(6.0, "six"))
    return op.op("Div", op.op("Mul", x, clipped), op.scalar(6.0, "six"))


@rule("LeakyReLUExt")
def leaky_relu(op: Op) -> str:
    return op.op("LeakyRelu", op.tensor(0), alpha=float(op.static(1, "negative_slope")))


@rule("Elu", "EluExt")
def elu(op: Op) -> str:
    return op.op("Elu", op.tensor(0), alpha=float(op.static(1, "alpha", 1.0)))


@rule("PReLU")
def prelu(op: Op) -> str:
    slope = op.tensor(1)
    if op.shape(1) != (1,) and len(op.shape(0)) > 2:
        slope = op.reshape(slope, (*op.shape(1), *[1] * (len(op.shape(0)) - 2)))
    return op.op("PRelu", op.tensor(0), slope)


@rule("Softplus")
def softplus(op: Op) -> str:
    return op.op("Softplus", op.tensor(0))


@rule("Mish", "MishExt")
def mish(op: Op) -> str:
    x = op.tensor(0)
    return op.op("Mul", x, op.op("Tanh", op.op("Softplus", x)))


def _one_axis(op: Op) -> int:
    axes = op.ints(1, "axis")
    if len(axes) != 1:
        raise op.fail(f"it runs over {len(axes)} axes", "reshape to one axis first")
    return axes[0]


@rule("Softmax")
def softmax(op: Op) -> str:
    return op.op("Softmax", op.tensor(0), axis=_one_axis(op))


@rule("LogSoftmax", "LogSoftmaxExt")
def log_softmax(op: Op) -> str:
    return op.op("LogSoftmax", op.tensor(0), axis=_one_axis(op))
