"""Matrix products and dense layers: a cell and its ONNX give the same."""

from __future__ import annotations

import pytest
from rule_cases import IMAGE, TOKENS, Cases

from msedge.mindspore_setup import load_mindspore

load_mindspore()

from mindspore import mint, nn, ops  # noqa: E402

cases = Cases()


@cases(TOKENS)
def products(x):
    return ops.matmul(x, x.swapaxes(-1, -2)) + mint.bmm(x, x.swapaxes(1, 2))


@cases(TOKENS)
def product_transposed(x):
    return ops.BatchMatMul(transpose_b=True)(x, x) + ops.BatchMatMul(transpose_a=True)(x.swapaxes(1, 2), x.swapaxes(1, 2))


@cases(TOKENS)
def product_of_matrices(x):
    a = x.reshape(-1, 6)
    return ops.MatMul(transpose_b=True)(a, a) + ops.matmul(a, a.transpose())


@pytest.mark.parametrize(("function", "shape", "range_"), cases.params)
def test_function(function, shape, range_, roundtrip):
    roundtrip(function, shape, **range_)


LAYERS = {
    "dense": (lambda: nn.Dense(6, 5), (3, 6)),
    "dense_without_bias": (lambda: nn.Dense(6, 5, has_bias=False), (3, 6)),
    "dense_on_tokens": (lambda: nn.Dense(6, 5), TOKENS),
    "dense_on_images": (lambda: nn.Dense(8, 5), IMAGE),
    "linear": (lambda: mint.nn.Linear(6, 5), (3, 6)),
    "linear_on_tokens": (lambda: mint.nn.Linear(6, 5), TOKENS),
    "linear_without_bias": (lambda: mint.nn.Linear(6, 5, bias=False), TOKENS),
}


@pytest.mark.parametrize("name", LAYERS)
def test_layer(name, roundtrip):
    make, shape = LAYERS[name]
    roundtrip(make(), shape, tolerance=5e-5)
