"""Reductions: a cell and its ONNX give the same."""

from __future__ import annotations

import pytest
from rule_cases import Cases

from msedge.mindspore_setup import load_mindspore

ms = load_mindspore()

from mindspore import mint, ops  # noqa: E402

cases = Cases()


@cases()
def mean_of_pixels(x):
    return x.mean((2, 3))


@cases()
def mean_of_pixels_kept(x):
    return x * ops.mean(x, (2, 3), keep_dims=True)


@cases()
def mean_of_channels(x):
    return ops.mean(x, 1) + mint.mean(x, 1)


@cases()
def sums(x):
    return ops.sum(x, -1) + mint.sum(x, dim=-1)


@cases()
def sum_of_all(x):
    return x.sum().reshape(1)


@cases()
def largest_and_smallest(x):
    return ops.amax(x, 1) - ops.amin(x, 1) + mint.amax(x, 1)


@cases()
def cumulative(x):
    return ops.cumsum(x, 2)


@cases()
def largest_with_place(x):
    place, value = ops.ArgMaxWithValue(1)(x)
    return value + ops.cast(place, ms.float32)


@pytest.mark.parametrize(("function", "shape", "range_"), cases.params)
def test_function(function, shape, range_, roundtrip):
    roundtrip(function, shape, **range_)
