"""Rounding with errors made good: on the grid, and closer to the float layer than the nearest numbers are."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from quant_tiny import extremes, tiny_images, tiny_transformer

from msedge.quantization.onnx_simulation import Simulation
from msedge.quantization.plan import TensorPlan, fake_quantize, quantize_array
from msedge.quantization.ptq_scales import weight_plan
from msedge.quantization.rounding import round_weight, round_weights, second_moments
from msedge.quantization.scheme import Scheme


def layer(seed, out=12, inputs=20, rows=400):
    """A weight, and inputs whose channels are correlated as those of networks are."""
    rng = np.random.default_rng(seed)
    x = (
        rng.normal(size=(rows, inputs // 2)) @ rng.normal(size=(inputs // 2, inputs))
        + 0.2 * rng.normal(size=(rows, inputs))
        + 0.5
    )
    return rng.normal(size=(out, inputs)), x


def plans(w, bits, group):
    if not group:
        return weight_plan(w, Scheme("weight", bits, True, 0), "minmax")
    parts = np.pad(w, ((0, 0), (0, -w.shape[1] % group))).reshape(-1, group)
    t = weight_plan(parts, Scheme("weight", bits, True, 0), "minmax")
    return TensorPlan("weight", t.scale, t.zero_point, bits, True, 0, group)


@given(st.integers(0, 2**31), st.sampled_from([2, 3, 4, 8]), st.sampled_from([0, 8, 6, 32]))
@settings(max_examples=40, deadline=None)
def test_it_is_on_the_grid_and_the_outputs_are_closer(seed, bits, group):
    w, x = layer(seed)
    t = plans(w, bits, group)
    rounded = round_weight(w, x.T @ x / len(x), t)
    np.testing.assert_allclose(fake_quantize(rounded, t), rounded, rtol=1e-6)
    nearest = fake_quantize(w, t)
    errors = [((x @ (v - w).T) ** 2).mean() for v in (nearest, rounded)]
    assert errors[1] < errors[0] * (0.9 if bits > 2 else 1.0)


def test_inputs_without_correlation_change_nothing():
    w, _ = layer(0)
    t = plans(w, 4, 0)
    np.testing.assert_array_equal(round_weight(w, np.eye(20), t), fake_quantize(w, t))


def test_a_moment_of_few_images_or_none_is_no_obstacle():
    w, x = layer(1)
    t = plans(w, 4, 0)
    for moment in (np.zeros((20, 20)), x[:1].T @ x[:1], np.diag([1e6] + [0] * 19)):
        assert np.isfinite(round_weight(w, moment, t)).all()


def test_one_scale_for_all_and_zero_points():
    w, x = layer(2)
    t = Scheme("weight", 4).plan(np.array([w.min()]), np.array([w.max()]))
    rounded = round_weight(w, x.T @ x / len(x), t)
    np.testing.assert_allclose(fake_quantize(rounded, t), rounded, atol=1e-6)


def test_moments_are_those_of_all_images():
    graph, images = tiny_transformer(), tiny_images(5)
    found = second_moments(graph, images, list(graph.units.values()))
    assert set(found) == {"stem/Conv", "pointwise/Conv", "qkv/Gemm", "proj/Gemm", "fc1/Gemm", "fc2/Gemm", "head/Gemm"}
    rows = np.concatenate([Simulation(graph).tensors(x[None], ["norm1/Add"])["norm1/Add"] for x in images])
    np.testing.assert_allclose(found["qkv/Gemm"], rows.T @ rows / len(rows), rtol=1e-4, atol=1e-5)
    assert found["stem/Conv"].shape == (27, 27)


@pytest.mark.parametrize("bits", [3, 4])
def test_a_whole_model_comes_closer_to_float(bits):
    graph, images = tiny_transformer(), tiny_images(64)
    plan = extremes(graph, images[:4])
    units = [u for u in graph.units.values() if u.weight]
    tensors = {u.weight: weight_plan(graph.weights[u.weight], Scheme("weight", bits, True, u.axis)) for u in units}
    from msedge.quantization.plan import NodePlan, Plan

    plan = Plan(graph.fingerprint, tensors, {u.name: NodePlan("weight") for u in units})
    rounded = round_weights(graph, plan, second_moments(graph, images[:48], units))
    for u in units:
        if u.name != "depthwise/Conv":
            kept = quantize_array(rounded.weights[u.weight], plan.tensors[u.weight])
            again = fake_quantize(rounded.weights[u.weight], plan.tensors[u.weight])
            np.testing.assert_allclose(again, rounded.weights[u.weight], rtol=1e-6)
            assert (kept != quantize_array(graph.weights[u.weight], plan.tensors[u.weight])).any()
    np.testing.assert_array_equal(rounded.weights["depthwise.weight"], graph.weights["depthwise.weight"])
    target = Simulation(graph).logits(images[48:])
    errors = [((Simulation(g).logits(images[48:], plan) - target) ** 2).mean() for g in (graph, rounded)]
    assert errors[1] < 0.8 * errors[0]
