"""The QDQ form against NumPy, node by node, and what onnxruntime and OpenVINO make of it."""

import os
import subprocess
import sys
from collections import Counter
from dataclasses import replace

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import numpy_helper
from quant_tiny import extremes, tiny_images, tiny_transformer

from msedge.errors import ArtifactError
from msedge.quantization.onnx_simulation import Simulation
from msedge.quantization.plan import NodePlan, TensorPlan, dequantize_array, fake_quantize, quantize_array
from msedge.quantization.qdq import integer_bias, to_fake_quantized, to_qdq
from msedge.quantization.scheme import Scheme


@pytest.fixture(scope="module")
def tiny():
    graph, images = tiny_transformer(), tiny_images(8)
    return graph, extremes(graph, images), images


def run(model: onnx.ModelProto, images: np.ndarray, level: str = "ORT_DISABLE_ALL", **options) -> np.ndarray:
    o = ort.SessionOptions()
    o.graph_optimization_level = getattr(ort.GraphOptimizationLevel, level)
    o.log_severity_level = 4
    for key, value in options.items():
        setattr(o, key, value)
    session = ort.InferenceSession(model.SerializeToString(), o, providers=["CPUExecutionProvider"])
    return np.concatenate([session.run(None, {"input": x[None]})[0] for x in images])


@pytest.mark.parametrize("unsigned", [True, False])
def test_it_is_valid_onnx_and_computes_what_the_simulation_does(tiny, unsigned):
    graph, plan, images = tiny
    model = to_qdq(graph, plan, unsigned)
    onnx.checker.check_model(model, full_check=True)
    np.testing.assert_allclose(run(model, images), Simulation(graph).logits(images, plan), atol=1e-6)


def test_weights_and_biases_are_stored_as_integers(tiny):
    graph, plan, _ = tiny
    stored = {i.name: numpy_helper.to_array(i) for i in to_qdq(graph, plan).graph.initializer}
    weight = stored["qkv.weight/stored"]
    assert weight.dtype == np.int8
    np.testing.assert_array_equal(weight, quantize_array(graph.weights["qkv.weight"], plan.tensors["qkv.weight"]))
    bias, unit = stored["qkv/Gemm/bias/stored"], graph.units["qkv/Gemm"]
    scale = plan.tensors[unit.roots[0]].scale[0] * np.array(plan.tensors[unit.weight].scale)
    assert bias.dtype == np.int32
    np.testing.assert_array_equal(bias, np.rint(graph.weights[unit.bias] / scale))
    assert not {"qkv.weight", "qkv.bias"} & set(stored)


def test_one_pair_serves_all_readers_and_float_readers_keep_the_float_tensor(tiny):
    graph, plan, _ = tiny
    model = to_qdq(graph, plan.with_float({"depthwise/Conv": "test"}))
    readers = Counter(i for n in model.graph.node for i in n.input)
    assert readers["stem/Mul"] == 1  # the depthwise convolution reads what was never stored
    made = Counter(o for n in model.graph.node for o in n.output)
    assert max(made.values()) == 1
    assert next(n for n in model.graph.node if n.name == "depthwise/Conv").input[0] == "stem/Mul"
    assert [n.op_type for n in model.graph.node if "stem/Conv" in n.output] == ["DequantizeLinear"]


def test_onnxruntime_fuses_every_node_into_integer_kernels(tiny, tmp_path):
    graph, plan, images = tiny
    file = tmp_path / "optimised.onnx"
    fused = run(to_qdq(graph, plan), images, "ORT_ENABLE_ALL", optimized_model_filepath=str(file))
    ops = Counter(n.op_type for n in onnx.load(str(file)).graph.node)
    assert not ops["Conv"] + ops["Gemm"] + ops["MatMul"] + ops["FusedMatMul"]
    assert (ops["QLinearConv"], ops["QGemm"], ops["QLinearMatMul"]) == (3, 5, 2)
    simulated = Simulation(graph).logits(images, plan)
    assert np.abs(fused - simulated).max() < 0.05 * np.abs(simulated).max()  # one step here and there


OPENVINO = """
import sys
import numpy, openvino
model, images, out = sys.argv[1:]
compiled = openvino.Core().compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": 1})
request = compiled.create_infer_request()
found = [request.infer([x[None]])[compiled.outputs[0]].copy() for x in numpy.load(images)]
numpy.save(out, numpy.concatenate(found))
"""


