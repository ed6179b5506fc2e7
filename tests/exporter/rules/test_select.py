"""Slices, gathers and flips: a cell and its ONNX give the same."""

from __future__ import annotations

import numpy as np
import pytest
from rule_cases import IMAGE, Cases

from msedge.mindspore_setup import load_mindspore

ms = load_mindspore()

from mindspore import mint, ops  # noqa: E402

cases = Cases()


@cases()
def slices(x):
    return x[:, 1:5, ::2, -6:-2] + x[:, 2:, 1::2, :4]


@cases()
def one_index(x):
    return x[1, :, 2] + x[0, :, -1] * 2


@cases()
def negative_bounds(x):
    return x[:, -5:-1, :-3, 3:]


@cases()
def gathers(x):
    return ops.gather(x, ms.Tensor([0, 3, 3, 5]), 1) + ops.index_select(x, 1, ms.Tensor([5, 0, 1, 1]))


@cases()
def gather_elements(x):
    return ops.gather_elements(x, 1, ms.Tensor(np.arange(2 * 3 * 8 * 8).reshape(2, 3, 8, 8) % 6))


@cases()
def flips(x):
    return ops.flip(x, (2, 3)) + mint.flip(x, (1,))


@cases()
def narrow(x):
    return ops.narrow(x, 1, 2, 3) + mint.narrow(x, 1, 0, 3)


@cases()
def select_one(x):
    return mint.select(x, 1, 2) + mint.select(x, 1, -1)


@pytest.mark.parametrize(("function", "shape", "range_"), cases.params)
def test_function(function, shape, range_, roundtrip):
    roundtrip(function, shape, **range_)


# What has no kernel on a CPU is compared with something that has.


def _index_mint(x):
    return mint.index_select(x, 1, ms.Tensor([5, 0, 1]))


def _index(x):
    return ops.gather(x, ms.Tensor([5, 0, 1]), 1)


TWINS = {
    "index": (_index_mint, _index),
}


@pytest.mark.parametrize("name", TWINS)
def test_function_without_a_cpu_kernel(name, check_twin):
    check_twin(*TWINS[name], IMAGE)
