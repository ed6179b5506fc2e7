"""Arithmetic, comparisons and casts: a cell and its ONNX give the same."""

from __future__ import annotations

import pytest
from rule_cases import IMAGE, Cases

from msedge.mindspore_setup import load_mindspore

ms = load_mindspore()

from mindspore import mint, ops  # noqa: E402

cases = Cases()


@cases(low=0.1, high=2)
def roots_and_logs(x):
    return ops.log(x) + ops.sqrt(x) * ops.rsqrt(x + 1) - ops.exp(-x) + ops.reciprocal(x)


@cases()
def waves(x):
    return ops.sin(x) * ops.cos(x) + ops.tanh(x) - ops.erf(x)


@cases()
def rounding(x):
    return ops.floor(x) + ops.abs(x) - ops.neg(x) + ops.square(x) + ops.sign(x) + ops.ceil(x)


@cases()
def numbers_on_both_sides(x):
    return (2 - x) * 3 + x / 4 - 1 / (x + 10) + x**2


@cases()
def whole_numbers_with_floats(x):
    return x * 2 + 3


@cases(low=0.1, high=3)
def power_of_a_number(x):
    return ops.pow(x, 1.5) + ops.pow(2.0, x)


@cases()
def extremes(x):
    return ops.maximum(x, x * 0.5) + ops.minimum(x, 0.3) + ops.clamp(x, -0.5, 0.7)


@cases()
def comparisons(x):
    return ops.select(x > 0.1, x, -x) + ops.where(ops.logical_and(x < 1, x >= -1), x * 2, x * 3)


@cases()
def equalities(x):
    y = ops.floor(x)
    return ops.cast(y == 0, ms.float32) + ops.cast(y != 1, ms.float32) * 2 + ops.cast(ops.logical_not(x <= 0), ms.float32) * 4


@cases()
def masked(x):
    return ops.masked_fill(x, x > 0.5, -3.0)


@cases()
def floor_division(x):
    return ops.floor_div(x * 5, 2.0) + ops.floor_mod(x * 5, 3.0)


@cases()
def scaled_sum(x):
    return mint.add(x, x * x, alpha=0.5) + mint.sub(x, x * x, alpha=2)


@cases()
def many_terms(x):
    return ops.addn((x, x * 2, x * x))


@cases()
def through_half(x):
    return ops.cast(ops.cast(x, ms.float16), ms.float32)


@cases()
def in_place_addition(x):
    y = ops.relu(x)
    y += x
    return y


@pytest.mark.parametrize(("function", "shape", "range_"), cases.params)
def test_function(function, shape, range_, roundtrip):
    roundtrip(function, shape, **range_)


# What has no kernel on a CPU is compared with something that has.


def _remainders_mint(x):
    return mint.remainder(x, 0.7) + mint.floor_divide(x, 0.7)


def _remainders(x):
    return ops.floor_mod(x, 0.7) + ops.floor_div(x, 0.7)


TWINS = {
    "remainders": (_remainders_mint, _remainders),
}


@pytest.mark.parametrize("name", TWINS)
def test_function_without_a_cpu_kernel(name, check_twin):
    check_twin(*TWINS[name], IMAGE)
