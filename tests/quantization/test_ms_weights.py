"""Weights in few bits, run by the real Lite runtime: what it computes is what the plan says."""

from __future__ import annotations

import numpy as np
import pytest
from quant_weights import IMAGES, kinds_onnx

from msedge.errors import ArtifactError
from msedge.lite import ConvertRequest
from msedge.lite.ms_file import read_ms
from msedge.quantization.graph import ModelGraph
from msedge.quantization.ms_int8 import rewrite_int8
from msedge.quantization.ms_weights import decoded, rewrite_weights
from msedge.quantization.onnx_simulation import Simulation
from msedge.quantization.plan import NodePlan, Plan, TensorPlan, fake_quantize
from msedge.quantization.ptq import PtqSettings, make_plan
from msedge.quantization.weight_only import make_weight_plan


@pytest.fixture(scope="module")
def model(toolchain, tmp_path_factory) -> tuple[ModelGraph, bytes]:
    folder = tmp_path_factory.mktemp("kinds")
    onnx_file = kinds_onnx(folder / "kinds.onnx")
    toolchain.convert(ConvertRequest(onnx_file, folder / "kinds.ms", "ONNX"))
    return ModelGraph.load(onnx_file), (folder / "kinds.ms").read_bytes()


@pytest.fixture
def run(toolchain, tmp_path):
    """Logits of a `.ms` in the real runtime."""

    def run(ms: bytes) -> np.ndarray:
        file = tmp_path / "model.ms"
        file.write_bytes(ms)
        with toolchain.load(file) as session:
            return np.concatenate([session.predict(x[None]) for x in IMAGES])

    return run


def plan_of(graph: ModelGraph, **tensors: TensorPlan) -> Plan:
    """Only these weights, everything else float."""
    nodes = {u.name: NodePlan("weight" if u.weight in tensors else "float") for u in graph.units.values()}
    return Plan(graph.fingerprint, tensors, nodes)


def cosine(a: np.ndarray, b: np.ndarray) -> float:
    return float(np.min(np.sum(a * b, 1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1)))


@pytest.mark.parametrize(
    "settings",
    [{"bits": 8}, {"bits": 6}, {"bits": 4}, {"bits": 8, "grid": "uniform"}, {"bits": 3, "grid": "uniform"},
     {"bits": 4, "group": 32}, {"bits": 4, "group": 96}, {"bits": 4, "floats": ["deep"]}],
    ids=str,
)  # fmt: skip
def test_the_runtime_computes_what_the_plan_says(model, run, settings):
    graph, ms = model
    plan = make_weight_plan(graph, **settings)
    done = rewrite_weights(ms, graph, plan)
    assert not done.kept_float
    assert set(done.stored) == {graph.units[n].weight for n in plan.of("weight")}
    assert cosine(run(done.data), Simulation(graph).logits(IMAGES, plan)) > 0.999999
    deep = done.stored.get("w_deep")
    assert deep is None or deep.size < (settings["bits"] + 2) / 8 * deep.elements


@pytest.mark.parametrize(
    ("weight", "form"),
    [("w_deep", "codes, scaled output"), ("w_point", "codes, scaled output"), ("w_token", "codes, scaled output"),
     ("w_depth", "codes, scaled output"), ("w_conv", "codes, scaled weight")],
)  # fmt: skip
def test_scales_of_channels(model, run, weight, form):
    """A ScaleFusion after the node; a Mul before it where the converter fused an activation into it."""
    graph, ms = model
    axis = next(u.axis for u in graph.units.values() if u.weight == weight)
    rest = tuple(i for i in range(graph.weights[weight].ndim) if i != axis)
    scale = np.abs(graph.weights[weight]).max(rest) / 7
    t = TensorPlan("weight", tuple(scale.tolist()), (0,) * len(scale), 4, True, axis)
    plan = plan_of(graph, **{weight: t})
    done = rewrite_weights(ms, graph, plan)
    assert done.stored[weight].form == form
    assert cosine(run(done.data), Simulation(graph).logits(IMAGES, plan)) > 0.999999


@pytest.mark.parametrize(("weight", "group"), [("w_deep", 9 * 8), ("w_deep", 9 * 24), ("w_point", 16), ("w_token", 48)])
def test_scales_of_groups(model, run, weight, group):
    graph, ms = model
    axis = next(u.axis for u in graph.units.values() if u.weight == weight)
    rows = np.moveaxis(graph.weights[weight], axis, 0).reshape(-1, group)
    low, high = rows.min(1), rows.max(1)
    scale = (high - low) / 15
    zero = np.clip(np.rint(-8 - low / scale), -8, 7).astype(int)
    plan = plan_of(graph, **{weight: TensorPlan("weight", tuple(scale.tolist()), tuple(zero.tolist()), 4, False, axis, group)})
    done = rewrite_weights(ms, graph, plan)
    assert done.stored[weight].form == "codes, scaled weight"
    assert cosine(run(done.data), Simulation(graph).logits(IMAGES, plan)) > 0.999999


def test_groups_across_kernels_are_exact_too(model, run):
    """Groups that no broadcast over the file's layout can say: the values themselves are stored."""
    graph, ms = model
    scale = np.abs(graph.weights["w_deep"].reshape(-1, 48)).max(1) / 7
    t = TensorPlan("weight", tuple(scale.tolist()), (0,) * len(scale), 4, True, 0, 48)
    plan = plan_of(graph, w_deep=t)
    done = rewrite_weights(ms, graph, plan)
    assert done.stored["w_deep"].form in ("codes", "float32")
    assert cosine(run(done.data), Simulation(graph).logits(IMAGES, plan)) > 0.999999


