"""The compiled operators and their gradients against MindSpore's."""

from __future__ import annotations

import numpy as np
import pytest
from gradient_cells import Reference, WithGradients

from msedge.mindspore_setup import load_mindspore
from msedge.models.layers import BatchNorm2d
from msedge.models.native import operators as native

load_mindspore()

from mindspore import Parameter, ParameterTuple, Tensor, nn, ops  # noqa: E402

pytestmark = pytest.mark.skipif(not native.available(), reason="no C compiler")


class First(nn.Cell):
    """The first of a cell's results."""

    def __init__(self, cell):
        super().__init__()
        self.cell = cell

    def construct(self, *inputs):
        return self.cell(*inputs)[0]


def tensors(*shapes) -> list:
    rng = np.random.default_rng(0)
    return [Tensor((0.5 + 1.5 * rng.standard_normal(s)).astype(np.float32)) for s in shapes]


def gelu(x):
    return x * (ops.erf(x * 0.7071067811865476) + 1.0) * 0.5


def product(x, weight):
    return ops.MatMul(transpose_b=True)(x, weight)


def norm(x, weight, bias):
    return ops.LayerNorm(-1, -1, 1e-5)(x, weight, bias)[0]


def batch_norm(x, weight, bias):
    mean = x.mean((0, 2, 3), keep_dims=True)
    var = ops.square(x - mean).mean((0, 2, 3), keep_dims=True)
    return (x - mean) * ops.rsqrt(var + 1e-5) * weight.reshape(1, -1, 1, 1) + bias.reshape(1, -1, 1, 1)


class Normalise(nn.Cell):
    def __init__(self, act):
        super().__init__()
        self.cell = native.BatchNormAct(1e-5, 0.1, act)

    def construct(self, x, weight, bias):
        return self.cell(x, weight, bias, bias, weight)[0]


