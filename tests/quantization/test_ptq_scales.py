"""The scales of a plan: what is observed, per channel or not, and biases that must fit int32."""

import numpy as np
import pytest
from quant_tiny import tiny_images, tiny_transformer

from msedge.quantization.plan import NodePlan, Plan
from msedge.quantization.ptq_scales import activation_plans, channel_ranges, weight_plan, weight_plans, with_room_for_biases
from msedge.quantization.qdq import integer_bias
from msedge.quantization.scheme import Scheme


def test_everything_that_the_units_read_and_write_gets_a_scale():
    graph, images = tiny_transformer(), tiny_images(4)
    units = [graph.units[n] for n in ("qkv/Gemm", "scores", "fc1/Gemm")]
    found = activation_plans(graph, images, units, "minmax", Scheme())
    assert set(found) == {"norm1/Add", "qkv/Gemm", "scores", "norm2/Add", "fc1/Gemm"}
    assert all(t.problem() == "" and t.role == "activation" for t in found.values())


def test_what_gelu_kills_costs_no_range():
    graph, images = tiny_transformer(), tiny_images(16) * 4
    unit = graph.units["fc1/Gemm"]
    mse, extremes = (activation_plans(graph, images, [unit], o, Scheme())["fc1/Gemm"] for o in ("mse", "minmax"))
    lows = [(t.low - t.zero_point[0]) * t.scale[0] for t in (mse, extremes)]
    assert lows[0] > 0.8 * lows[1]
    assert mse.scale[0] < extremes.scale[0]


def test_a_tensor_of_zeros_is_told_and_gets_a_safe_scale():
    graph, images = tiny_transformer(), tiny_images(2)
    graph = graph.with_weights({"fc1.weight": np.zeros((12, 8)), "fc1.bias": np.zeros(12)})
    told = []
    found = activation_plans(graph, images, [graph.units["fc1/Gemm"]], "mse", Scheme(), told.append)
    assert told == ["the tensor 'fc1/Gemm' is 0 for every calibration image: it gets the range -1 to 1"]
    assert found["fc1/Gemm"].scale[0] == pytest.approx(2 / 255)


@pytest.mark.parametrize(("method", "per_channel"), [("mse", True), ("minmax", True), ("minmax", False), ("mse", False)])
def test_weights_are_symmetric_along_the_axis_of_outputs(method, per_channel):
    graph = tiny_transformer()
    for unit in (u for u in graph.units.values() if u.weight):
        t = weight_plans(graph, [unit], method, per_channel)[unit.weight]
        assert t.problem() == "" and t.symmetric and t.role == "weight"
        assert len(t.scale) == (graph.weights[unit.weight].shape[unit.axis] if per_channel else 1)
        largest = np.abs(np.moveaxis(graph.weights[unit.weight], unit.axis, 0)).reshape(len(t.scale), -1).max(1)
        share = np.array(t.scale) * 127 / largest
        assert (share <= (1.01 if method == "minmax" else 1.2)).all() and (share > (0.99 if method == "minmax" else 0.3)).all()


def test_an_output_channel_of_zeros_has_a_scale():
    w = np.array([[0.0, 0.0], [1.0, -2.0]])
    t = weight_plan(w, Scheme("weight", 8, True, 0))
    assert t.problem() == "" and t.scale[1] == pytest.approx(2 / 127, rel=0.05)


def test_a_large_bias_on_a_tiny_weight_fits_int32():
    graph, images = tiny_transformer(), tiny_images(2)
    w = graph.weights["fc1.weight"].copy()
    w[3] *= 1e-9
    graph = graph.with_weights({"fc1.weight": w, "fc1.bias": np.full(12, 5.0)})
    unit = graph.units["fc1/Gemm"]
    narrow = activation_plans(graph, images, [unit], "minmax", Scheme()) | weight_plans(graph, [unit], "minmax")
    tensors = with_room_for_biases(graph, [unit], narrow)
    plan = Plan(graph.fingerprint, tensors, {unit.name: NodePlan("int8")})
    scale, stored = integer_bias(graph, plan, unit)
    np.testing.assert_allclose(stored * scale, 5.0, rtol=1e-4)
    assert np.abs(stored).max() <= 2**30 * 1.001
    changed = np.array(tensors["fc1.weight"].scale) != np.array(narrow["fc1.weight"].scale)
    assert changed.tolist() == [i == 3 for i in range(12)]


def test_ranges_of_channels():
    graph, images = tiny_transformer(), tiny_images(3)
    from msedge.quantization.onnx_simulation import Simulation

    found = channel_ranges(graph, images, {"norm1/Add": -1, "stem/Conv": 1})
    seen = [Simulation(graph).tensors(x[None], ["norm1/Add", "stem/Conv"]) for x in images]
    np.testing.assert_array_equal(found["norm1/Add"], np.max([np.abs(s["norm1/Add"]).max(0) for s in seen], 0))
    np.testing.assert_array_equal(found["stem/Conv"], np.max([np.abs(s["stem/Conv"]).max((0, 2, 3)) for s in seen], 0))
