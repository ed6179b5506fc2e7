"""Convolutions: a cell and its ONNX give the same."""

from __future__ import annotations

import pytest
from rule_cases import IMAGE

from msedge.mindspore_setup import load_mindspore

load_mindspore()

from mindspore import mint, nn, ops  # noqa: E402

LAYERS = {
    "conv": (lambda: nn.Conv2d(6, 8, 3, has_bias=True), IMAGE),
    "conv_stride_same_odd": (lambda: nn.Conv2d(6, 8, 3, stride=2), (1, 6, 9, 8)),
    "conv_padding": (lambda: nn.Conv2d(6, 8, 5, stride=2, pad_mode="pad", padding=(1, 2, 3, 0)), IMAGE),
    "conv_valid_dilated": (lambda: nn.Conv2d(6, 8, 3, pad_mode="valid", dilation=2), IMAGE),
    "conv_grouped": (lambda: nn.Conv2d(6, 12, 3, group=3), IMAGE),
    "conv_depthwise": (lambda: nn.Conv2d(6, 6, 3, group=6, has_bias=True), IMAGE),
}


@pytest.mark.parametrize("name", LAYERS)
def test_layer(name, roundtrip):
    make, shape = LAYERS[name]
    roundtrip(make(), shape, tolerance=5e-5)


# What has no kernel on a CPU is compared with something that has.


def _conv_mint(x):
    return mint.nn.functional.conv2d(x, mint.ones((4, 6, 3, 3)), None, 2, 1)


def _conv(x):
    return ops.Conv2D(4, 3, pad_mode="pad", pad=1, stride=2)(x, ops.ones((4, 6, 3, 3)))


def _conv_same_mint(x):
    return mint.nn.functional.conv2d(x, mint.ones((4, 6, 3, 3)), padding="same")


def _conv_same(x):
    return ops.Conv2D(4, 3, pad_mode="same")(x, ops.ones((4, 6, 3, 3)))


TWINS = {
    "conv": (_conv_mint, _conv),
    "conv_same": (_conv_same_mint, _conv_same),
}


@pytest.mark.parametrize("name", TWINS)
def test_function_without_a_cpu_kernel(name, check_twin):
    check_twin(*TWINS[name], IMAGE)
