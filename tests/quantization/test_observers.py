"""Observers: one pass, any order, any scheme; what each is good at."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from msedge.errors import UserError
from msedge.quantization.activation_functions import gelu, silu
from msedge.quantization.observers import OBSERVERS, Mse, make_observer
from msedge.quantization.plan import fake_quantize
from msedge.quantization.scheme import Scheme

NAMES = pytest.mark.parametrize("name", OBSERVERS)


def observed(name, parts, scheme, **options):
    observer = make_observer(name, scheme, **options)
    for part in parts:
        observer.observe(part)
    return observer


def error(x, t):
    return float(((fake_quantize(x, t) - x) ** 2).mean())


@NAMES
@given(st.integers(0, 2**31), st.booleans(), st.sampled_from([None, 0, 1]), st.integers(3, 8))
@settings(max_examples=25, deadline=None)
def test_every_observer_gives_a_sound_plan_with_a_small_error(name, seed, symmetric, axis, bits):
    rng = np.random.default_rng(seed)
    parts = [(rng.normal(size=(3, 4, 40)) + rng.normal()).astype(np.float32) for _ in range(4)]
    t = observed(name, parts, Scheme("activation", bits, symmetric, axis)).plan()
    assert t.problem() == "" and len(t.scale) == (1 if axis is None else parts[0].shape[axis])
    x = np.concatenate(parts, 2)
    assert error(x, t) < 0.25 * x.var() + 4 * max(t.scale) ** 2


@pytest.mark.parametrize("name", [n for n in OBSERVERS if n != "average"])
def test_the_order_of_images_does_not_matter(name):
    rng = np.random.default_rng(0)
    parts = [rng.normal(size=(2, 100)).astype(np.float32) * s for s in (0.1, 5, 1, 0.01)]
    one, other = (observed(name, p, Scheme(axis=0)).plan() for p in (parts, parts[::-1]))
    np.testing.assert_allclose(one.scale, other.scale, rtol=0.02)


def test_extremes_fit_exactly_and_the_average_forgets_one_odd_image():
    parts = [np.array([-1.0, 2.0]), np.array([-0.5, 3.0])]
    low, high = observed("minmax", parts, Scheme()).ends()
    assert (low[0], high[0]) == (-1, 3)
    low, high = observed("average", parts, Scheme()).ends()
    assert (low[0], high[0]) == pytest.approx((-0.95, 2.1))
    odd = [np.array([-1.0, 1.0])] * 5 + [np.array([-1.0, 100.0])] + [np.array([-1.0, 1.0])] * 10
    assert observed("average", odd, Scheme()).ends()[1][0] < 6


@pytest.mark.parametrize("name", ["percentile", "mse", "entropy"])
def test_outliers_are_clipped(name):
    rng = np.random.default_rng(0)
    parts = [rng.normal(size=20000).astype(np.float32) for _ in range(4)]
    parts[2][0] = 200.0
    scheme = Scheme(bits=6)
    assert observed("minmax", parts, scheme).ends()[1][0] == 200
    assert observed(name, parts, scheme).ends()[1][0] < (20 if name == "percentile" else 80)


def test_percentile_cuts_the_share_it_says():
    x = np.random.default_rng(0).permutation(np.arange(100_000, dtype=np.float32))
    low, high = observed("percentile", np.split(x, 10), Scheme()).ends()
    assert low[0] == pytest.approx(5, abs=80) and high[0] == pytest.approx(99_995, abs=80)


def test_what_softmax_writes_starts_at_0_and_loses_its_empty_top():
    rng = np.random.default_rng(0)
    parts = [rng.dirichlet(np.full(64, 0.5), 64).astype(np.float32) for _ in range(8)]
    t = observed("mse", parts, Scheme()).plan()
    assert t.zero_point == (-128,) and t.scale[0] < 0.7 / 255


@pytest.mark.parametrize(("function", "bottom"), [(gelu, -0.17), (silu, -0.2785)])
def test_the_short_negative_side_of_gelu_and_silu_is_kept(function, bottom):
    x = function(np.random.default_rng(0).normal(size=20000) * 3).astype(np.float32)
    t = observed("mse", [x], Scheme()).plan()
    low = (t.low - t.zero_point[0]) * t.scale[0]
    assert bottom - 2 * t.scale[0] <= low <= bottom / 2
    assert error(x, t) < 0.4 * error(x, observed("mse", [x], Scheme(symmetric=True)).plan())


def test_mse_on_a_histogram_comes_close_to_mse_on_the_numbers():
    from msedge.quantization.scheme import best_range

    x = np.random.default_rng(3).laplace(size=(1, 30000))
    scheme = Scheme(bits=4)
    exact = error(x, scheme.plan(*best_range(x, None, scheme)))
    assert error(x, observed("mse", np.split(x[0], 10), scheme).plan()) < 1.02 * exact


def test_mse_behind_a_function_has_the_lower_error_there():
    x = np.random.default_rng(4).normal(size=20000) * 3
    plans = [observed("mse", [x], Scheme(bits=6), through=f).plan() for f in (None, silu)]
    lost = [((silu(fake_quantize(x, t)) - silu(x)) ** 2).mean() for t in plans]
    assert lost[1] < 0.7 * lost[0]


@NAMES
def test_constants_and_zeros_give_sound_plans(name):
    for value in (0.0, 2.0, -2.0):
        t = observed(name, [np.full((1, 8), value, np.float32)] * 3, Scheme()).plan()
        assert t.problem() == "" and error(np.full(3, value), t) < 1e-3


def test_only_mse_takes_a_function_and_names_are_checked():
    assert isinstance(make_observer("mse", Scheme(), silu), Mse)
    with pytest.raises(UserError, match="there is no observer 'max'"):
        make_observer("max", Scheme())
