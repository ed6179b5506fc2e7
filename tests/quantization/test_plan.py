"""The plan's contract: what is refused, what is kept, and the numbers that all readers mean by it."""

from __future__ import annotations

import dataclasses
import json
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from quant_tiny import extremes, tiny_images, tiny_transformer

from msedge.errors import ArtifactError, ModelError
from msedge.quantization.graph import ModelGraph
from msedge.quantization.plan import TensorPlan, dequantize_array, fake_quantize, load_plan, quantize_array
from msedge.quantization.qdq import to_qdq


@pytest.fixture(scope="module")
def graph():
    return tiny_transformer()


@pytest.fixture(scope="module")
def plan(graph):
    return extremes(graph, tiny_images(4))


def test_what_is_saved_is_loaded(graph, plan, tmp_path):
    plan.save(tmp_path / "plan.json")
    assert load_plan(tmp_path / "plan.json") == plan
    plan.check(graph)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"scale": [0.0], "zero_point": [0]}, "scale 0.0; scales are finite and above 0"),
        ({"scale": [-1.0], "zero_point": [0]}, "scale -1.0"),
        ({"scale": [math.inf], "zero_point": [0]}, "scale inf"),
        ({"scale": [math.nan], "zero_point": [0]}, "scale nan"),
        ({"bits": 0}, "0 bits, not 2 to 16"),
        ({"bits": 17}, "17 bits, not 2 to 16"),
        ({"scale": [1.0], "zero_point": [200]}, "zero point 200, outside -128 to 127"),
        ({"scale": [1.0, 1.0], "zero_point": [0]}, "2 scales and 1 zero points"),
        ({"scale": [1.0, 1.0], "zero_point": [0, 0], "axis": None}, "2 scales and no axis"),
        ({"role": "gradient"}, "its role is 'gradient'"),
        ({"scale": "wide"}, "is damaged"),
        ({"colour": "red"}, "is damaged"),
    ],
)
def test_a_damaged_tensor_is_named(plan, tmp_path, change, message):
    file = tmp_path / "plan.json"
    document = plan.to_dict()
    name = next(n for n, t in plan.tensors.items() if t.role == "activation")
    document["tensors"][name] |= change
    file.write_text(json.dumps(document))
    with pytest.raises(ArtifactError) as caught:
        load_plan(file)
    assert message in str(caught.value)
    assert "damaged" in message or name in str(caught.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "plan.json"),
        ("[]", "plan.json"),
        ('{"format": "msedge.recipe"}', "is no quantisation plan"),
        ('{"format": "msedge.quantization_plan", "version": 9}', "has plan version 9"),
        ('{"format": "msedge.quantization_plan", "version": 1}', "is damaged"),
    ],
)
def test_files_that_are_no_plan(tmp_path, text, message):
    (tmp_path / "plan.json").write_text(text)
    with pytest.raises(ArtifactError, match=message):
        load_plan(tmp_path / "plan.json")


def test_a_plan_of_another_model_is_refused(plan):
    with pytest.raises(ArtifactError, match=r"belongs to another model|has no node"):
        plan.check(tiny_transformer(split=True))


def test_missing_tensors_and_unknown_nodes_are_named(graph, plan):
    unit = graph.units[plan.of("int8")[0]]
    without = dataclasses.replace(plan, tensors={n: t for n, t in plan.tensors.items() if n != unit.output})
    with pytest.raises(ArtifactError, match=f"'{unit.output}' of node .* is missing"):
        without.check(graph)
    with pytest.raises(ArtifactError, match="no node 'nothere'"):
        dataclasses.replace(plan, nodes={**plan.nodes, "nothere": plan.nodes[unit.name]}).check(graph)
    unknown = dataclasses.replace(plan.nodes[unit.name], precision="int9")
    with pytest.raises(ArtifactError, match=r"'int9'.*int8, weight, float"):
        dataclasses.replace(plan, nodes={**plan.nodes, unit.name: unknown}).check(graph)


def test_scales_that_do_not_fit_the_axis(graph, plan):
    unit = next(graph.units[n] for n in plan.of("int8") if graph.units[n].weight)
    short = dataclasses.replace(plan.tensors[unit.weight], scale=(0.1, 0.1), zero_point=(0, 0), axis=unit.axis)
    with pytest.raises(ArtifactError, match=r"has 2 scales, its axis . needs"):
        dataclasses.replace(plan, tensors={**plan.tensors, unit.weight: short}).check(graph)


def test_a_quantised_model_is_not_quantised_again(graph, plan):
    with pytest.raises(ModelError, match="quantised already"):
        ModelGraph(to_qdq(graph, plan))


@given(st.integers(2, 16), st.booleans(), st.sampled_from([None, 0, 1, 2]), st.sampled_from([0, 1, 3, 4]), st.integers(0, 999))
def test_stored_numbers_stay_in_range_and_real_ones_near(bits, symmetric, axis, group, seed):
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((3, 5, 4)).astype(np.float32)
    axis = 0 if group and axis is None else axis
    count = 1 if axis is None else x.shape[axis] * (-(-x.size // x.shape[axis] // group) if group else 1)
    scale = tuple((8 / 2**bits * rng.uniform(1, 1.5, count)).tolist())
    t = TensorPlan("weight", scale, (0,) * count, bits, symmetric, axis, group)
    assert t.problem() == ""
    stored = quantize_array(x, t)
    assert stored.shape == x.shape
    assert t.low <= stored.min()
    assert stored.max() <= t.high
    real = dequantize_array(stored, t)
    assert np.array_equal(real, fake_quantize(x, t))
    inside = np.abs(x) < min(scale) * (t.high - 1)
    assert np.abs(real - x)[inside].max(initial=0) <= max(scale) / 2 * 1.0001
    assert np.array_equal(quantize_array(real, t), stored)


def test_groups_run_along_the_rest_of_each_channel():
    x = np.arange(12, dtype=np.float32).reshape(2, 6)
    t = TensorPlan("weight", (1.0, 2.0, 1.0, 4.0), (0,) * 4, 8, True, 0, 4)
    assert quantize_array(x, t).tolist() == [[0, 1, 2, 3, 2, 2], [6, 7, 8, 9, 2, 3]]


def test_followed_movement_shares_a_scale(graph):
    products = [u for u in graph.units.values() if len(u.inputs) == 2]
    assert products
    assert all(
        graph.maker(r) is None or graph.maker(r).op_type not in ("Reshape", "Transpose") for u in products for r in u.roots
    )
