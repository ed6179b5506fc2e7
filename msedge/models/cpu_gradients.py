"""Backward passes that run faster than MindSpore 2.10's own on a CPU; the forward operators stay MindSpore's.

Each cell is used where the device is a CPU (`on_cpu`); elsewhere the fused gradient kernels are left to do their work.
"""

from __future__ import annotations

import numpy as np

from msedge.mindspore_setup import load_mindspore

ms = load_mindspore()

from mindspore import Tensor, nn, ops  # noqa: E402

from msedge.models.native import operators as native  # noqa: E402


def on_cpu() -> bool:
    return ms.get_context("device_target") == "CPU"


class RowNorm(nn.Cell):
    """LayerNorm of [rows, channels]. Its own gradient is slower than the same in elementwise operators."""

    def __init__(self, eps: float):
        super().__init__()
        self.eps = eps
        self.norm = ops.LayerNorm(begin_norm_axis=-1, begin_params_axis=-1, epsilon=eps)

    def construct(self, x, weight, bias):
        return self.norm(x, weight, bias)[0]

    def bprop(self, x, weight, bias, out, dout):
        x = x - x.mean(-1, keep_dims=True)
        scale = ops.rsqrt((x * x).mean(-1, keep_dims=True) + self.eps)
        x = x * scale
        d = dout * weight
        dx = (d - d.mean(-1, keep_dims=True) - x * (d * x).mean(-1, keep_dims=True)) * scale
        return dx, (dout * x).sum(0), dout.sum(0)


class RowSoftmax(nn.Cell):
    """Softmax over the last of four axes. The own gradient sums in four dimensions, which is slow; in two it is not."""

    def __init__(self):
        super().__init__()
        self.native = native.available()
        self.learning = native.Softmax() if self.native else None

    def construct(self, x):
        return self.learning(x) if self.training and self.native else ops.softmax(x, -1)

    def bprop(self, x, out, dout):
        if self.native:
            return (self.learning.gradient(out, dout),)
        share = out * dout
        total = share.reshape(-1, x.shape[-1]).sum(-1).reshape(*x.shape[:-1], 1)
        return (share - out * total,)


class SameDepthwise(nn.Cell):
    """Depthwise k x k convolution of stride 1: the gradient of its input is the convolution with the kernel turned round,
    which takes about half the time of the gradient operator."""

    def __init__(self, conv, kernel: int):
        super().__init__()
        self.conv = conv
        self.turned = Tensor(np.arange(kernel * kernel)[::-1].astype(np.int32))
        self.gradients = ops.GradOperation(sens_param=True)

    def construct(self, x, weight):
        return self.conv(x, weight)

    def by_weight(self, weight, x):  # weight first: the gradient by the first input alone is computed
        return self.conv(x, weight)

    def bprop(self, x, weight, out, dout):
        turned = ops.gather(weight.reshape(weight.shape[0], -1), self.turned, 1).reshape(weight.shape)
        return self.conv(dout, turned), self.gradients(self.by_weight)(weight, x, dout)
