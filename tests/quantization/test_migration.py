"""Migration changes no output, and takes the outliers out of what normalisations write."""

import numpy as np
import pytest
from quant_tiny import extremes, tiny_images, tiny_transformer

from msedge.quantization.migration import affines, migrate, migrate_tensors
from msedge.quantization.onnx_simulation import Simulation
from msedge.quantization.ptq_scales import channel_ranges


def with_outliers():
    """Two channels of each normalisation forty times the others; the weights that read them are small."""
    graph, values = tiny_transformer(), {}
    for norm, reader in (("norm1", "qkv"), ("norm2", "fc1")):
        factors = np.ones(8, np.float32)
        factors[[2, 5]] = 40
        values |= {f"{norm}.{p}": graph.weights[f"{norm}.{p}"] * factors for p in ("weight", "bias")}
        values[f"{reader}.weight"] = graph.weights[f"{reader}.weight"] / factors
    return graph.with_weights(values)


def test_normalisations_are_found_with_their_readers():
    found = affines(tiny_transformer())
    assert [(a.output, a.gamma, a.beta) for a in found] == [
        ("norm1/Add", "norm1.weight", "norm1.bias"),
        ("norm2/Add", "norm2.weight", "norm2.bias"),
    ]


@pytest.mark.parametrize("strength", [0.0, 0.5, 1.0])
def test_outputs_stay(strength):
    graph, images = with_outliers(), tiny_images(4)
    changed = migrate(graph, channel_ranges(graph, images, migrate_tensors(graph)), strength)
    target = Simulation(graph).logits(images)
    np.testing.assert_allclose(Simulation(changed).logits(images), target, atol=1e-5)


def test_outliers_go_and_int8_gains():
    graph, images = with_outliers(), tiny_images(24)
    axes = migrate_tensors(graph)
    before = channel_ranges(graph, images, axes)
    changed = migrate(graph, before)
    after = channel_ranges(changed, images, axes)
    for name in axes:
        assert after[name].max() / after[name].min() < 0.4 * before[name].max() / before[name].min()
    target = Simulation(graph).logits(images)
    errors = [((Simulation(g).logits(images, extremes(g, images)) - target) ** 2).mean() for g in (graph, changed)]
    assert errors[1] < 0.5 * errors[0]


def test_full_strength_makes_channels_equal():
    graph, images = tiny_transformer(), tiny_images(4)
    axes = migrate_tensors(graph)
    after = channel_ranges(migrate(graph, channel_ranges(graph, images, axes), 1.0), images, axes)
    for ranges in after.values():
        np.testing.assert_allclose(ranges, ranges.mean(), rtol=1e-4)
