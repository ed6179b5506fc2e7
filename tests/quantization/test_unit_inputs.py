"""Rows of a unit's input: times the weight they give the unit's output, for every kind of convolution."""

import numpy as np
import onnxruntime as ort
import pytest
from onnx import TensorProto, helper, numpy_helper
from quant_tiny import tiny_images, tiny_transformer

from msedge.quantization.graph import ModelGraph
from msedge.quantization.onnx_simulation import Simulation
from msedge.quantization.unit_inputs import input_rows, weight_from_rows, weight_rows


def convolution(shape, groups, strides=(1, 1), pads=(0, 0, 0, 0), dilations=(1, 1)):
    w = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    node = helper.make_node("Conv", ["x", "w"], ["y"], name="c", group=groups, strides=strides, pads=pads, dilations=dilations)
    values = [helper.make_tensor_value_info(n, TensorProto.FLOAT, s) for n, s in (("x", [2, 6, 9, 7]), ("y", None))]
    graph = helper.make_graph([node], "g", values[:1], values[1:], [numpy_helper.from_array(w, "w")])
    return ModelGraph(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=7))


@pytest.mark.parametrize(
    "settings",
    [
        {"shape": (4, 6, 1, 1), "groups": 1},
        {"shape": (4, 6, 3, 3), "groups": 1, "pads": (1, 1, 1, 1)},
        {"shape": (4, 6, 3, 2), "groups": 1, "strides": (2, 1), "pads": (0, 1, 2, 0)},
        {"shape": (4, 6, 2, 3), "groups": 1, "dilations": (2, 3), "pads": (1, 2, 1, 2)},
        {"shape": (6, 1, 3, 3), "groups": 6, "pads": (1, 1, 1, 1), "strides": (2, 2)},
        {"shape": (12, 1, 5, 5), "groups": 6, "pads": (2, 2, 2, 2)},
        {"shape": (4, 3, 3, 3), "groups": 2},
    ],
)
def test_rows_times_weight_is_the_convolution(settings):
    graph = convolution(**settings)
    x = np.random.default_rng(1).normal(size=(2, 6, 9, 7)).astype(np.float32)
    expected = ort.InferenceSession(graph.model.SerializeToString()).run(None, {"x": x})[0]
    unit = graph.units["c"]
    rows, w = input_rows(graph, unit, x), weight_rows(graph, unit)
    found = np.einsum("gpk,gok->gop", rows, w).reshape(expected.shape[1], 2, *expected.shape[2:]).swapaxes(0, 1)
    np.testing.assert_allclose(found, expected, atol=1e-4)
    np.testing.assert_array_equal(weight_from_rows(graph, unit, w), graph.weights["w"])


def test_every_unit_of_a_transformer():
    graph, image = tiny_transformer(), tiny_images(1)
    for unit in graph.units.values():
        if unit.weight:
            seen = Simulation(graph).tensors(image, [unit.inputs[0], unit.output])
            found = np.einsum("gpk,gok->pgo", input_rows(graph, unit, seen[unit.inputs[0]]), weight_rows(graph, unit))
            found = found.reshape(len(found), -1) + graph.weights[unit.bias]
            expected = seen[unit.output]
            expected = expected[0].reshape(len(expected[0]), -1).T if unit.op == "Conv" else expected
            np.testing.assert_allclose(found, expected, atol=1e-5)
