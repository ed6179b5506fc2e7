"""Errors of nodes: simulated, in the real runtime, and kernels against exact arithmetic."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
from quant_judged import coarsened, judged_images, judged_model
from rich.console import Console
from small_models import noise, small_onnx

from msedge.errors import ArtifactError, DataError, ModelError
from msedge.lite import ConvertRequest
from msedge.quantization.divergence import Agreement, first_divergence
from msedge.quantization.graph import ModelGraph
from msedge.quantization.layer_report import clipped_share, layer_report, range_of
from msedge.quantization.layer_table import table
from msedge.quantization.ms_int8 import rewrite_int8
from msedge.quantization.node_values import RuntimeNodes
from msedge.quantization.onnx_simulation import Simulation
from msedge.quantization.plan import TensorPlan
from msedge.runtime.lite_runner import LiteRunner
from msedge.verification.metrics import sqnr_db


@pytest.fixture(scope="module")
def judged():
    graph, plan = judged_model()
    return Simulation(graph), plan, judged_images(4)


@pytest.fixture(scope="module")
def float_ms(judged, toolchain, tmp_path_factory):
    folder = tmp_path_factory.mktemp("judged")
    (folder / "model.onnx").write_bytes(judged[0].graph.model.SerializeToString())
    toolchain.convert(ConvertRequest(folder / "model.onnx", folder / "float.ms", "ONNX"))
    return folder / "float.ms"


@pytest.fixture
def opened(toolchain):
    """opened(file, graph, plan=None) gives the nodes of a `.ms`; all are closed at the end."""
    runners = []

    def open_nodes(file, graph, plan=None) -> RuntimeNodes:
        runners.append(LiteRunner(file, None, 1, toolchain))
        return RuntimeNodes(runners[-1], graph, plan)

    yield open_nodes
    for runner in runners:
        runner.close()


@pytest.fixture
def int8_nodes(judged, float_ms, opened, tmp_path):
    """int8_nodes(plan, read_by=plan): the float `.ms` rewritten by `plan`, loaded."""

    def make(plan, read_by=None) -> RuntimeNodes:
        graph = judged[0].graph
        (tmp_path / "int8.ms").write_bytes(rewrite_int8(float_ms.read_bytes(), graph, plan).data)
        return opened(tmp_path / "int8.ms", graph, read_by or plan)

    return make


def test_errors_are_those_of_the_simulation(judged):
    simulation, plan, images = judged
    report = layer_report(simulation, plan, images)
    assert [e.name for e in report.nodes] == list(simulation.graph.units)
    error = next(e for e in report.nodes if e.name == "fc1/Gemm")
    unit = simulation.graph.units["fc1/Gemm"]
    a, b = ([simulation.tensors(x[None], [unit.output], p)[unit.output] for x in images] for p in (None, plan))
    assert error.sqnr_db == pytest.approx(sqnr_db(np.stack(a), np.stack(b)), abs=1e-6)
    assert error.seen == pytest.approx((np.min(a), np.max(a)))
    assert error.calibrated == pytest.approx(range_of(plan.tensors[unit.output]))
    assert 0.9 < error.cosine <= 1
    assert report.worst(2)[0].sqnr_db == min(e.sqnr_db for e in report.nodes)
    assert error.runtime_db is error.kernel_steps is None
    document = json.loads(json.dumps(report.to_dict()))
    assert document["nodes"][0]["name"] == "stem/Conv"


def test_a_spoiled_node_is_the_first_to_part_and_clipping_is_counted(judged):
    simulation, plan, images = judged
    unit = simulation.graph.units["proj/Gemm"]
    report = layer_report(simulation, coarsened(plan, unit.output, 60), images)
    before = {e.name: e.sqnr_db for e in layer_report(simulation, plan, images).nodes}
    assert next(e.name for e in report.nodes if e.sqnr_db < before[e.name] - 6) == "proj/Gemm"
    assert report.first_below("sqnr_db", -300) is None
    lowest = report.worst(1)[0].sqnr_db
    assert report.first_below("sqnr_db", lowest + 1e-6) == report.worst(1)[0]
    small = replace(plan.tensors[unit.output], scale=(plan.tensors[unit.output].scale[0] / 4,))
    clipping = layer_report(simulation, replace(plan, tensors={**plan.tensors, unit.output: small}), images)
    found = next(e for e in clipping.nodes if e.name == "proj/Gemm")
    assert found.clipped > 0.05
    readers = [e for e in clipping.nodes if unit.output in simulation.graph.units[e.name].roots]
    assert all(e.input_clipped == found.clipped for e in readers)


def test_float_and_weight_nodes_have_no_range(judged):
    simulation, plan, images = judged
    mixed = plan.with_float({"stem/Conv": "asked for"})
    nodes = {e.name: e for e in layer_report(simulation, mixed, images).nodes}
    assert nodes["stem/Conv"].calibrated is None
    assert nodes["stem/Conv"].sqnr_db == 200
    assert "stem/Conv" not in [e.name for e in layer_report(simulation, mixed, images).worst(99)]


def test_shares_and_ranges():
    t = TensorPlan("activation", (0.5,), (-128,))
    assert range_of(t) == (0, 127.5)
    assert clipped_share(np.array([-1, -0.2, 0, 127.5, 127.7, 128]), t) == pytest.approx(2 / 6)
    agreement = Agreement()
    assert agreement.db is None and agreement.cosine is None
    agreement.add(np.ones(4), np.array([1, 1, 1, np.nan]))
    assert (agreement.db, agreement.cosine) == (-200, 0)


@pytest.mark.lite
def test_the_real_runtime_computes_what_the_plan_says(judged, int8_nodes):
    simulation, plan, images = judged
    report = layer_report(simulation, plan, images, int8_nodes(plan))
    int8 = [e for e in report.nodes if e.kernel_steps is not None]
    assert len(int8) >= 8
    assert max(e.kernel_steps for e in int8) <= 1
    assert report.wrong_kernels == []
    for e in report.nodes:
        assert e.runtime_db == pytest.approx(e.sqnr_db, abs=6), e
        assert e.simulation_db > e.runtime_db - 6
    text = Console(width=200, file=None)
    with text.capture() as caught:
        text.print(table(report, report.worst(3)))
    assert report.worst(1)[0].name in caught.get()
    assert "kernel steps" in caught.get()


@pytest.mark.lite
def test_a_kernel_that_computes_something_else_is_named(judged, int8_nodes):
    """A `.ms` with one wrong scale stands for a wrong kernel: what follows computes right on the wrong numbers."""
    simulation, plan, images = judged
    wrong = coarsened(plan, simulation.graph.units["fc1/Gemm"].output, 1.25)
    report = layer_report(simulation, plan, images, int8_nodes(wrong, read_by=plan))
    assert [e.name for e in report.wrong_kernels] == ["fc1/Gemm"]


@pytest.mark.lite
def test_first_divergence_against_float_ms_and_simulation(judged, int8_nodes, float_ms, opened):
    simulation, plan, images = judged
    graph = simulation.graph
    bad = coarsened(plan, graph.units["qkv/Gemm"].output, 100)
    nodes, reference = int8_nodes(bad), opened(float_ms, graph)
    found = first_divergence(nodes, reference, images[:2], limit=5)
    names = [name for name, _, _ in found.trail]
    assert names.index("qkv/Gemm") > names.index("stem/Conv")
    assert found.node == "qkv/Gemm"
    assert {"Softmax", "Conv2DFusion", "MatMulFusion"} <= {kind for _, kind, _ in found.trail}
    units = first_divergence(nodes, simulation, images[:2], limit=5)
    assert units.node == "qkv/Gemm"
    assert {name for name, _, _ in units.trail} == set(graph.units)
    json.dumps(found.to_dict())


@pytest.mark.lite
def test_float_ms_does_not_part_from_float_onnx(judged, float_ms, opened):
    simulation, _, images = judged
    found = first_divergence(opened(float_ms, simulation.graph), simulation, images[:2], limit=80)
    assert found.node is None
    assert len(found.trail) == len(simulation.graph.units)


@pytest.mark.lite
def test_activations_that_the_converter_fused_are_followed(ms_file, onnx_file, opened):
    """Convolutions with ReLU: the runtime's node gives what stands behind the ReLU."""
    graph = ModelGraph.load(onnx_file)
    nodes = opened(ms_file, graph)
    assert nodes.tensor_of == {"conv1": "r1", "conv2": "r2", "head": "logits"}
    found = first_divergence(nodes, Simulation(graph), noise(1, 32), limit=80)
    assert [name for name, _, _ in found.trail] == ["conv1", "conv2", "head"]
    assert found.node is None


@pytest.mark.lite
def test_a_ms_of_another_model_and_no_images(judged, ms_file, opened, tmp_path):
    simulation, plan, images = judged
    nodes = opened(ms_file, simulation.graph, plan)
    with pytest.raises(ModelError, match="has no node of the ONNX model"):
        nodes.trace(noise(1, 32))
    with pytest.raises(DataError, match="no images to measure"):
        layer_report(simulation, plan, images[:0])
    other = ModelGraph.load(small_onnx(tmp_path / "wide.onnx", classes=5))
    with pytest.raises(ArtifactError, match=r"no node .* that can be quantised"):
        layer_report(Simulation(other), plan, images)
    same_names = opened(ms_file, other)
    with pytest.raises(ModelError, match="the node 'head' of the"):
        first_divergence(same_names, Simulation(other), noise(1, 32))
