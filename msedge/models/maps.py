"""Operators on feature maps [N, C, H, W] of networks without attention, with gradients that are fast on a CPU.

MindSpore 2.10 sums slowly over several axes of four dimensions (25 ms where the same sum over rows of a matrix takes 1.5),
and so do its gradients of whatever is broadcast. The cells here sum in two dimensions.
"""

from __future__ import annotations

import numpy as np

from msedge.mindspore_setup import load_mindspore

load_mindspore()

from mindspore import Parameter, Tensor, nn, ops  # noqa: E402

from msedge.models.layers import Conv2d, truncated_normal  # noqa: E402
from msedge.models.native import operators as native  # noqa: E402


def _mean(x):
    """The mean of each image: [N, 1, 1, 1]."""
    return x.reshape(x.shape[0], -1).mean(-1).reshape(-1, 1, 1, 1)


class Spread(nn.Cell):
    """What normalising one group of all channels and pixels (GroupNorm with one group) needs: the image less its mean,
    [N, C, H, W], and the standard deviation, sqrt(variance + eps), [N, 1, 1, 1]."""

    def __init__(self, eps: float = 1e-5):
        super().__init__()
        self.eps = eps

    def construct(self, x):
        centred = x - _mean(x)
        return centred, ops.sqrt(_mean(centred * centred) + self.eps)

    def bprop(self, x, out, dout):
        centred, deviation = out
        by_deviation = dout[1] / (deviation * (x.shape[1] * x.shape[2] * x.shape[3]))
        return (dout[0] - _mean(dout[0]) + centred * by_deviation,)


class Scale(nn.Cell):
    """x [N, C, H, W] times a factor for each image, for each channel, or for both: [N, 1, 1, 1], [1, C, 1, 1] or
    [N, C, 1, 1]."""

    def construct(self, x, factor):
        return x * factor

    def bprop(self, x, factor, out, dout):
        by_factor = (dout * x).reshape(x.shape[0] * x.shape[1], -1).sum(-1).reshape(x.shape[0], x.shape[1])
        if factor.shape[1] == 1:
            by_factor = by_factor.sum(1)
        if factor.shape[0] == 1:
            by_factor = by_factor.reshape(x.shape[0], -1).sum(0)
        return dout * factor, by_factor.reshape(factor.shape)


class ScaleColumns(nn.Cell):
    """weight [rows, columns] times a factor [columns]."""

    def __init__(self, rows: int):
        super().__init__()
        self.ones = Tensor(np.ones((1, rows), np.float32))
        self.matmul = ops.MatMul()

    def construct(self, weight, factor):
        return weight * factor

    def bprop(self, weight, factor, out, dout):
        return dout * factor, self.matmul(self.ones, dout * weight).reshape(factor.shape)


class BandMeans(nn.Cell):
    """The mean of a place's 3 x 3 neighbours inside the map as two products with band matrices, along rows and columns."""

    def __init__(self, side: int):
        super().__init__()
        self.side = side
        band = np.eye(side) + np.eye(side, k=1) + np.eye(side, k=-1)
        self.band = Tensor((band / band.sum(0)).astype(np.float32))  # by columns: x @ band is the mean along a row
        self.matmul = ops.MatMul()

    def along(self, x):
        """Means along the last axis, and the last two axes exchanged: [maps * side, side] to the same."""
        x = self.matmul(x, self.band)
        return x.reshape(-1, self.side, self.side).transpose(0, 2, 1).reshape(-1, self.side)

    def construct(self, x):
        return self.along(self.along(x.reshape(-1, self.side))).reshape(x.shape)


class NativeMeans(nn.Cell):
    """The same as a compiled depthwise convolution that sums, and the division by how many places there are."""

    def __init__(self, channels: int, side: int):
        super().__init__()
        self.sum = native.Depthwise(1)
        self.kernel = Tensor(np.ones((channels, 1, 3, 3), np.float32))
        inside = np.full(side, 3.0) - (np.arange(side) == 0) - (np.arange(side) == side - 1)
        self.share = Tensor((1 / np.outer(inside, inside)).astype(np.float32))

    def construct(self, x):
        return self.sum(x, self.kernel) * self.share

    def bprop(self, x, out, dout):
        return (self.sum(dout * self.share, self.kernel),)


class Pooling(nn.Cell):
    """The mean of a place's 3 x 3 neighbours inside the map, less the place itself."""

    def __init__(self, channels: int, side: int):
        super().__init__()
        self.pool = ops.AvgPool(3, 1, "same")
        self.learning = NativeMeans(channels, side) if native.available() else BandMeans(side)

    def construct(self, x):
        return (self.learning(x) if self.training else self.pool(x)) - x


class LayerScale(nn.Cell):
    """The learned factor of each channel of a branch, starting small; `name` is the parameter's."""

    def __init__(self, channels: int, name: str, first: float = 1e-5):
        super().__init__()
        self.insert_param_to_cell(name, Parameter(Tensor(np.full(channels, first, np.float32)), name=name))


class AddBias(nn.Cell):
    """x [rows, columns] plus bias [columns]."""

    def __init__(self):
        super().__init__()
        self.add = ops.BiasAdd()
        self.matmul = ops.MatMul()

    def construct(self, x, bias):
        return self.add(x, bias)

    def bprop(self, x, bias, out, dout):
        return dout, self.matmul(ops.ones((1, x.shape[0])), dout).reshape(-1)


class Pointwise(Conv2d):
    """A 1x1 convolution with a bias that takes a factor and a shift for each channel before it, or a factor after it,
    into its weights: a pass over the weights instead of one over the map.

    While training it maps rows, [N * H * W, in] to [N * H * W, out]: as one matrix product it takes half the time.
    """

    def __init__(self, inputs: int, outputs: int):
        super().__init__(inputs, outputs, bias=True)
        self.scale_columns = ScaleColumns(outputs)
        self.matmul = ops.MatMul()
        self.rows = ops.MatMul(transpose_b=True)
        self.bias_rows = AddBias()

    def reset(self, rng: np.random.Generator) -> None:
        self.weight.set_data(Tensor(truncated_normal(rng, self.weight.shape, 0.02)))

    def of_affine(self, x, factor, shift):
        """The convolution of x * factor + shift, both [in]."""
        weight = self.weight.reshape(self.shape[0], self.shape[1])
        bias = self.bias + self.matmul(weight, shift.reshape(-1, 1)).reshape(-1)
        return self.product(x, self.scale_columns(weight, factor), bias)

    def scaled(self, x, factor):
        """factor [out] times the convolution of x."""
        weight = self.weight.reshape(self.shape[0], self.shape[1]) * factor.reshape(-1, 1)
        return self.product(x, weight, self.bias * factor)

    def product(self, x, weight, bias):
        if self.training:
            return self.bias_rows(self.rows(x, weight), bias)
        return self.add_bias(self.conv(x, weight.reshape(self.shape)), bias)
