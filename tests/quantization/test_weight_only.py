"""Plans for few bits per weight: what they store, what they cost, and which settings they refuse."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from quant_weights import IMAGES, kinds_onnx

from msedge.errors import DataError, UserError
from msedge.quantization.graph import ModelGraph
from msedge.quantization.plan import fake_quantize, load_plan, quantize_array
from msedge.quantization.weight_only import make_weight_plan, noise_gains

NODES = {"conv", "depth", "deep", "point", "token", "head"}


@pytest.fixture(scope="module")
def graph(tmp_path_factory) -> ModelGraph:
    return ModelGraph.load(kinds_onnx(tmp_path_factory.mktemp("kinds") / "kinds.onnx"))


def stored_bits(graph: ModelGraph, plan) -> float:
    """The mean bits per weight of codes as short as can be (without tables); 16 where only float16 is as good."""
    bits = weights = 0.0
    for unit in graph.units.values():
        weight = graph.weights[unit.weight]
        weights += weight.size
        if unit.weight not in plan.tensors:
            bits += 32 * weight.size
            continue
        counts = np.unique(quantize_array(weight, plan.tensors[unit.weight]), return_counts=True)[1]
        bits += float(np.sum(counts * np.log2(counts.sum() / counts)))
    return bits / weights


@pytest.fixture(scope="module")
def expected_error(graph):
    """What the noise of a plan's weights does to the logits, on the average over noise like it (a single draw is luck)."""
    gains = noise_gains(graph, [u.weight for u in graph.units.values()], IMAGES, seed=1)

    def error(plan) -> float:
        lost = {n: fake_quantize(graph.weights[n], t).astype(np.float64) - graph.weights[n] for n, t in plan.tensors.items()}
        return sum(gains[n] * float(np.sum(np.square(d))) for n, d in lost.items())

    return error


@pytest.mark.parametrize("bits", [8, 6, 4, 3.5])
def test_entropy_plans_keep_within_their_bits(graph, bits):
    plan = make_weight_plan(graph, bits)
    plan.check(graph)
    assert set(plan.nodes) == NODES
    assert 0.6 * bits < stored_bits(graph, plan) <= bits
    assert all(t.axis is None and t.symmetric and len(t.scale) == 1 for t in plan.tensors.values())


def test_fewer_bits_cost_more(graph, expected_error):
    errors = [expected_error(make_weight_plan(graph, bits)) for bits in (8, 6, 4, 3)]
    assert errors == sorted(errors)
    assert errors[0] < errors[-1] / 50


def test_an_entropy_grid_beats_uniform_bits(graph, expected_error):
    """At the same number of bits per weight, or fewer."""
    entropy, uniform = make_weight_plan(graph, 4), make_weight_plan(graph, 4, group=32)
    assert stored_bits(graph, entropy) < stored_bits(graph, uniform) + 16 / 32  # scales
    assert expected_error(entropy) < expected_error(uniform)


def test_drawn_images_choose_about_as_well_as_given_ones(graph, expected_error):
    given, drawn = make_weight_plan(graph, 4, images=IMAGES), make_weight_plan(graph, 4)
    assert expected_error(drawn) < 1.5 * expected_error(given)


def test_plans_are_the_same_every_time(graph, tmp_path):
    plan = make_weight_plan(graph, 5)
    assert make_weight_plan(graph, 5) == plan
    plan.save(tmp_path / "plan.json")
    assert load_plan(tmp_path / "plan.json").to_dict() == plan.to_dict()


def test_gains_are_those_of_a_linear_model():
    """logits = W x: noise in one weight of row i changes logit i by its x, so the mean gain is the mean of x squared."""
    rng = np.random.default_rng(0)
    weight = rng.normal(size=(40, 48)).astype(np.float32)
    nodes = [
        helper.make_node("Flatten", ["x"], ["f"], name="flatten"),
        helper.make_node("Gemm", ["f", "w"], ["logits"], name="head", transB=1),
    ]
    ends = [helper.make_tensor_value_info(n, TensorProto.FLOAT, s) for n, s in (("x", [1, 3, 4, 4]), ("logits", [1, 40]))]
    model = helper.make_graph(nodes, "linear", ends[:1], ends[1:], [numpy_helper.from_array(weight, "w")])
    graph = ModelGraph(helper.make_model(model, opset_imports=[helper.make_opsetid("", 13)], ir_version=8))
    images = rng.normal(size=(4, 3, 4, 4)).astype(np.float32)
    gains = [noise_gains(graph, ["w"], images, seed)["w"] for seed in range(20)]
    assert np.mean(gains) == pytest.approx(float(np.mean(images**2)), rel=0.06)


