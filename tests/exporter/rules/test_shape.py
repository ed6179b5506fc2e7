"""Reshapes, transpositions, joins, splits and padding: a cell and its ONNX give the same."""

from __future__ import annotations

import pytest
from rule_cases import IMAGE, Cases

from msedge.mindspore_setup import load_mindspore

load_mindspore()

from mindspore import mint, ops  # noqa: E402

cases = Cases()


@cases()
def reshapes(x):
    return x.reshape(2, 6, -1).transpose(0, 2, 1).reshape(-1, 6).expand_dims(1).squeeze(1)


@cases()
def flatten(x):
    return ops.flatten(x, start_dim=1) + x.reshape(2, -1)


@cases()
def swaps(x):
    return x.swapaxes(-1, -2) + x.permute(0, 1, 3, 2) * 2


@cases()
def concat_and_stack(x):
    y = ops.concat((x, x * 2, x * 3), axis=1)
    return ops.stack((y, y * 2), axis=1)


@cases()
def split_even(x):
    a, b, c = ops.split(x, 2, axis=1)
    return a * b - c


@cases()
def split_uneven(x):
    a, b = ops.split(x, (2, 4), axis=1)
    return b + a.mean(1, keep_dims=True)


@cases()
def chunk(x):
    a, b = mint.chunk(x, 2, 1)
    return a / (b + 5)


@cases()
def unstack(x):
    a, b = ops.unbind(x, 0)
    return a * 2 - b


@cases()
def broadcast(x):
    return ops.broadcast_to(x.mean((2, 3), keep_dims=True), (2, 6, 3, 5)) + ops.tile(x[:, :, :1, :1], (1, 1, 3, 5))


@cases()
def pads(x):
    return ops.pad(x, (1, 2, 3, 0)) + ops.pad(x, (2, 1, 0, 3), value=1.5)


@cases()
def rolls(x):
    y = ops.concat((x[:, :, 3:], x[:, :, :3]), 2)
    return ops.concat((y[:, :, :, -2:], y[:, :, :, :-2]), 3)


@pytest.mark.parametrize(("function", "shape", "range_"), cases.params)
def test_function(function, shape, range_, roundtrip):
    roundtrip(function, shape, **range_)


# What has no kernel on a CPU is compared with something that has.


def _pad_mint(x):
    return mint.nn.functional.pad(x, (1, 0, 2, 3), value=2.0)


def _pad(x):
    return ops.pad(x, (1, 0, 2, 3), value=2.0)


TWINS = {
    "pad": (_pad_mint, _pad),
}


@pytest.mark.parametrize("name", TWINS)
def test_function_without_a_cpu_kernel(name, check_twin):
    check_twin(*TWINS[name], IMAGE)
