"""Pools: a cell and its ONNX give the same."""

from __future__ import annotations

import pytest
from rule_cases import IMAGE, Cases

from msedge.mindspore_setup import load_mindspore

load_mindspore()

from mindspore import mint, nn, ops  # noqa: E402

cases = Cases()


@cases()
def average_pool_same(x):
    return ops.AvgPool(3, 1, "same")(x)


@cases((2, 6, 9, 9))
def average_pool_same_odd(x):
    return ops.AvgPool(3, 2, "same")(x)


@cases()
def max_pool(x):
    return ops.MaxPool(3, 2, "same")(x) + ops.MaxPool(2, 2)(x)


@pytest.mark.parametrize(("function", "shape", "range_"), cases.params)
def test_function(function, shape, range_, roundtrip):
    roundtrip(function, shape, **range_)


LAYERS = {
    "average_pool": (lambda: nn.AvgPool2d(2, 2), IMAGE),
    "average_pool_padding": (lambda: nn.AvgPool2d(3, 2, pad_mode="pad", padding=1), IMAGE),
    "average_pool_uncounted": (lambda: nn.AvgPool2d(3, 2, pad_mode="pad", padding=1, count_include_pad=False), IMAGE),
    "max_pool_padding": (lambda: nn.MaxPool2d(3, 2, pad_mode="pad", padding=1), IMAGE),
}


@pytest.mark.parametrize("name", LAYERS)
def test_layer(name, roundtrip):
    make, shape = LAYERS[name]
    roundtrip(make(), shape, tolerance=5e-5)


# What has no kernel on a CPU is compared with something that has.


def _average_pool_mint(x):
    return mint.nn.functional.avg_pool2d(x, 3, 2, 1)


def _average_pool(x):
    return ops.avg_pool2d(x, 3, 2, 1)


def _max_pool_mint(x):
    return mint.nn.functional.max_pool2d(x, 3, 2, 1)


def _max_pool(x):
    return ops.max_pool2d(x, 3, 2, 1)


def _adaptive_mint(x):
    return mint.nn.functional.adaptive_avg_pool2d(x, 4)


def _adaptive(x):
    return ops.avg_pool2d(x, 2, 2)


def _adaptive_one_mint(x):
    return mint.nn.functional.adaptive_avg_pool2d(x, 1)


def _adaptive_one(x):
    return ops.mean(x, (2, 3), keep_dims=True)


TWINS = {
    "average_pool": (_average_pool_mint, _average_pool),
    "max_pool": (_max_pool_mint, _max_pool),
    "adaptive_pool": (_adaptive_mint, _adaptive),
    "adaptive_pool_one": (_adaptive_one_mint, _adaptive_one),
}


@pytest.mark.parametrize("name", TWINS)
def test_function_without_a_cpu_kernel(name, check_twin):
    check_twin(*TWINS[name], IMAGE)