def test_uniform_plans_have_scales_of_channels(graph):
    plan = make_weight_plan(graph, 8, grid="uniform")
    plan.check(graph)
    for name, axis, channels in (("w_deep", 0, 64), ("w_point", 0, 96), ("w_token", 1, 128)):
        t = plan.tensors[name]
        assert (t.bits, t.axis, t.group, len(t.scale)) == (8, axis, 0, channels)
    small = plan.tensors["w_conv"]
    assert (small.bits, small.axis) == (12, None)


def test_groups_divide_what_they_group(graph):
    plan = make_weight_plan(graph, 4, group=32)
    plan.check(graph)
    assert plan.tensors["w_token"].group == 32  # 96 inputs
    assert plan.tensors["w_point"].group == 32  # 64 inputs
    assert plan.tensors["w_deep"].group == 27  # three of 48 channels, kernels whole
    assert make_weight_plan(graph, 4, group=40).tensors["w_token"].group == 32


@pytest.mark.parametrize("bits", [3, 4])
def test_uniform_scales_lose_less_than_ranges_do(graph, bits):
    plan, error = make_weight_plan(graph, bits, grid="uniform"), {}
    weight, t = graph.weights["w_deep"], plan.tensors["w_deep"]
    peak = np.abs(weight).max((1, 2, 3), keepdims=True) / t.high
    error["range"] = np.sum(np.square(np.clip(np.rint(weight / peak), t.low, t.high) * peak - weight))
    error["plan"] = np.sum(np.square(fake_quantize(weight, t) - weight))
    assert error["plan"] < 0.95 * error["range"]


def test_named_nodes_stay_float(graph):
    plan = make_weight_plan(graph, 4, floats=["con*", "head"])
    assert plan.of("float") == ("conv", "head")
    assert "'con*'" in plan.nodes["conv"].why
    assert not {"w_conv", "w_head"} & set(plan.tensors)


def test_a_weight_that_a_float_node_shares_stays_float(tmp_path):
    model = onnx.load(str(kinds_onnx(tmp_path / "kinds.onnx")))
    twin = helper.make_node("MatMul", ["t1", "w_token"], ["twin"], name="twin")
    model.graph.node.insert(8, twin)
    model.graph.node.insert(9, helper.make_node("Add", ["t2", "twin"], ["both"], name="both"))
    next(n for n in model.graph.node if n.name == "token_bias").input[0] = "both"
    graph = ModelGraph(model)
    assert make_weight_plan(graph, 4).nodes["twin"].precision == "weight"
    plan = make_weight_plan(graph, 4, floats=["token"])
    assert {plan.nodes[n].precision for n in ("token", "twin")} == {"float"}
    assert "shares" in plan.nodes["twin"].why


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"bits": 0}, "cannot have 0 bits"),
        ({"bits": 1}, "cannot have 1 bits"),
        ({"bits": 17}, "cannot have 17 bits"),
        ({"bits": float("nan")}, "nan bits"),
        ({"bits": 4.5, "grid": "uniform"}, "4.5 bits"),
        ({"group": -32}, "a group of -32"),
        ({"group": 32, "grid": "entropy"}, "one scale per tensor"),
        ({"grid": "log"}, "no grid 'log'"),
        ({"floats": ["tail"]}, "is named 'tail'"),
    ],
)
def test_settings_that_make_no_sense(graph, settings, said):
    with pytest.raises(UserError, match=said) as e:
        make_weight_plan(graph, **settings)
    assert e.value.hint


@pytest.mark.parametrize(
    ("images", "said"),
    [
        (np.zeros((2, 3, 16, 16), np.float32), r"\[2, 3, 16, 16\]"),
        (np.zeros((0, 3, 32, 32), np.float32), r"\[0, 3, 32, 32\]"),
        (np.full((2, 3, 32, 32), np.nan, np.float32), "not finite"),
    ],
)
def test_images_that_do_not_fit(graph, images, said):
    with pytest.raises(DataError, match=said):
        make_weight_plan(graph, 4, images=images)
