"""The forms of the exported graphs are fused and computed right by the MindSpore Lite 2.0.0 converter and runtime."""

from __future__ import annotations

import numpy as np
import pytest

from msedge.mindspore_setup import load_mindspore

ms = load_mindspore()

from mindspore import mint, nn, ops  # noqa: E402

from msedge.exporter.check import run_cell  # noqa: E402

pytestmark = pytest.mark.lite
IMAGE = (1, 6, 8, 8)


def features(x):
    """Rows of tokens made from the image, as every transformer here has them."""
    return ops.relu(x).reshape(1, 6, 64).transpose(0, 2, 1)


class LayerNorms(nn.Cell):
    def __init__(self):
        super().__init__()
        self.norm = nn.LayerNorm((6,), epsilon=1e-6)

    def construct(self, x):
        return self.norm(features(x))


class Plain(nn.Cell):
    """No scale and no shift: the export adds ones and zeros, without which Lite does not fuse."""

    def construct(self, x):
        return ops.LayerNorm(-1, -1, 1e-5)(features(x), ops.ones(6), ops.zeros(6))[0]


class TwoAxes(nn.Cell):
    """Lite fuses a LayerNorm over several axes to NaN: the export makes it one axis."""

    def __init__(self):
        super().__init__()
        self.norm = nn.LayerNorm((8, 8), begin_norm_axis=2, begin_params_axis=2)

    def construct(self, x):
        return self.norm(x)


class GeluErf(nn.Cell):
    def construct(self, x):
        return ops.gelu(features(x), approximate="none")


class GeluTanh(nn.Cell):
    def construct(self, x):
        return ops.gelu(features(x), approximate="tanh")


class GeluByHand(nn.Cell):
    def construct(self, x):
        y = features(x)
        return y * (ops.erf(y * 0.7071067811865476) + 1.0) * 0.5


class SiluBothOrders(nn.Cell):
    def construct(self, x):
        y = ops.silu(features(x))
        return ops.relu(ops.sigmoid(y) * y)


class HardSwish(nn.Cell):
    def construct(self, x):
        return ops.hardswish(features(x) * 2)


class GroupNorm(nn.Cell):
    """PyTorch's form, InstanceNormalization of rank 3, does not load."""

    def __init__(self):
        super().__init__()
        self.norm = nn.GroupNorm(2, 6)

    def construct(self, x):
        return self.norm(x)


class PaddedAverage(nn.Cell):
    """Lite divides by the wrong count where ONNX says that padding counts."""

    def __init__(self):
        super().__init__()
        self.pool = nn.AvgPool2d(3, 2, pad_mode="pad", padding=1)

    def construct(self, x):
        return self.pool(x)


class MaxPools(nn.Cell):
    def construct(self, x):
        return ops.MaxPool(3, 2, "same")(x) + ops.MaxPool(2, 2)(x)


class Pooled(nn.Cell):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(6, 8, 3)
        self.bn = nn.BatchNorm2d(8)
        self.head = nn.Dense(8, 5)

    def construct(self, x):
        return self.head(ops.relu6(self.bn(self.conv(x))).mean((2, 3)))


class PreActivation(nn.Cell):
    def __init__(self):
        super().__init__()
        self.bn = nn.BatchNorm2d(6)
        self.conv = nn.Conv2d(6, 8, 3)

    def construct(self, x):
        return self.conv(ops.relu(self.bn(x)))


class Attention(nn.Cell):
    def __init__(self):
        super().__init__()
        self.qkv = nn.Dense(6, 24)
        self.proj = nn.Dense(8, 6)

    def construct(self, x):
        y = self.qkv(features(x)).reshape(1, 64, 3, 2, 4).transpose(2, 0, 3, 1, 4)
        q, k, v = y[0], y[1], y[2]
        weights = ops.softmax(ops.BatchMatMul(transpose_b=True)(q, k) * 0.5, -1)
        return self.proj(ops.matmul(weights, v).transpose(0, 2, 1, 3).reshape(1, 64, 8))


class SqueezeExcite(nn.Cell):
    def __init__(self):
        super().__init__()
        self.down = nn.Conv2d(6, 4, 1, has_bias=True)
        self.up = nn.Conv2d(4, 6, 1, has_bias=True)
        self.out = nn.Conv2d(6, 4, 1)

    def construct(self, x):
        share = ops.mean(x, (2, 3), keep_dims=True)
        return self.out(x * ops.hardsigmoid(self.up(ops.relu(self.down(share)))))


class ShiftedWindows(nn.Cell):
    def construct(self, x):
        y = ops.relu(x).transpose(0, 2, 3, 1)
        y = ops.concat((y[:, 3:], y[:, :3]), 1)
        y = y.reshape(1, 2, 4, 2, 4, 6).transpose(0, 1, 3, 2, 4, 5).reshape(4, 16, 6)
        return ops.softmax(mint.matmul(y, y.swapaxes(1, 2)), -1).reshape(1, 64, 16)


class Resized(nn.Cell):
    def construct(self, x):
        return ops.interpolate(ops.relu(x), size=(16, 16), mode="bilinear")


# What each cell becomes in the .ms, next to Reshape and Transpose.
FUSED = {
    LayerNorms: {"Activation": 1, "LayerNormFusion": 1},
    Plain: {"Activation": 1, "LayerNormFusion": 1},
    TwoAxes: {"LayerNormFusion": 1},
    GeluErf: {"Activation": 2},
    GeluTanh: {"Activation": 2},
    GeluByHand: {"Activation": 2},
    SiluBothOrders: {"Activation": 4},
    HardSwish: {"Activation": 2, "MulFusion": 1},
    GroupNorm: {"InstanceNorm": 1, "ScaleFusion": 1},
    PaddedAverage: {"PadFusion": 1, "AvgPoolFusion": 1},
    MaxPools: {"MaxPoolFusion": 2, "AddFusion": 1},
    Pooled: {"Conv2DFusion": 1, "AvgPoolFusion": 1, "MatMulFusion": 1},
    PreActivation: {"ScaleFusion": 1, "Conv2DFusion": 1},
    Attention: {"Activation": 1, "MatMulFusion": 4, "Split": 1, "MulFusion": 1, "Softmax": 1},
    SqueezeExcite: {"AvgPoolFusion": 1, "Conv2DFusion": 3, "Activation": 1, "MulFusion": 1},
    ShiftedWindows: {"Activation": 1, "Split": 1, "Concat": 1, "MatMulFusion": 1, "Softmax": 1},
    Resized: {"Activation": 1, "Resize": 1},
}


@pytest.mark.parametrize("kind", FUSED, ids=lambda k: k.__name__)
def test_lite_fuses_and_computes_right(kind, roundtrip, through_lite):
    cell = kind()
    model = roundtrip(cell, IMAGE, tolerance=1e-4)
    x = np.random.default_rng(2).uniform(-2, 2, IMAGE).astype(np.float32)
    expected = run_cell(cell, x)
    got, nodes = through_lite(model, x)
    np.testing.assert_allclose(got.reshape(expected.shape), expected, rtol=1e-4, atol=1e-4)
    assert {k: n for k, n in nodes.items() if k not in ("Reshape", "Transpose")} == FUSED[kind]
