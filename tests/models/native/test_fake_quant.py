"""The compiled fake quantisation and row gather against MindSpore's operators, and those against the formulas."""

from __future__ import annotations

import numpy as np
import pytest
from gradient_cells import WithGradients

from msedge.mindspore_setup import load_mindspore
from msedge.models.native import fake_quant as compiled
from msedge.models.native import operators as native
from msedge.quantization.cell import fake as plain
from msedge.quantization.plan import TensorPlan, fake_quantize

load_mindspore()

from mindspore import Tensor, nn, ops  # noqa: E402

needs_compiler = pytest.mark.skipif(not native.available(), reason="no C compiler")
RNG = np.random.default_rng(1)
X, MAPS, BIAS = RNG.normal(0.3, 1.0, (7, 33)), RNG.normal(0.3, 1.0, (3, 5, 4, 6)), RNG.normal(size=5)
AFFINE = ([np.log(0.02), 37 / 256], [-128, 127, 256])  # (quantiser, limits): covers -3.3 to 1.8
FIXED = ([np.log(0.011), 0.0], [-127, 127, 0])
FEW = ([np.log(0.3), 0.25], [-4, 3, 8])


class BiasAdd(nn.Cell):
    def construct(self, x, bias):
        return x + bias.reshape(1, -1, 1, 1)


class TakeRows(nn.Cell):
    def __init__(self, index, axis):
        super().__init__()
        self.index, self.axis = Tensor(index.astype(np.int32)), axis

    def construct(self, x):
        return ops.gather(x, self.index, self.axis)


class Chain(nn.Cell):
    """Bias, rounding, activation function and rounding in MindSpore's operators."""

    def __init__(self, act, twice):
        super().__init__()
        self.act, self.twice, self.fake = act, twice, plain.PlainFakeQuantize()

    def construct(self, x, *rest):
        if len(rest) == 5:
            x = x + rest[0].reshape(1, -1, 1, 1)
        first, first_limits, second, second_limits = rest[-4:]
        y = self.fake(x, first, first_limits)
        y = ops.silu(y) if self.act == "silu" else y * (ops.erf(y * 0.7071067811865476) + 1.0) * 0.5
        return self.fake(y, second, second_limits) if self.twice else y + 0.0 * second.sum()


def tensors(values) -> list[Tensor]:
    return [Tensor(np.asarray(v, np.float32)) for v in values]


def slopes(shape) -> np.ndarray:
    return np.random.default_rng(2).normal(size=shape)


def gather_case(shape, index, axis):
    out = np.take(np.zeros(shape), index, axis).shape
    return lambda: compiled.Gather(index, axis), lambda: TakeRows(index, axis), [RNG.normal(size=shape), slopes(out)]


WEIGHT = RNG.normal(size=(6, 3, 5))
NARROW = ([np.log(0.00831), -0.4], [-128, 127, 256])
OFF = ([0.0, 0.0], [0, 0, 0])


def stored_case(act, x, bias, second):
    ours = compiled.StoredAct if bias is None else compiled.BiasStoredAct
    inputs = [x, *([] if bias is None else [bias]), *AFFINE, *second, slopes(x.shape)]
    return lambda: ours(act), lambda: Chain(act, second is not OFF), inputs


CASES = {
    "stored silu": stored_case("silu", X, None, NARROW),
    "stored silu of a sum": stored_case("silu", MAPS, BIAS, NARROW),
    "stored gelu of a sum": stored_case("gelu", MAPS, BIAS, NARROW),
    "stored gelu": stored_case("gelu", X, None, NARROW),
    "silu of what is stored": stored_case("silu", MAPS, BIAS, OFF),
    "gelu of what is stored": stored_case("gelu", X, None, OFF),
    "affine": (compiled.FakeQuantize, plain.PlainFakeQuantize, [X, *AFFINE, slopes(X.shape)]),
    "symmetric": (compiled.FakeQuantize, plain.PlainFakeQuantize, [X, *FIXED, slopes(X.shape)]),
    "3 bits": (compiled.FakeQuantize, plain.PlainFakeQuantize, [MAPS, *FEW, slopes(MAPS.shape)]),
    "of a sum": (
        compiled.BiasFakeQuantize,
        plain.PlainBiasFakeQuantize,
        [MAPS, BIAS, *AFFINE, slopes(MAPS.shape)],
    ),
    "bias": (compiled.ChannelBias, BiasAdd, [MAPS, BIAS, slopes(MAPS.shape)]),
    "weight": (
        lambda: compiled.FakeWeight(127),
        lambda: plain.PlainFakeWeight(127),
        [WEIGHT, np.log(np.linspace(0.01, 0.03, 6)), slopes(WEIGHT.shape)],
    ),
    "weight in groups": (
        lambda: compiled.FakeWeight(7, 4),
        lambda: plain.PlainFakeWeight(7, 4),
        [WEIGHT, np.log(np.linspace(0.1, 0.4, 24)), slopes(WEIGHT.shape)],
    ),
    "rows of one": gather_case((12, 5), RNG.permutation(12).reshape(3, 4), 0),
    "rows taken twice": gather_case((6, 3, 2), np.array([0, 5, 5, 1, 5]), 0),
    "some rows of many": gather_case((20, 12, 3), np.array([[7, 0], [3, 11]]), 1),
    "rows of few": gather_case((2, 9, 70), RNG.permutation(9), 1),
}


