"""Resizing: a cell and its ONNX give the same."""

from __future__ import annotations

import pytest
from rule_cases import IMAGE, Cases

from msedge.mindspore_setup import load_mindspore

load_mindspore()

from mindspore import mint, ops  # noqa: E402

cases = Cases()


@cases()
def bilinear(x):
    return ops.interpolate(x, size=(16, 20), mode="bilinear")


@cases()
def bilinear_corners(x):
    return ops.interpolate(x, size=(5, 13), mode="bilinear", align_corners=True)


@cases()
def nearest(x):
    return ops.ResizeNearestNeighbor((16, 24))(x)


@pytest.mark.parametrize(("function", "shape", "range_"), cases.params)
def test_function(function, shape, range_, roundtrip):
    roundtrip(function, shape, **range_)


# What has no kernel on a CPU is compared with something that has.


def _bilinear_mint(x):
    return mint.nn.functional.interpolate(x, size=(5, 11), mode="bilinear")


def _bilinear(x):
    return ops.interpolate(x, size=(5, 11), mode="bilinear")


TWINS = {
    "bilinear": (_bilinear_mint, _bilinear),
}


@pytest.mark.parametrize("name", TWINS)
def test_function_without_a_cpu_kernel(name, check_twin):
    check_twin(*TWINS[name], IMAGE)
