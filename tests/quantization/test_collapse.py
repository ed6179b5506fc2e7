"""Models that answer all images alike are found out, whatever made them so."""

from __future__ import annotations

import json

import numpy as np
import pytest
from quant_judged import coarsened, judged_images, judged_model

from msedge.errors import CheckFailed, DataError, ModelError
from msedge.lite import ConvertRequest
from msedge.quantization.collapse import (
    LOGITS,
    collapse_test,
    compare_spread,
    late_units,
    logit_features,
    simulated_features,
)
from msedge.quantization.ms_int8 import rewrite_int8
from msedge.quantization.node_values import RuntimeNodes
from msedge.quantization.onnx_simulation import Simulation
from msedge.runtime.lite_runner import LiteRunner


@pytest.fixture(scope="module")
def judged():
    graph, plan = judged_model()
    return Simulation(graph), plan, judged_images(12)


def test_a_good_plan_keeps_images_apart(judged):
    simulation, plan, images = judged
    report = collapse_test(simulation, images, plan)
    assert report.passed and report.problems == []
    report.require()
    assert [p.where for p in report.places] == [LOGITS, *(u.name for u in late_units(simulation.graph))]
    assert all(0.7 < p.ratio < 1.4 and p.lost == 0 and p.finite == 1 for p in report.places)
    assert json.loads(json.dumps(report.to_dict()))["passed"] is True


@pytest.mark.parametrize("name", ["proj/Gemm", "fc2/Gemm", "head/Gemm"])
def test_a_scale_that_is_far_too_large_collapses(judged, name):
    """With the residual scaled down, all that tells images apart passes through the spoiled node."""
    simulation, plan, images = judged
    for spoiled in ("pointwise/Conv", name):
        plan = coarsened(plan, simulation.graph.units[spoiled].output, 2000)
    report = collapse_test(simulation, images, plan)
    assert not report.passed
    with pytest.raises(CheckFailed, match="distinct images give the same features: "):
        report.require()


def test_features_that_are_lost_before_the_logits_are_seen_there(judged):
    """The logits may still differ: a late node that gives the same for all images is named."""
    simulation, _, images = judged
    features = simulated_features(simulation, images)
    name = late_units(simulation.graph)[-1].name
    same = {**features, name: np.repeat(features[name][:1], len(images), axis=0)}
    report = compare_spread(features, same)
    assert [p.where for p in report.places if p.problem()] == [name]
    assert report.places[-1].ratio == 0


def test_distances_and_verdicts():
    rng = np.random.default_rng(0)
    x = {LOGITS: rng.normal(size=(10, 4))}
    assert compare_spread(x, {LOGITS: 0.6 * x[LOGITS]}).places[0].ratio == pytest.approx(0.6)
    assert compare_spread(x, {LOGITS: 0.6 * x[LOGITS]}).passed
    assert compare_spread(x, {LOGITS: 3 + x[LOGITS]}).passed, "a shift of all images is no collapse"
    assert not compare_spread(x, {LOGITS: 0.4 * x[LOGITS]}).passed
    assert compare_spread(x, {LOGITS: 0.4 * x[LOGITS]}, share=0.3).passed
    paired = x[LOGITS].copy()
    paired[:6] = paired[0]
    found = compare_spread(x, {LOGITS: paired})
    assert found.places[0].lost == pytest.approx(15 / 45)
    assert "33 % of the pairs of images have become one" in found.problems[0]
    overflown = x[LOGITS].copy()
    overflown[3] = np.inf
    assert "10 % of the images give numbers that are not finite" in compare_spread(x, {LOGITS: overflown}).problems[0]


def test_what_cannot_be_compared_is_refused(judged):
    simulation, plan, images = judged
    with pytest.raises(DataError, match="1 image has no distance"):
        collapse_test(simulation, images[:1], plan)
    with pytest.raises(DataError, match="the float model itself gives the same for all images"):
        collapse_test(simulation, np.repeat(images[:1], 3, axis=0), plan)
    with pytest.raises(ModelError, match="no place to compare"):
        compare_spread({"a": np.eye(3)}, {"b": np.eye(3)})


@pytest.mark.slow
@pytest.mark.lite
def test_every_precision_in_the_real_runtime(judged, toolchain, tmp_path):
    simulation, plan, images = judged
    graph = simulation.graph
    (tmp_path / "model.onnx").write_bytes(graph.model.SerializeToString())
    for name, half in (("float", False), ("fp16", True)):
        toolchain.convert(ConvertRequest(tmp_path / "model.onnx", tmp_path / f"{name}.ms", "ONNX", fp16_weights=half))
    float_ms = (tmp_path / "float.ms").read_bytes()
    broken = coarsened(plan, graph.units["head/Gemm"].output, 2000)
    for name, one in (("int8", plan), ("broken", broken)):
        (tmp_path / f"{name}.ms").write_bytes(rewrite_int8(float_ms, graph, one).data)
    for name, one in (("float", None), ("fp16", None), ("int8", plan), ("broken", broken)):
        with LiteRunner(tmp_path / f"{name}.ms", None, 1, toolchain) as runner:
            report = collapse_test(simulation, images, runtime=RuntimeNodes(runner, graph, one))
            assert report.passed is (name != "broken"), (name, report.problems)
            assert {LOGITS, "fc2/Gemm"} <= {p.where for p in report.places}
            if name == "float":
                assert all(p.ratio == pytest.approx(1, abs=1e-3) for p in report.places)
            same = compare_spread(logit_features(runner, images), logit_features(runner, images)) if name != "broken" else None
            assert same is None or same.places[0].ratio == 1
