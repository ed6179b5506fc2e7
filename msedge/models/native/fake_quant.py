"""Cells around the compiled fake quantisation and row gather, each with its gradient. Make them only where `available()`.

A quantiser [2] is (log of the scale, zero point / span), limits [3] are (lowest, highest stored number, span); see
fake_quant.c.
"""

from __future__ import annotations

import numpy as np

from msedge.mindspore_setup import load_mindspore
from msedge.models.native.operators import operator

load_mindspore()

from mindspore import Tensor, nn, ops  # noqa: E402


def _first(x, *rest):
    return x


def _second(x, y):
    return y


def _first_two(x, y, *rest):
    return x, y


def _first_three(x, y, z, *rest):
    return x, y, z


def _two_of_second(x, y, *rest):
    return y, y


def _without_limits(x, *rest):
    """x and a bias if there is one, then both quantisers: what `stored_...` has gradients by."""
    at = len(rest) - 5
    return x, *rest[:at], rest[at], rest[at + 2]


def _rows_of_0(x, index, *rest):
    return [*index, *x[1:]]


def _rows_of_1(x, index, *rest):
    return [x[0], *index, *x[2:]]


class FakeQuantize(nn.Cell):
    """x of any shape as a tensor of a few bits would store it."""

    def __init__(self):
        super().__init__(auto_prefix=False)
        self.forward = operator("fake_quantize", _first, 1)
        self.gradient = operator("fake_quantize_gradient", _first_two, 2)

    def construct(self, x, quantiser, limits):
        return self.forward(x, quantiser, limits)

    def bprop(self, x, quantiser, limits, out, dout):
        return (*self.gradient(x, quantiser, limits, dout), ops.zeros_like(limits))


class BiasFakeQuantize(nn.Cell):
    """x [N, C, H, W] + bias [C], fake-quantised."""

    def __init__(self):
        super().__init__(auto_prefix=False)
        self.forward = operator("bias_fake_quantize", _first, 1)
        self.gradient = operator("bias_fake_quantize_gradient", _first_three, 3)

    def construct(self, x, bias, quantiser, limits):
        return self.forward(x, bias, quantiser, limits)

    def bprop(self, x, bias, quantiser, limits, out, dout):
        return (*self.gradient(x, bias, quantiser, limits, dout), ops.zeros_like(limits))


class StoredAct(nn.Cell):
    """`act` (silu, gelu) of x fake-quantised, and fake-quantised again where the second limits are not zeros."""

    def __init__(self, act: str):
        super().__init__(auto_prefix=False)
        self.forward = operator(f"stored_{act}", _first, 1)
        self.gradient = operator(f"stored_{act}_gradient", _without_limits, 3)

    def construct(self, x, first, first_limits, second, second_limits):
        return self.forward(x, first, first_limits, second, second_limits)

    def bprop(self, x, first, first_limits, second, second_limits, out, dout):
        dx, dfirst, dsecond = self.gradient(x, first, first_limits, second, second_limits, dout)
        return dx, dfirst, ops.zeros_like(first_limits), dsecond, ops.zeros_like(second_limits)


class BiasStoredAct(nn.Cell):
    """The same of x [N, C, H, W] + bias [C]."""

    def __init__(self, act: str):
        super().__init__(auto_prefix=False)
        self.forward = operator(f"bias_stored_{act}", _first, 1)
        self.gradient = operator(f"bias_stored_{act}_gradient", _without_limits, 4)

    def construct(self, x, bias, first, first_limits, second, second_limits):
        return self.forward(x, bias, first, first_limits, second, second_limits)

    def bprop(self, x, bias, first, first_limits, second, second_limits, out, dout):
        dx, dbias, dfirst, dsecond = self.gradient(x, bias, first, first_limits, second, second_limits, dout)
        return dx, dbias, dfirst, ops.zeros_like(first_limits), dsecond, ops.zeros_like(second_limits)


class ChannelBias(nn.Cell):
    """x [N, C, H, W] + bias [C]."""

    def __init__(self):
        super().__init__(auto_prefix=False)
        self.add = ops.BiasAdd()
        self.sums = operator("channel_sums", _second, 1)

    def construct(self, x, bias):
        return self.add(x, bias)

    def bprop(self, x, bias, out, dout):
        return dout, self.sums(dout, bias)


class Observe(nn.Cell):
    """(x, range [2], limits, momentum [1]) to (the range moved towards that of x, the quantiser that covers it)."""

    def __init__(self):
        super().__init__(auto_prefix=False)
        self.forward = operator("observe", _two_of_second, 2)

    def construct(self, x, extent, limits, momentum):
        return self.forward(x, extent, limits, momentum)

    def bprop(self, x, extent, limits, momentum, out, dout):
        return ops.zeros_like(x), ops.zeros_like(extent), ops.zeros_like(limits), ops.zeros_like(momentum)


class FakeWeight(nn.Cell):
    """weight [rows, ...] with symmetric scales, one for each row and `group` of its elements (0: the whole row)."""

    def __init__(self, highest: int, group: int = 0):
        super().__init__(auto_prefix=False)
        self.limits = Tensor(np.array([highest, group], np.float32))
        self.forward = operator("fake_weight", _first, 1)
        self.gradient = operator("fake_weight_gradient", _first_two, 2)

    def construct(self, weight, log_scales):
        return self.forward(weight, log_scales, self.limits)

    def bprop(self, weight, log_scales, out, dout):
        return self.gradient(weight, log_scales, self.limits, dout)


class Gather(nn.Cell):
    """Rows `index` (int32, any shape) of `axis` 0 or 1."""

    def __init__(self, index: np.ndarray, axis: int):
        super().__init__(auto_prefix=False)
        self.index = Tensor(np.ascontiguousarray(index, np.int32))
        self.forward = operator(f"gather_{axis}", _rows_of_1 if axis else _rows_of_0, 1)
        self.gradient = operator(f"gather_{axis}_gradient", _first, 1)

    def construct(self, x):
        return self.forward(x, self.index)

    def bprop(self, x, out, dout):
        return (self.gradient(x, self.index, dout),)
