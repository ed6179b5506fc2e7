"""Simulation: what is rounded, what is not, and how images go in."""

from dataclasses import replace

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from quant_tiny import extremes, tiny_images, tiny_transformer

from msedge.errors import ArtifactError, DataError, ModelError
from msedge.quantization.graph import ModelGraph
from msedge.quantization.onnx_simulation import Simulation
from msedge.quantization.plan import NodePlan, Plan, TensorPlan, fake_quantize
from msedge.quantization.scheme import Scheme


@pytest.fixture(scope="module")
def tiny():
    graph, images = tiny_transformer(), tiny_images(4)
    return graph, extremes(graph, images), images


def test_without_a_plan_it_is_the_float_model(tiny):
    graph, _, images = tiny
    session = ort.InferenceSession(graph.model.SerializeToString(), providers=["CPUExecutionProvider"])
    expected = np.concatenate([session.run(None, {"input": x[None]})[0] for x in images])
    np.testing.assert_allclose(Simulation(graph).logits(images), expected, atol=1e-6)


def test_one_int8_gemm_equals_integer_arithmetic(tiny):
    graph, plan, images = tiny
    unit = graph.units["qkv/Gemm"]
    plan = plan.with_float({n: "" for n in graph.units if n != unit.name})
    found = Simulation(graph).tensors(images[:1], [unit.inputs[0], unit.output], plan)
    x, w, out = (plan.tensors[t] for t in (unit.roots[0], unit.weight, unit.output))
    stored = np.clip(np.rint(found[unit.inputs[0]].astype(np.float64) / x.scale[0]) + x.zero_point[0], -128, 127)
    weight = np.rint(graph.weights[unit.weight].astype(np.float64) / np.array(w.scale)[:, None])
    bias = np.rint(graph.weights[unit.bias] / (x.scale[0] * np.array(w.scale)))
    total = (stored - x.zero_point[0]) @ weight.T + bias
    result = np.clip(np.rint(total * x.scale[0] * np.array(w.scale) / out.scale[0]) + out.zero_point[0], -128, 127)
    expected = (result - out.zero_point[0]) * out.scale[0]
    wrong = np.abs(found[unit.output] - expected) > 1e-5
    assert wrong.mean() < 0.01
    assert np.abs(found[unit.output] - expected).max() < 1.01 * out.scale[0]


def test_outputs_of_int8_nodes_are_on_their_grid_and_moved_tensors_keep_their_numbers(tiny):
    graph, plan, images = tiny
    found = Simulation(graph).tensors(images[:1], ["qkv/Gemm", "part0", "logits"], plan)
    for name in ("qkv/Gemm", "logits"):
        np.testing.assert_array_equal(found[name], fake_quantize(found[name], plan.tensors[name]))
    assert set(np.unique(found["part0"])) <= set(np.unique(found["qkv/Gemm"]))


def test_wide_plans_come_close_to_float_and_narrow_ones_do_not(tiny):
    graph, _, images = tiny
    simulation = Simulation(graph)
    target = simulation.logits(images)
    errors = [np.abs(simulation.logits(images, extremes(graph, images, Scheme(bits=b))) - target).max() for b in (4, 8, 16)]
    assert errors[0] > 2 * errors[1] > 2 * errors[2]


def test_weights_of_few_bits_and_groups(tiny):
    graph, _, images = tiny
    w = graph.weights["fc2.weight"]
    t = TensorPlan("weight", tuple(np.linspace(0.05, 0.2, len(w) * 3)), (0,) * (len(w) * 3), 4, True, 0, 4)
    plan = Plan(graph.fingerprint, {"fc2.weight": t}, {"fc2/Gemm": NodePlan("weight")})
    expected = Simulation(graph.with_weights({"fc2.weight": fake_quantize(w, t)})).logits(images)
    np.testing.assert_array_equal(Simulation(graph).logits(images, plan), expected)


def test_many_plans_one_after_another_do_not_mix(tiny):
    graph, plan, images = tiny
    simulation = Simulation(graph)
    plans = [plan.with_float({n: ""}) for n in graph.units]
    found = [simulation.logits(images, p) for p in plans]
    for p, logits in zip(plans, found, strict=True):
        np.testing.assert_array_equal(Simulation(graph).logits(images, p), logits)
    assert len(simulation._sessions) < len(plans)
    other = replace(plan, tensors=plan.tensors | {"fc1.weight": replace(plan.tensors["fc1.weight"], scale=(0.5,) * 12)})
    assert not np.array_equal(simulation.logits(images, other), simulation.logits(images, plan))


def test_a_batch_of_the_model_is_filled_up(tiny):
    graph, _, images = tiny
    model = onnx.ModelProto()
    model.CopyFrom(graph.model)
    nodes = [n for n in model.graph.node if n.name in ("stem/Conv", "stem/Sigmoid", "stem/Mul")]
    del model.graph.node[:], model.graph.output[:]
    model.graph.node.extend(nodes)
    model.graph.output.extend([onnx.helper.make_tensor_value_info("stem/Mul", 1, [3, 6, 4, 4])])
    model.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 3
    found = Simulation(ModelGraph(model)).logits(images)
    assert len(found) == 4
    single = Simulation(graph)
    for image, value in zip(images, found, strict=True):
        np.testing.assert_allclose(value, single.tensors(image[None], ["stem/Mul"])["stem/Mul"][0], atol=1e-6)


def test_progress_counts_images(tiny):
    import contextlib

    graph, _, images = tiny
    told = []
    Simulation(graph).logits(images, progress=lambda label, total: contextlib.nullcontext(lambda n: told.append((total, n))))
    assert told == [(4, n) for n in (1, 2, 3, 4)]


@pytest.mark.parametrize("shape", [(0, 3, 8, 8), (1, 3, 9, 8), (1, 1, 8, 8), (3, 8, 8)])
def test_images_of_another_shape_are_refused(tiny, shape):
    with pytest.raises(DataError, match="the model takes"):
        Simulation(tiny[0]).logits(np.zeros(shape, np.float32))


def test_unknown_tensors_and_foreign_plans_are_refused(tiny):
    graph, plan, images = tiny
    with pytest.raises(ModelError, match="no tensor 'nothing'"):
        Simulation(graph).tensors(images[:1], ["nothing"])
    with pytest.raises(ArtifactError, match="another model"):
        Simulation(graph).logits(images, replace(plan, graph="x"))
    missing = {n: t for n, t in plan.tensors.items() if n != "softmax"}
    with pytest.raises(ArtifactError, match="'softmax' of node 'mixed' is missing"):
        Simulation(graph).logits(images, replace(plan, tensors=missing))