def test_openvino_runs_it(tiny, tmp_path):
    """In a process of its own, without the limit that MindSpore's oneDNN needs: under it OpenVINO's int8 kernels crash."""
    graph, plan, images = tiny
    model, given, out = tmp_path / "m.onnx", tmp_path / "x.npy", tmp_path / "y.npy"
    onnx.save(to_qdq(graph, plan), model)
    np.save(given, images)
    free = {name: value for name, value in os.environ.items() if not name.startswith("ONEDNN_")}
    subprocess.run([sys.executable, "-c", OPENVINO, model, given, out], check=True, capture_output=True, env=free)
    simulated = Simulation(graph).logits(images, plan)
    assert np.abs(np.load(out) - simulated).max() < 0.05 * np.abs(simulated).max()


def test_weight_only_nodes_keep_float_arithmetic(tiny):
    graph, plan, images = tiny
    plan = replace(plan, nodes={n: NodePlan("weight" if u.weight else "float") for n, u in graph.units.items()})
    model = to_qdq(graph, plan)
    assert "QuantizeLinear" not in {n.op_type for n in model.graph.node}
    kept = {u.weight: fake_quantize(graph.weights[u.weight], plan.tensors[u.weight]) for u in graph.units.values() if u.weight}
    np.testing.assert_allclose(run(model, images), Simulation(graph.with_weights(kept)).logits(images), atol=1e-6)


def test_weights_in_groups_become_floats_where_arithmetic_is_float_and_are_refused_in_int8(tiny):
    graph, plan, images = tiny
    w = graph.weights["fc1.weight"]
    grouped = TensorPlan("weight", (0.05,) * (len(w) * 2), (0,) * (len(w) * 2), 4, True, 0, group=4)
    plan = replace(plan, tensors=plan.tensors | {"fc1.weight": grouped})
    with pytest.raises(ArtifactError, match=r"int8 node 'fc1/Gemm' has its weight in groups of 4"):
        to_qdq(graph, plan)
    only = replace(plan, nodes={n: NodePlan("weight" if n == "fc1/Gemm" else "float") for n in graph.units})
    expected = Simulation(graph.with_weights({"fc1.weight": fake_quantize(w, grouped)})).logits(images)
    np.testing.assert_allclose(run(to_qdq(graph, only), images), expected, atol=1e-6)


@pytest.mark.parametrize("bits", [2, 5, 8, 12, 16])
@pytest.mark.parametrize("symmetric", [True, False])
def test_a_stored_activation_equals_numpy_at_any_width_and_beyond_the_range(bits, symmetric):
    graph, images = tiny_transformer(), tiny_images(2)
    plan = extremes(graph, images, Scheme(bits=bits, symmetric=symmetric))
    plan = plan.with_float({n: "" for n in graph.units if n != "fc1/Gemm"})
    wild = images * 5
    name = graph.units["fc1/Gemm"].roots[0]
    session = ort.InferenceSession(to_fake_quantized(graph, plan, outputs=(f"{name}/quantized",)).SerializeToString())
    for image in wild:
        expected = fake_quantize(Simulation(graph).tensors(image[None], [name])[name], plan.tensors[name])
        found = session.run([f"{name}/quantized"], {"input": image[None]})[0]
        assert np.abs(found - expected).max() < 1.001 * plan.tensors[name].scale[0]
        assert np.mean(np.abs(found - expected) > 1e-6 * np.abs(expected).max()) < 0.01  # halves of float32 only


def test_a_bias_beyond_int32_is_clipped_and_not_wrapped(tiny):
    graph, plan, _ = tiny
    unit = graph.units["fc1/Gemm"]
    graph = graph.with_weights({unit.bias: np.full(12, 1e30, np.float32)})
    _, stored = integer_bias(graph, plan, unit)
    assert (stored == 2**31 - 1).all()


def test_a_plan_for_another_model_is_refused(tiny):
    _, plan, _ = tiny
    with pytest.raises(ArtifactError, match="belongs to another model"):
        to_qdq(tiny_transformer(), replace(plan, graph="0" * 64))


def test_stored_numbers_come_back(tiny):
    graph, plan, _ = tiny
    t = plan.tensors["qkv.weight"]
    w = graph.weights["qkv.weight"]
    np.testing.assert_array_equal(dequantize_array(quantize_array(w, t), t), fake_quantize(w, t))
