"""Exported graphs as MindSpore cells, against onnxruntime: in float, and as plans say."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import helper
from quant_qat import export_small, extremes_plan, small_images, weight_plan
from small_models import small_onnx

from msedge.errors import DataError, ModelError
from msedge.quantization.cell import GraphCell, simulate
from msedge.quantization.cell.patterns import find_steps
from msedge.quantization.graph import ModelGraph
from msedge.quantization.onnx_simulation import Simulation
from msedge.quantization.plan import TensorPlan

OWN = ("mobilevit_xxs", "tiny_vit_5m", "swin_nano", "poolformer_s12")


@pytest.fixture(scope="module")
def graphs(tmp_path_factory):
    """Exports of narrow models by name, each made once."""
    made = {}

    def get(name: str) -> ModelGraph:
        if name not in made:
            made[name] = export_small(name, tmp_path_factory.mktemp(name))
        return made[name]

    return get


def cosine(a: np.ndarray, b: np.ndarray) -> float:
    return float((a * b).sum() / np.sqrt((a * a).sum() * (b * b).sum()))


def assert_float(graph: ModelGraph, images: np.ndarray) -> None:
    expected = Simulation(graph).logits(images)
    assert abs(expected).max() > 1e-3
    assert simulate(graph, None, images) == pytest.approx(expected, abs=1e-4 * max(1.0, abs(expected).max()))


@pytest.mark.parametrize("name", OWN)
def test_float_cells_are_onnxruntimes(graphs, name):
    assert_float(graphs(name), small_images(name, 3))


@pytest.mark.slow
@pytest.mark.parametrize("name", ["efficientformer_l1", "vit_tiny"])
def test_float_cells_of_the_other_families(graphs, name):
    assert_float(graphs(name), small_images(name, 3))


@pytest.mark.slow
@pytest.mark.parametrize("name", ["resnet18", "mobilenet_v3_small_100"])
def test_float_cells_of_the_zoo(name, tmp_path):
    from families import scatter

    from msedge.exporter.stage import export_cell
    from msedge.models import create_model, spec_of

    model = create_model(f"mindcv:{name}", 3, 64)
    scatter(model)
    export_cell(model, spec_of(model, ("a", "b", "c")), tmp_path, batch=2, golden=2)
    images = np.random.default_rng(0).standard_normal((2, 3, 64, 64)).astype(np.float32)
    assert_float(ModelGraph.load(tmp_path / "model.onnx"), images)


STEPS = {
    "mobilevit_xxs": (("LayerNorm", "Silu"), ("Sigmoid", "ReduceMean", "Sqrt", "Pow")),
    "tiny_vit_5m": (("LayerNorm", "Gelu"), ("ReduceMean", "Sqrt", "Pow")),
    "poolformer_s12": (("LayerNorm", "Gelu", "Spread"), ("ReduceMean", "Erf")),
}


@pytest.mark.parametrize("name", STEPS)
def test_groups_of_nodes_are_found(graphs, name):
    steps = find_steps(graphs(name))
    found, (groups, parts) = {s.op for s in steps}, STEPS[name]
    assert found.issuperset(groups)
    assert not found & set(parts)
    made = {graphs(name).input, *graphs(name).weights}
    for step in steps:
        assert made.issuperset(step.inputs)
        made |= {step.output, *step.also}


@pytest.mark.parametrize("name", ["mobilevit_xxs", "poolformer_s12"])
def test_int8_nodes_one_by_one(graphs, name):
    """A value near a tie may round the other way, and each layer of rounding makes more of such differences: compared is
    what a single node does."""
    graph, images = graphs(name), small_images(name, 2)
    whole, simulation = extremes_plan(graph, images), Simulation(graph)
    in_float = simulation.logits(images)
    for unit in list(graph.units)[1::9]:
        plan = whole.with_float({n: "" for n in graph.units if n != unit})
        expected = simulation.logits(images, plan)
        error = abs(expected - in_float).max()
        assert error > 0
        assert abs(simulate(graph, plan, images) - expected).max() < 0.5 * error + 1e-5, unit


@pytest.mark.parametrize("name", OWN)
def test_whole_int8_plans(graphs, name):
    graph, images = graphs(name), small_images(name, 8)
    plan, simulation = extremes_plan(graph, images[:2]), Simulation(graph)
    expected, in_float = simulation.logits(images, plan), simulation.logits(images)
    ours = simulate(graph, plan, images)
    assert cosine(ours, expected) >= 0.998
    assert np.sqrt(((ours - in_float) ** 2).mean()) < 1.5 * np.sqrt(((expected - in_float) ** 2).mean())


@pytest.mark.parametrize(("bits", "group"), [(8, 0), (4, 8)])
def test_weights_alone(graphs, bits, group):
    graph, images = graphs("swin_nano"), small_images("swin_nano", 4)
    plan = weight_plan(graph, bits, group)
    expected = Simulation(graph).logits(images, plan)
    assert abs(expected - Simulation(graph).logits(images)).max() > 1e-4
    assert simulate(graph, plan, images) == pytest.approx(expected, abs=2e-3 * abs(expected).max())


def test_nodes_in_float_stay_so(graphs):
    """An int8 plan with all nodes but one in float changes as little as that one does."""
    graph, images = graphs("swin_nano"), small_images("swin_nano", 2)
    last = list(graph.units)[-1]
    plan = extremes_plan(graph, images, tuple(n for n in graph.units if n != last))
    ours, expected = simulate(graph, plan, images), Simulation(graph).logits(images, plan)
    step = plan.tensors[graph.output].scale[0]
    assert abs(ours - expected).max() <= 1.01 * step
    assert np.allclose(ours / step, np.rint(ours / step), atol=1e-2)


def test_scales_survive_the_way_through_the_cell(graphs):
    graph = graphs("swin_nano")
    plan = extremes_plan(graph, small_images("swin_nano", 2))
    for learned in ("lsq", "ema"):
        kept = GraphCell(graph, plan, learn=True, learned=learned).tensors()
        assert kept.keys() == plan.tensors.keys()
        for name, t in kept.items():
            assert t.scale == pytest.approx(plan.tensors[name].scale, rel=1e-5), name
            assert t.zero_point == plan.tensors[name].zero_point


def test_what_is_learned(graphs):
    graph = graphs("swin_nano")
    cell = GraphCell(graph, extremes_plan(graph, small_images("swin_nano", 2)), learn=True)
    learned = {p.name for p in cell.get_parameters() if p.requires_grad}
    units = [u for u in graph.units.values() if u.weight]
    assert learned > {u.weight for u in units} | {u.bias for u in units if u.bias} | {f"{u.weight}:scale" for u in units}
    constants = [n for n in graph.weights if n.endswith(("/epsilon", "/two", "/root", "/constant"))]
    assert constants
    assert not learned & set(constants)
    assert not [p for p in GraphCell(graph).get_parameters() if p.requires_grad]


def test_a_small_graph_of_another_maker(tmp_path):
    """Gemm with an untransposed weight, Flatten, parameters with names of their own."""
    graph = ModelGraph.load(small_onnx(tmp_path / "small.onnx", batch=2))
    images = np.random.default_rng(0).standard_normal((5, 3, 32, 32)).astype(np.float32)
    assert_float(graph, images)
    plan = extremes_plan(graph, images[:2])
    assert simulate(graph, plan, images) == pytest.approx(Simulation(graph).logits(images, plan), abs=0.02)


def test_unknown_operators_are_named(tmp_path):
    model = onnx.load(small_onnx(tmp_path / "small.onnx"))
    at = next(i for i, n in enumerate(model.graph.node) if n.name == "relu2")
    model.graph.node[at].CopyFrom(helper.make_node("Selu", ["c2"], ["r2"], name="odd"))
    with pytest.raises(ModelError, match=r"the node 'odd' is a Selu, which the quantised graph cannot train \(leave out QAT"):
        GraphCell(ModelGraph(model))


def test_wrong_input_is_refused(tmp_path):
    graph = ModelGraph.load(small_onnx(tmp_path / "small.onnx"))
    images = np.zeros((2, 3, 32, 32), np.float32)
    plan = extremes_plan(graph, images[:1] + 1)
    with pytest.raises(DataError, match=r"images are \[2, 3, 16, 16\], the model takes \['N', 3, 32, 32\]"):
        simulate(graph, None, images[:, :, :16, :16])
    del plan.tensors["c1"]
    with pytest.raises(ModelError, match="the plan has no tensor 'c1'"):
        GraphCell(graph, plan)
    plan.tensors["c1"] = TensorPlan("activation", (0.1, 0.2), (0, 0), axis=1)
    with pytest.raises(ModelError, match="the activation 'c1' has 2 scales"):
        GraphCell(graph, plan)
    plan.tensors["c1"] = TensorPlan("activation", (0.1,), (0,))
    plan.tensors["w1"] = TensorPlan("weight", (0.1,), (3,))
    with pytest.raises(ModelError, match="the weight 'w1' is not symmetric"):
        GraphCell(graph, plan)
    dynamic = ModelGraph.load(small_onnx(tmp_path / "dynamic.onnx", batch="N"))
    with pytest.raises(ModelError, match="no fixed shape"):
        GraphCell(dynamic)
