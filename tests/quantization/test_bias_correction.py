"""Bias correction: what a unit adds to the mean of its output, and taking it back."""

from dataclasses import replace

import numpy as np
from quant_tiny import extremes, tiny_images, tiny_transformer

from msedge.quantization.bias_correction import correct_biases, mean_errors
from msedge.quantization.onnx_simulation import Simulation
from msedge.quantization.plan import TensorPlan


def skewed():
    """A plan that cuts the top of what the stem writes and fc1 reads, and rounds every weight of fc1 down."""
    graph, images = tiny_transformer(), tiny_images(16)
    plan = extremes(graph, images)
    narrow = {n: replace(plan.tensors[n], scale=(plan.tensors[n].scale[0] * 0.4,)) for n in ("stem/Mul", "norm2/Add")}
    coarse = TensorPlan("weight", (0.4,) * 12, (0,) * 12, 8, True, 0)
    return graph, images, replace(plan, tensors=plan.tensors | narrow | {"fc1.weight": coarse})


def test_the_error_of_one_unit_is_its_change_of_mean():
    graph, images, plan = skewed()
    for name in ("depthwise/Conv", "fc1/Gemm"):
        unit = graph.units[name]
        alone = plan.with_float({n: "" for n in graph.units if n != name})
        wide = replace(alone.tensors[unit.output], scale=(alone.tensors[unit.output].scale[0] / 50,), bits=16)
        alone = replace(alone, tensors=alone.tensors | {unit.output: wide})
        axes = (0, 2, 3) if unit.op == "Conv" else (0,)
        means = [np.mean([Simulation(graph).tensors(x[None], [unit.output], p)[unit.output].mean(axes) for x in images], 0)
                 for p in (None, alone)]  # fmt: skip
        found = mean_errors(graph, plan, images)[name]
        assert np.abs(found).max() > 0.01
        np.testing.assert_allclose(found, means[0] - means[1], atol=0.02 * np.abs(found).max() + 1e-3)


def test_correction_takes_the_mean_error_back_and_the_logits_come_closer():
    graph, images, plan = skewed()
    fit, held = images[:12], tiny_images(24, seed=9)
    corrected = correct_biases(graph, mean_errors(graph, plan, fit))
    changed = {n for n, v in graph.weights.items() if not np.array_equal(v, corrected.weights[n])}
    assert changed and all(n.endswith(".bias") and "norm" not in n for n in changed)
    target = Simulation(graph).logits(held)
    errors = [((Simulation(g).logits(held, plan) - target) ** 2).mean() for g in (graph, corrected)]
    assert errors[1] < 0.8 * errors[0]


def test_only_named_units_and_only_int8_ones():
    graph, images, plan = skewed()
    errors = mean_errors(graph, plan.with_float({"fc2/Gemm": ""}), images)
    assert "fc2/Gemm" not in errors and "scores" not in errors and "fc1/Gemm" in errors
    one = correct_biases(graph, errors, ["fc1/Gemm"])
    assert [n for n, v in graph.weights.items() if not np.array_equal(v, one.weights[n])] == ["fc1.bias"]
    np.testing.assert_allclose(one.weights["fc1.bias"], graph.weights["fc1.bias"] + errors["fc1/Gemm"], rtol=1e-5)


def test_rounded_weights_are_judged_against_the_float_ones():
    graph, images, plan = skewed()
    stored = graph.with_weights({"fc1.weight": graph.weights["fc1.weight"] + 0.4})
    plain, shifted = (mean_errors(graph, plan, images, stored=s)["fc1/Gemm"] for s in (None, stored))
    means = np.mean([Simulation(graph).tensors(x[None], ["norm2/Add"])["norm2/Add"].mean(0) for x in images], 0)
    assert np.sign((plain - shifted).sum()) == np.sign(means.sum())
