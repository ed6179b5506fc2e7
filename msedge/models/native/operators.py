"""Cells around the compiled operators, each with its gradient. Make them only where `available()`.

All tensors are float32. Gradients of running statistics and of other side results are taken as zero.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence

import numpy as np

from msedge.mindspore_setup import load_mindspore
from msedge.models.native.library import library

ms = load_mindspore()

from mindspore import Tensor, nn, ops  # noqa: E402
from mindspore.ops.signature import make_sig, sig_rw  # noqa: E402


def available() -> bool:
    """Whether training on this machine uses the compiled operators: a CPU, and a library that could be built."""
    return ms.get_context("device_target") == "CPU" and library() is not None


@functools.cache
def operator(name: str, shape: Callable, outputs: int) -> ops.Custom:
    """The function `name` of the library; `shape` maps the inputs' shapes to the one or more outputs' shapes."""

    def types(first, *rest):
        return first if outputs == 1 else (first,) * outputs

    return ops.Custom(f"{library()}:{name}", out_shape=shape, out_dtype=types, func_type="aot")


def _first(x, *rest):
    return x


def _first_of_two(x, y):
    return x


def _one(*inputs):
    return [1]


def _like_two(x, y, *rest):
    return x, y


def _weight_gradients(x, weight, *rest):
    return x, weight, weight


def _batch_norm(x, weight, *rest):
    return (x,) + (weight,) * 4


def _row_norm(x, weight, *rest):
    return x, [x[0]], [x[0]]


def _product(x, weight, *rest):
    return [x[0], weight[0]]


def _linear_gradients(x, weight, dy, bias):
    return x, weight, bias


def _strided(x, weight, stride: int):
    return [x[0], x[1], (x[2] - 1) // stride + 1, (x[3] - 1) // stride + 1]


def _stride1(x, weight):
    return _strided(x, weight, 1)


def _stride2(x, weight):
    return _strided(x, weight, 2)


class AdamW(nn.Cell):
    """AdamW with clipping by the global norm, on `decays`' many parameters at once and in place.

    `decays`: for each parameter the share of the weight decay that it gets.
    """

    def __init__(self, decays: Sequence[float]):
        super().__init__()
        self.decays = Tensor(np.array(decays, np.float32))
        self.forward = ops.Custom(f"{library()}:adamw", out_shape=_one, out_dtype=_first, func_type="aot")
        self.forward.add_prim_attr("side_effect_mem", True)
        count = len(decays)
        kinds = [sig_rw.RW_READ] * 3 + [sig_rw.RW_WRITE] * (3 * count) + [sig_rw.RW_READ] * count
        self.forward.set_signatures(tuple(make_sig(f"x{i}", kind) for i, kind in enumerate(kinds)))

    def construct(self, settings, rates, parameters, first, second, gradients):
        """`settings`: [rate with the moments' correction, decay, beta1, beta2, eps, limit of the norm or 0]; `rates`: each
        parameter's share of the rate. Tuples of parameters, moments and gradients. Gives the norm of the gradients [1]."""
        return self.forward(settings, self.decays, rates, *parameters, *first, *second, *gradients)


class BatchNormAct(nn.Cell):
    """BatchNorm with the statistics of the batch, and `act` (none, silu, gelu) of its result."""

    def __init__(self, eps: float, momentum: float, act: str):
        super().__init__()
        self.constants = Tensor(np.array([eps, momentum], np.float32))
        self.forward = operator(f"batch_norm_{act}", _batch_norm, 5)
        self.gradient = operator(f"batch_norm_{act}_gradient", _weight_gradients, 3)

    def construct(self, x, weight, bias, running_mean, running_var):
        """x [N, C, H, W], the others [C], to (y, mean, 1 / deviation, new running mean, new running variance)."""
        return self.forward(x, weight, bias, running_mean, running_var, self.constants)

    def bprop(self, x, weight, bias, running_mean, running_var, out, dout):
        dx, dweight, dbias = self.gradient(x, weight, bias, out[1], out[2], dout[0])
        return dx, dweight, dbias, ops.zeros_like(running_mean), ops.zeros_like(running_var)


class Depthwise(nn.Cell):
    """Convolution of each channel with a k x k kernel of its own; k odd and at most 7, padding k // 2, stride 1 or 2."""

    def __init__(self, stride: int):
        super().__init__()
        self.forward = operator(f"depthwise_{stride}", _stride1 if stride == 1 else _stride2, 1)
        self.gradient = operator(f"depthwise_{stride}_gradient", _like_two, 2)

    def construct(self, x, weight):
        """x [N, C, H, W], weight [C, 1, k, k]."""
        return self.forward(x, weight)

    def bprop(self, x, weight, out, dout):
        return self.gradient(x, weight, dout)


class LayerNorm(nn.Cell):
    """LayerNorm of [rows, channels]."""

    def __init__(self, eps: float):
        super().__init__()
        self.eps = Tensor(np.array([eps], np.float32))
        self.forward = operator("layer_norm", _row_norm, 3)
        self.gradient = operator("layer_norm_gradient", _weight_gradients, 3)

    def construct(self, x, weight, bias):
        """Gives (y, mean [rows], 1 / deviation [rows])."""
        return self.forward(x, weight, bias, self.eps)

    def bprop(self, x, weight, bias, out, dout):
        return self.gradient(x, weight, out[1], out[2], dout[0])


class BiasAct(nn.Cell):
    """act(x + bias) of [rows, channels], `act` silu or gelu."""

    def __init__(self, act: str):
        super().__init__()
        self.forward = operator(f"bias_{act}", _first, 1)
        self.gradient = operator(f"bias_{act}_gradient", _like_two, 2)

    def construct(self, x, bias):
        return self.forward(x, bias)

    def bprop(self, x, bias, out, dout):
        return self.gradient(x, bias, dout)


class Linear(nn.Cell):
    """x weight^T of [rows, in] and [out, in]; `LinearBias` adds a bias [out]."""

    def __init__(self):
        super().__init__()
        self.forward = operator("linear", _product, 1)
        self.gradient = operator("linear_gradient", _like_two, 2)

    def construct(self, x, weight):
        return self.forward(x, weight)

    def bprop(self, x, weight, out, dout):
        return self.gradient(x, weight, dout)


class LinearBias(nn.Cell):
    def __init__(self):
        super().__init__()
        self.forward = operator("linear_bias", _product, 1)
        self.gradient = operator("linear_bias_gradient", _linear_gradients, 3)

    def construct(self, x, weight, bias):
        return self.forward(x, weight, bias)

    def bprop(self, x, weight, bias, out, dout):
        return self.gradient(x, weight, dout, bias)


class Act(nn.Cell):
    """silu or gelu (the exact one) of any shape."""

    def __init__(self, act: str):
        super().__init__()
        self.forward = operator(act, _first, 1)
        self.gradient = operator(f"{act}_gradient", _first_of_two, 1)

    def construct(self, x):
        return self.forward(x)

    def bprop(self, x, out, dout):
        return (self.gradient(x, dout),)


class Softmax(nn.Cell):
    """Softmax over the last axis."""

    def __init__(self):
        super().__init__()
        self.forward = operator("softmax", _first, 1)
        self.gradient = operator("softmax_gradient", _first_of_two, 1)

    def construct(self, x):
        return self.forward(x)

    def bprop(self, x, out, dout):
        return (self.gradient(out, dout),)
