"""Ranges to scales, and the search for the range: properties over many random numbers."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from msedge.quantization.plan import fake_quantize
from msedge.quantization.scheme import SMALLEST, Scheme, best_range

ends = st.floats(-1e6, 1e6, allow_nan=False, width=32)


@given(ends, ends, st.integers(2, 16), st.booleans())
@settings(max_examples=300, deadline=None)
def test_a_plan_of_any_range_is_sound_and_holds_its_range(a, b, bits, symmetric):
    low, high = min(a, b), max(a, b)
    t = Scheme(bits=bits, symmetric=symmetric).plan(np.array([low]), np.array([high]))
    assert t.problem() == ""
    assert np.float32(t.scale[0]) == t.scale[0]
    inside = np.linspace(low, high, 33)
    assert np.abs(fake_quantize(inside, t) - inside).max() <= 1.02 * t.scale[0]  # the zero point takes up to half a step
    assert fake_quantize(np.zeros(1), t)[0] == 0


def test_known_scales():
    softmax = Scheme().plan(np.array([0.0]), np.array([1.0]))
    assert softmax.zero_point == (-128,) and softmax.scale[0] == pytest.approx(1 / 255)
    gelu = Scheme().plan(np.array([-0.17]), np.array([5.0]))
    assert gelu.zero_point == (-120,)
    weight = Scheme("weight", 8, True, 0).plan(np.array([-1.27, -0.1]), np.array([0.5, 2.54]))
    assert weight.scale == pytest.approx((0.01, 0.02)) and weight.zero_point == (0, 0)


def test_a_range_of_nothing_gets_a_safe_scale():
    for symmetric in (False, True):
        t = Scheme(symmetric=symmetric).plan(np.zeros(1), np.zeros(1))
        assert t.problem() == "" and 1e-3 < t.scale[0] < 1e-1
    assert Scheme().plan(np.array([0.0]), np.array([1e-30])).scale[0] == np.float32(SMALLEST)


def error(x, t):
    return float(((fake_quantize(x, t) - x) ** 2).mean())


@given(st.integers(0, 2**31), st.sampled_from(["normal", "laplace", "softmax", "outlier", "relu"]), st.booleans())
@settings(max_examples=40, deadline=None)
def test_the_search_is_never_worse_than_the_extremes(seed, kind, symmetric):
    rng = np.random.default_rng(seed)
    x = {
        "normal": lambda: rng.normal(size=500),
        "laplace": lambda: rng.laplace(size=500),
        "softmax": lambda: rng.dirichlet(np.full(50, 0.1), 10).ravel(),
        "outlier": lambda: np.append(rng.normal(size=500), 300),
        "relu": lambda: np.maximum(rng.normal(size=500), 0),
    }[kind]()
    scheme = Scheme(bits=4, symmetric=symmetric)
    best = scheme.plan(*best_range(x[None], None, scheme))
    assert error(x, best) <= error(x, scheme.plan(x.min()[None], x.max()[None])) * 1.0001


@pytest.mark.parametrize("symmetric", [True, False])
def test_the_search_finds_what_trying_everything_finds(symmetric):
    x = np.append(np.random.default_rng(0).normal(size=2000), [8.0, -5.0])
    scheme = Scheme(bits=4, symmetric=symmetric)
    found = error(x, scheme.plan(*best_range(x[None], None, scheme)))
    highs = np.linspace(0.5, 8, 80)
    lows = -highs if symmetric else -np.linspace(0.5, 5, 80)
    pairs = zip(lows, highs, strict=True) if symmetric else ((a, b) for a in lows for b in highs)
    every = min(error(x, scheme.plan(np.array([a]), np.array([b]))) for a, b in pairs)
    assert found <= 1.03 * every


def test_channels_are_searched_apart_and_counts_are_weights():
    rng = np.random.default_rng(1)
    rows = rng.normal(size=(3, 400)) * [[0.01], [1], [50]]
    scheme = Scheme("weight", 4, True, 0)
    together = best_range(rows, None, scheme)[1]
    apart = [best_range(r[None], None, scheme)[1][0] for r in rows]
    np.testing.assert_array_equal(together, apart)
    values, counts = np.array([[0.1, 0.5, 9.0]]), np.array([[5.0, 3.0, 1.0]])
    repeated = np.repeat(values[0], [5, 3, 1])[None]
    np.testing.assert_allclose(best_range(values, counts, scheme)[1], best_range(repeated, None, scheme)[1])


def test_a_function_behind_the_tensor_decides_what_may_be_clipped():
    x = np.random.default_rng(2).normal(size=(1, 4000)) * 4
    plain = best_range(x, None, Scheme())
    through = best_range(x, None, Scheme(), lambda v: np.maximum(v, 0))
    assert through[0][0] > 0.2 * plain[0][0] and plain[0][0] < -8  # what ReLU kills is clipped
    lost = [((np.maximum(fake_quantize(x, Scheme().plan(*e)), 0) - np.maximum(x, 0)) ** 2).mean() for e in (plain, through)]
    assert lost[1] < 0.5 * lost[0]
