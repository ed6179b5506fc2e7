"""Activations: a cell and its ONNX give the same."""

from __future__ import annotations

import pytest
from rule_cases import IMAGE, TOKENS, Cases

from msedge.mindspore_setup import load_mindspore

load_mindspore()

from mindspore import mint, nn, ops  # noqa: E402

cases = Cases()


@cases()
def relu(x):
    return ops.relu(x)


@cases()
def relu6(x):
    return ops.relu6(x * 4)


@cases()
def silu(x):
    return ops.silu(x)


@cases()
def gelu_tanh(x):
    return ops.gelu(x, approximate="tanh")


@cases()
def gelu_erf(x):
    return ops.gelu(x, approximate="none")


@cases()
def quick_gelu(x):
    return x * ops.sigmoid(1.702 * x)


@cases()
def hswish(x):
    return ops.hardswish(x * 3)


@cases()
def hsigmoid(x):
    return ops.hardsigmoid(x * 3)


@cases()
def leaky_relu(x):
    return ops.leaky_relu(x, 0.1)


@cases()
def elu(x):
    return ops.elu(x)


@cases()
def softplus(x):
    return ops.softplus(x)


@cases()
def mish(x):
    return ops.mish(x)


@cases(TOKENS)
def softmax_last(x):
    return ops.softmax(x, -1)


@cases()
def softmax_channels(x):
    return ops.softmax(x, 1)


@cases(TOKENS)
def log_softmax(x):
    return ops.log_softmax(x, -1)


@pytest.mark.parametrize(("function", "shape", "range_"), cases.params)
def test_function(function, shape, range_, roundtrip):
    roundtrip(function, shape, **range_)


LAYERS = {
    "prelu": (lambda: nn.PReLU(6), IMAGE),
}


@pytest.mark.parametrize("name", LAYERS)
def test_layer(name, roundtrip):
    make, shape = LAYERS[name]
    roundtrip(make(), shape, tolerance=5e-5)


# What has no kernel on a CPU is compared with something that has.


def _gelu_mint(x):
    return mint.nn.functional.gelu(x)


def _gelu_mint_tanh(x):
    return mint.nn.functional.gelu(x, approximate="tanh")


def _relu6_mint(x):
    return mint.nn.functional.relu6(x)


TWINS = {
    "gelu": (_gelu_mint, gelu_erf),
    "gelu_tanh": (_gelu_mint_tanh, gelu_tanh),
    "relu6": (_relu6_mint, ops.relu6),
}


@pytest.mark.parametrize("name", TWINS)
def test_function_without_a_cpu_kernel(name, check_twin):
    check_twin(*TWINS[name], IMAGE)