@needs_compiler
@pytest.mark.parametrize("case", CASES)
def test_results_and_gradients_are_mindspores(pynative, case):
    ours, reference, values = CASES[case]
    inputs = tensors(values)
    result, gradients = WithGradients(ours())(*inputs)
    expected, expected_gradients = WithGradients(reference())(*inputs)
    assert len(gradients) == len(expected_gradients) == len(values) - 1
    for mine, other in zip((result, *gradients), (expected, *expected_gradients), strict=True):
        mine, other = mine.asnumpy(), other.asnumpy()
        assert mine.shape == other.shape
        assert mine == pytest.approx(other, abs=2e-5 * max(abs(other).max(), 1e-3))


@pytest.mark.parametrize("settings", [AFFINE, FIXED, FEW])
def test_gradients_are_those_of_lsq(pynative, settings):
    """Against the published formulas in float64: steps inside the range, ends of the range outside."""
    quantiser, (low, high, span) = settings
    scale, zero = np.exp(quantiser[0]), np.rint(quantiser[1] * span)
    d, v = slopes(X.shape), X / scale
    below, above = v < low - zero, v > high - zero
    ends = np.where(below, low - zero, high - zero)
    assert below.any() or above.any()
    inside = ~(below | above)
    by_scale = (d * np.where(inside, np.rint(v) - v, ends)).sum() * scale
    by_zero = (d * np.where(inside, 0, -scale)).sum() * span
    result, (dx, dq, _) = WithGradients(plain.PlainFakeQuantize())(*tensors([X, *settings, d]))
    assert result.asnumpy() == pytest.approx(np.where(inside, np.rint(v), ends) * scale, abs=1e-5)
    assert dx.asnumpy() == pytest.approx(d * inside, abs=1e-6)
    assert dq.asnumpy() * np.sqrt(X.size * high) == pytest.approx([by_scale, by_zero], rel=1e-3, abs=1e-3)


PLANS = [
    TensorPlan("activation", (0.02,), (37,)),
    TensorPlan("activation", (0.011,), (0,), symmetric=True),
    TensorPlan("activation", (0.3,), (2,), bits=3),
    TensorPlan("activation", (0.004,), (-300,), bits=10),
]


@pytest.mark.parametrize("t", PLANS)
@pytest.mark.parametrize("ready", [pytest.param(True, marks=needs_compiler), False])
def test_rounds_as_the_plan_says(pynative, t, ready):
    settings = [np.log(t.scale[0]), t.zero_point[0] / 2**t.bits], [t.low, t.high, 0 if t.symmetric else 2**t.bits]
    cell = compiled.FakeQuantize() if ready else plain.PlainFakeQuantize()
    assert cell(*tensors([X, *settings])).asnumpy() == pytest.approx(fake_quantize(X, t), abs=1e-5)


@pytest.mark.parametrize("ready", [pytest.param(True, marks=needs_compiler), False])
def test_observers_move_towards_the_extremes(pynative, ready):
    cell = compiled.Observe() if ready else plain.PlainObserve()
    x = [[-0.5, 2.0], [0.25, 1.0]]
    moved, quantiser = cell(*tensors([x, [-1.0, 1.0], [-128, 127, 256], [0.1]]))
    assert moved.asnumpy() == pytest.approx([-0.95, 1.1])
    scale = 2.05 / 255
    assert quantiser.asnumpy() == pytest.approx([np.log(scale), np.rint(-128 + 0.95 / scale) / 256], rel=1e-5)
    kept, symmetric = cell(*tensors([x, [-1.0, 3.0], [-127, 127, 0], [0.0]]))
    assert kept.asnumpy() == pytest.approx([-1.0, 3.0])
    assert symmetric.asnumpy() == pytest.approx([np.log(3 / 127), 0.0])


@needs_compiler
def test_values_that_are_not_finite_stay_so(pynative):
    x = np.full((2, 3, 4, 4), np.nan)
    assert np.isnan(compiled.FakeQuantize()(*tensors([x, *AFFINE])).asnumpy()).all()
    assert np.isnan(compiled.BiasFakeQuantize()(*tensors([x, np.zeros(3), *AFFINE])).asnumpy()).all()
