"""Equalisation changes no output, and evens out what it says."""

import numpy as np
import pytest
from quant_tiny import DIM, extremes, tiny_images, tiny_transformer

from msedge.quantization.equalise import LIMIT, equalise, equalise_tensors
from msedge.quantization.onnx_simulation import Simulation
from msedge.quantization.ptq_scales import channel_ranges


def uneven(seed=0):
    """A tiny transformer whose qkv and depthwise channels differ by a factor of hundreds."""
    graph, rng = tiny_transformer(seed), np.random.default_rng(seed)
    values = {}
    for name in ("qkv", "depthwise"):
        factors = np.exp(2 * rng.normal(size=len(graph.weights[f"{name}.bias"]))).astype(np.float32)
        values[f"{name}.bias"] = graph.weights[f"{name}.bias"] * factors
        w = graph.weights[f"{name}.weight"]
        values[f"{name}.weight"] = w * factors.reshape(-1, *[1] * (w.ndim - 1)) * 0.3
    return graph.with_weights(values)


@pytest.mark.parametrize("seed", range(4))
def test_outputs_stay_and_ranges_come_together(seed):
    graph, images = uneven(seed), tiny_images(6)
    axes = equalise_tensors(graph)
    assert axes == {"qkv/Gemm": -1, "depthwise/Conv": 1}
    before = channel_ranges(graph, images, axes)
    changed = equalise(graph, before)
    target = Simulation(graph).logits(images)
    np.testing.assert_allclose(Simulation(changed).logits(images), target, atol=1e-5 * np.abs(target).max())
    after = channel_ranges(changed, images, axes)
    q, k = after["qkv/Gemm"][:DIM], after["qkv/Gemm"][DIM : 2 * DIM]
    unclipped = np.abs(np.log(before["qkv/Gemm"][:DIM] / before["qkv/Gemm"][DIM : 2 * DIM])) < 2 * np.log(LIMIT)
    np.testing.assert_allclose(q[unclipped], k[unclipped], rtol=1e-4)
    for name in axes:
        assert after[name].max() / np.median(after[name]) < before[name].max() / np.median(before[name])


def test_int8_gains_where_channels_were_uneven():
    graph, images = uneven(1), tiny_images(24)
    target = Simulation(graph).logits(images)
    changed = equalise(graph, channel_ranges(graph, images, equalise_tensors(graph)))
    others = {n: "" for n in graph.units if n not in ("qkv/Gemm", "depthwise/Conv", "scores", "mixed")}
    plans = [extremes(g, images).with_float(others) for g in (graph, changed)]
    errors = [((Simulation(g).logits(images, p) - target) ** 2).mean() for g, p in zip((graph, changed), plans, strict=True)]
    assert errors[1] < 0.5 * errors[0]


def test_dead_channels_do_no_harm():
    graph, images = tiny_transformer(), tiny_images(3)
    w, b = graph.weights["qkv.weight"].copy(), graph.weights["qkv.bias"].copy()
    w[[0, DIM + 1, 2 * DIM + 2]] = 0
    b[[0, DIM + 1, 2 * DIM + 2]] = 0
    graph = graph.with_weights({"qkv.weight": w, "qkv.bias": b})
    changed = equalise(graph, channel_ranges(graph, images, equalise_tensors(graph)))
    assert all(np.isfinite(v).all() for v in changed.weights.values() if v.dtype == np.float32)
    np.testing.assert_allclose(Simulation(changed).logits(images), Simulation(graph).logits(images), atol=1e-5)
