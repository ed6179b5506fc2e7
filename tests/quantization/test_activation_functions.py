"""Which function stands behind a tensor."""

import math

import numpy as np
import pytest
from quant_tiny import tiny_transformer

from msedge.quantization.activation_functions import function_of, gelu, relu, silu


def test_values():
    x = np.array([-1e4, -1.0, 0.0, 2.0, 1e4])
    np.testing.assert_allclose(silu(x), [0, -1 / (1 + math.e), 0, 2 / (1 + math.exp(-2)), 1e4], atol=1e-12)
    np.testing.assert_allclose(gelu(x), [0, -0.15865525, 0, 1.95449974, 1e4], atol=1e-7)
    np.testing.assert_array_equal(relu(x), [0, 0, 0, 2, 1e4])


@pytest.mark.parametrize(
    ("tensor", "function"),
    [("stem/Conv", silu), ("depthwise/Conv", relu), ("fc1/Gemm", gelu), ("qkv/Gemm", None), ("scores", None), ("add1", None),
     ("logits", None), ("input", None), ("stem/Mul", None)],
)  # fmt: skip
def test_it_is_found_where_it_alone_reads(tensor, function):
    assert function_of(tiny_transformer(), tensor) is function