def convolve(channels: int, kernel: int, stride: int):
    conv = ops.Conv2D(channels, kernel, pad_mode="pad", pad=kernel // 2, stride=stride, group=channels)
    return lambda x, w: conv(x, w)


def shapes_of(channels, kernel, stride, height, width):
    out = (3, channels, (height - 1) // stride + 1, (width - 1) // stride + 1)
    return [(3, channels, height, width), (channels, 1, kernel, kernel), out]


MAP, C = (3, 5, 6, 9), (5,)
CASES = {
    "layer norm": (First(native.LayerNorm(1e-5)), norm, [(50, 13), (13,), (13,), (50, 13)]),
    "layer norm of few rows": (First(native.LayerNorm(1e-5)), norm, [(3, 130), (130,), (130,), (3, 130)]),
    "linear": (native.Linear(), product, [(50, 13), (17, 13), (50, 17)]),
    "linear of many rows": (native.Linear(), product, [(600, 70), (33, 70), (600, 33)]),
    "linear of one row": (native.Linear(), product, [(1, 300), (64, 300), (1, 64)]),
    "linear with bias": (native.LinearBias(), lambda x, w, b: product(x, w) + b, [(50, 13), (96, 13), (96,), (50, 96)]),
    "bias silu": (native.BiasAct("silu"), lambda x, b: ops.silu(x + b), [(50, 13), (13,), (50, 13)]),
    "bias gelu": (native.BiasAct("gelu"), lambda x, b: gelu(x + b), [(50, 13), (13,), (50, 13)]),
    "silu": (native.Act("silu"), ops.silu, [MAP, MAP]),
    "gelu": (native.Act("gelu"), gelu, [MAP, MAP]),
    "softmax": (native.Softmax(), lambda x: ops.softmax(x, -1), [(2, 3, 5, 17), (2, 3, 5, 17)]),
    "batch norm": (Normalise("none"), batch_norm, [MAP, C, C, MAP]),
    "batch norm silu": (Normalise("silu"), lambda x, w, b: ops.silu(batch_norm(x, w, b)), [MAP, C, C, MAP]),
    "batch norm gelu": (Normalise("gelu"), lambda x, w, b: gelu(batch_norm(x, w, b)), [MAP, C, C, MAP]),
} | {
    f"depthwise {k} stride {s} on {h} x {w}": (native.Depthwise(s), convolve(6, k, s), shapes_of(6, k, s, h, w))
    for k, s, h, w in [
        (3, 1, 7, 7),
        (3, 2, 8, 8),
        (3, 2, 7, 9),
        (3, 1, 1, 2),
        (5, 1, 6, 9),
        (5, 2, 6, 9),
        (7, 1, 5, 4),
        (7, 2, 9, 9),
    ]
}


@pytest.mark.parametrize("case", CASES)
def test_results_and_gradients_are_mindspores(pynative, case):
    cell, reference, shapes = CASES[case]
    inputs = tensors(*shapes)
    result, gradients = WithGradients(cell)(*inputs)
    expected, expected_gradients = WithGradients(Reference(reference))(*inputs)
    assert len(gradients) == len(expected_gradients) == len(shapes) - 1
    for ours, theirs in zip((result, *gradients), (expected, *expected_gradients), strict=True):
        scale = abs(theirs.asnumpy()).max()
        assert scale > 0
        assert ours.asnumpy() == pytest.approx(theirs.asnumpy(), abs=1e-5 * scale)


@pytest.mark.parametrize("value", [-200.0, -88.0, -20.0, 0.0, 20.0, 88.0, 200.0, 1e30, -1e30])
@pytest.mark.parametrize("act", ["silu", "gelu"])
def test_activations_of_extreme_values(pynative, act, value):
    x, one = Tensor(np.full(40, value, np.float32)), Tensor(np.ones(40, np.float32))
    result, (gradient,) = WithGradients(native.Act(act))(x, one)
    slope = {0.0: 0.5}.get(value, float(value > 0))
    assert result.asnumpy() == pytest.approx(np.float32(max(value, 0.0)), abs=1e-6, rel=1e-6)
    assert gradient.asnumpy() == pytest.approx(slope, abs=1e-6)


def test_values_that_are_not_finite_stay_so(pynative):
    for value in (np.nan, np.inf):
        x = np.ones((2, 3, 4, 4), np.float32)
        x[1, 2, 3, 3] = value
        y = Normalise("silu")(*(Tensor(v) for v in (x, np.ones(3, np.float32), np.zeros(3, np.float32)))).asnumpy()
        assert np.isnan(y[:, 2]).all()
        assert np.isfinite(y[:, :2]).all()
    assert np.isnan(native.Act("gelu")(Tensor(np.full(40, np.nan, np.float32))).asnumpy()).all()
    assert np.isnan(native.Softmax()(Tensor(np.full((2, 40), np.nan, np.float32))).asnumpy()).all()


def test_running_statistics_are_mindspores(monkeypatch):
    x = np.random.default_rng(0).standard_normal((3, 4, 5, 5)).astype(np.float32) * 2 + 1
    ours = BatchNorm2d(4).set_train()
    monkeypatch.setattr(native, "available", lambda: False)
    theirs = BatchNorm2d(4).set_train()
    for _ in range(3):
        a, b = ours(Tensor(x)).asnumpy(), theirs(Tensor(x)).asnumpy()
        assert a == pytest.approx(b, abs=1e-5)
    for name in ("running_mean", "running_var"):
        assert getattr(ours, name).asnumpy() == pytest.approx(getattr(theirs, name).asnumpy(), rel=1e-5)
    assert abs(ours.running_mean.asnumpy()).max() > 0.1


class Update(nn.Cell):
    def __init__(self, parameters, decays):
        super().__init__()
        self.parameters = ParameterTuple(parameters)
        self.first = self.parameters.clone("m", "zeros")
        self.second = self.parameters.clone("v", "zeros")
        self.adam = native.AdamW(decays)

    def construct(self, settings, rates, *gradients):
        before = self.parameters[0].sum()
        norm = self.adam(settings, rates, self.parameters, self.first, self.second, gradients)
        return norm, before, self.parameters[0].sum()


@pytest.mark.parametrize("limit", [0.0, 1.0, 1e9])
def test_adamw_in_place(limit):
    """Against the formula in float64; what the graph reads before and after the update is in that order."""
    shapes, decays, rates, (beta1, beta2, eps, decay) = (
        ((3, 4), (50_000,), (7,)),
        (1.0, 0.0, 0.5),
        (1.0, 2.0, 0.0),
        (0.9, 0.99, 1e-8, 0.1),
    )
    values = tensors(*shapes)
    expected, m, v = [t.asnumpy().astype(np.float64) for t in values], [0, 0, 0], [0, 0, 0]
    update = Update([Parameter(t, name=f"p{i}") for i, t in enumerate(values)], decays)
    for step in range(1, 4):
        gradients = [t.asnumpy() * step for t in tensors(*shapes)]
        norm = np.sqrt(sum((g.astype(np.float64) ** 2).sum() for g in gradients))
        correction, before = np.sqrt(1 - beta2**step) / (1 - beta1**step), expected[0].sum()
        for i, g in enumerate(gradients):
            g = g * (min(1, limit / norm) if limit else 1)
            m[i], v[i] = beta1 * m[i] + (1 - beta1) * g, beta2 * v[i] + (1 - beta2) * g**2
            change = correction * m[i] / (np.sqrt(v[i]) + eps) + decay * decays[i] * expected[i]
            expected[i] = expected[i] - 0.01 * rates[i] * change
        settings = np.array([0.01 * correction, decay / correction, beta1, beta2, eps, limit], np.float32)
        read = [
            float(t.asnumpy().reshape(-1)[0]) for t in update(*(Tensor(v) for v in (settings, np.float32(rates), *gradients)))
        ]
        assert read == pytest.approx([norm, before, expected[0].sum()], rel=1e-5)
    for parameter, value in zip(update.parameters, expected, strict=True):
        assert parameter.asnumpy() == pytest.approx(value, abs=1e-5)