def test_half_steps_become_float16(model, run):
    graph, ms = model
    plan = plan_of(graph, w_head=TensorPlan("weight", (2.0**-9,), (0,), 12, True))
    done = rewrite_weights(ms, graph, plan)
    assert done.stored["w_head"].form == "float16"
    assert cosine(run(done.data), Simulation(graph).logits(IMAGES, plan)) > 0.999999


def test_tables_get_smaller_and_stay_as_they_are(model, run):
    graph, ms = model
    done = rewrite_weights(ms, graph, plan_of(graph))
    assert not done.stored
    assert len(done.data) < len(ms) - 20_000  # 64 * 128 numbers, 40 different ones
    np.testing.assert_array_equal(run(done.data), run(ms))


def test_codes_read_back(model):
    graph, ms = model
    plan = make_weight_plan(graph, 4)
    tensors = read_ms(rewrite_weights(ms, graph, plan).data).tensors
    found = next(t for t in tensors if t.name == "w_deep")
    expected = fake_quantize(graph.weights["w_deep"], plan.tensors["w_deep"])
    np.testing.assert_array_equal(decoded(found), expected.transpose(0, 2, 3, 1))
    with pytest.raises(ArtifactError, match="not entropy coded"):
        decoded(next(t for t in tensors if t.name == "b_point"))


def test_what_is_quantised_already(model):
    graph, ms = model
    plan = make_weight_plan(graph, 4)
    with pytest.raises(ArtifactError, match="quantised or compressed in the") as e:
        rewrite_weights(rewrite_weights(ms, graph, plan).data, graph, plan)
    assert "float model" in e.value.hint


def test_models_that_are_not_the_plans(model, toolchain, ms_file, onnx_file, tmp_path):
    graph, ms = model
    plan = make_weight_plan(graph, 4)
    small = ModelGraph.load(onnx_file)
    with pytest.raises(ArtifactError, match="has no node"):
        rewrite_weights(ms, small, plan)
    with pytest.raises(ArtifactError, match="has no node 'conv'"):
        rewrite_weights(ms_file.read_bytes(), graph, plan)
    trained = graph.with_weights({n: w + 1 for n, w in graph.weights.items() if n.startswith("w_")})
    with pytest.raises(ArtifactError, match="converted from other weights"):
        rewrite_weights(ms, trained, plan)
    with pytest.raises(ArtifactError, match="damaged or no"):
        rewrite_weights(ms[:4000], graph, plan)


def test_a_weight_that_the_converter_changed_stays_float(model, run):
    graph, ms = model
    other = graph.with_weights({"w_deep": graph.weights["w_deep"] * 1.5})
    done = rewrite_weights(ms, other, make_weight_plan(other, 4))
    assert list(done.kept_float) == ["deep"]
    assert "converter changed it" in done.kept_float["deep"]
    assert np.isfinite(run(done.data)).all()


def test_beside_int8_nodes(model, run):
    graph, ms = model
    _, int8 = make_plan(graph, IMAGES, PtqSettings())
    few = make_weight_plan(graph, 4)
    nodes = {n: int8.nodes[n] if n in ("deep", "point") else few.nodes[n] for n in graph.units}
    weights = {graph.units[n].weight: few.tensors[graph.units[n].weight] for n in few.nodes if n not in ("deep", "point")}
    plan = Plan(graph.fingerprint, int8.tensors | weights, nodes)
    done = rewrite_weights(rewrite_int8(ms, graph, plan).data, graph, plan)
    assert set(done.stored) == set(weights)
    assert cosine(run(done.data), Simulation(graph).logits(IMAGES, plan)) > 0.999


@pytest.fixture(scope="module")
def mobilevit(checkpoint, toolchain, tmp_path_factory) -> tuple[ModelGraph, bytes]:
    from msedge.exporter import export

    folder = tmp_path_factory.mktemp("mobilevit")
    export(checkpoint, folder / "export")
    toolchain.convert(ConvertRequest(folder / "export" / "model.onnx", folder / "model.ms", "ONNX"))
    return ModelGraph.load(folder / "export" / "model.onnx"), (folder / "model.ms").read_bytes()


@pytest.mark.slow
@pytest.mark.parametrize(("bits", "most"), [(8, 1.15), (4, 0.70)])
def test_bytes_per_parameter_of_a_whole_file(mobilevit, toolchain, tmp_path, bits, most):
    """MobileViT-XXS with two classes, names and shapes and all: the figures of the documentation."""
    graph, ms = mobilevit
    image = np.random.default_rng(0).random((1, 3, 64, 64)).astype(np.float32)
    plan = make_weight_plan(graph, bits, images=image)
    data = rewrite_weights(ms, graph, plan).data
    parameters = sum(w.size for w in graph.weights.values() if w.dtype.kind == "f")
    assert len(data) <= most * parameters
    (tmp_path / "few.ms").write_bytes(data)
    with toolchain.load(tmp_path / "few.ms") as session:
        assert cosine(session.predict(image), Simulation(graph).logits(image, plan)) > 0.99999
