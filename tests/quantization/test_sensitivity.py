"""Scores of nodes: what they measure, that they are kept, and that a killed run goes on."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from quant_judged import coarsened, judged_images, judged_model
from small_models import environment

from msedge.errors import ArtifactError, UserError
from msedge.quantization.onnx_simulation import Simulation
from msedge.quantization.plan import NodePlan
from msedge.quantization.sensitivity import change, sensitivity


@pytest.fixture(scope="module")
def judged():
    graph, plan = judged_model()
    return Simulation(graph), plan, judged_images(24)


class Counting(Simulation):
    """Counts the plans that are run."""

    runs = 0

    def logits(self, images, plan=None, **options):
        Counting.runs += plan is not None
        return super().logits(images, plan, **options)


def test_change_of_logits():
    rng = np.random.default_rng(0)
    logits = rng.normal(size=(400, 3))
    for same in (logits, logits + 5):
        assert vars(change(logits, same)) == pytest.approx({"error": 0, "kl": 0, "flips": 0}, abs=1e-12)
    noise = rng.normal(size=logits.shape)
    assert change(logits, logits + 0.1 * noise).error == pytest.approx(0.01, rel=0.25)
    assert change(logits, logits + 0.1 * noise).error == pytest.approx(change(9 * logits, 9 * logits + 0.9 * noise).error)
    assert change(logits, -logits).flips == 400
    p = np.array([0.7, 0.3])
    q = np.array([0.4, 0.6])
    assert change(np.log(p)[None], np.log(q)[None]).kl == pytest.approx((p * np.log(p / q)).sum())
    assert change(np.array([[1.0], [3.0]]), np.array([[1.0], [2.0]])).error == pytest.approx(0.5)


def test_alone_is_the_error_of_a_plan_with_one_node(judged, tmp_path):
    simulation, plan, images = judged
    found = sensitivity(simulation, plan, images, cache=tmp_path)
    assert set(found.scores) == set(plan.nodes)
    name = "qkv/Gemm"
    only = replace(plan, nodes={n: NodePlan("int8" if n == name else "float") for n in plan.nodes})
    assert found.scores[name] == change(simulation.logits(images), simulation.logits(images, only))
    everything = change(simulation.logits(images), simulation.logits(images, plan))
    assert 0.4 < sum(s.error for s in found.scores.values()) / everything.error < 2.5, "errors of small noises add up"
    json.dumps(found.to_dict())
    assert [n["node"] for n in found.to_dict()["nodes"]] == found.ranked()


@pytest.mark.parametrize("way", ["alone", "back"])
def test_the_node_that_was_spoiled_ranks_first(judged, tmp_path, way):
    simulation, plan, images = judged
    for name in ("depthwise/Conv", "fc2/Gemm"):
        spoiled = coarsened(plan, simulation.graph.units[name].output, 60)
        found = sensitivity(simulation, spoiled, images, way=way, cache=tmp_path)
        assert found.ranked()[0] == name
        assert found.scores[name].error > 2 * abs(found.scores[found.ranked()[1]].error)


def test_scores_are_kept_and_every_difference_makes_new_ones(judged, tmp_path):
    simulation, plan, images = judged
    counting = Counting(simulation.graph)

    def runs(*args, **options) -> int:
        before = Counting.runs
        sensitivity(*args, cache=tmp_path, workers=1, **options)
        return Counting.runs - before

    nodes = len(plan.nodes)
    assert runs(counting, plan, images, nodes=list(plan.nodes)[:3]) == 3
    assert runs(counting, plan, images) == nodes - 3
    assert runs(counting, plan, images) == 0
    assert runs(counting, replace(plan, made_by={"other": 1}), images) == 0, "words are no difference"
    assert runs(counting, plan, images, way="back") == nodes + 1
    assert runs(counting, coarsened(plan, "logits", 2), images) == nodes
    assert runs(counting, plan, images[:-1]) == nodes
    changed = simulation.graph.with_weights({"head.bias": simulation.graph.weights["head.bias"] + 1})
    assert runs(Counting(changed), plan, images) == nodes


def test_a_line_that_a_kill_cut_off_is_written_again(judged, tmp_path):
    simulation, plan, images = judged
    whole = sensitivity(simulation, plan, images, cache=tmp_path)
    (file,) = tmp_path.iterdir()
    text = file.read_text()
    file.write_text(text[: len(text) // 2])
    assert sensitivity(simulation, plan, images, cache=tmp_path) == whole
    file.write_bytes(b"\xff\xfe nonsense \n{}\n[1]\n")
    assert sensitivity(simulation, plan, images, cache=tmp_path) == whole


SCRIPT = """
import sys, time
sys.path.insert(0, sys.argv[1])
from pathlib import Path
from quant_judged import judged_images, judged_model
from msedge.quantization.onnx_simulation import Simulation
from msedge.quantization.sensitivity import sensitivity
class Slow(Simulation):
    def logits(self, images, plan=None, **options):
        time.sleep(0.3 if plan is not None and len(sys.argv) > 3 else 0)
        return super().logits(images, plan, **options)
graph, plan = judged_model()
print(sensitivity(Slow(graph), plan, judged_images(24), cache=Path(sys.argv[2]), workers=1).to_dict())
"""


def test_a_killed_run_goes_on_where_it_was(judged, tmp_path):
    command = [sys.executable, "-c", SCRIPT, str(Path(__file__).parents[1] / "helpers"), str(tmp_path)]
    running = subprocess.Popen([*command, "slowly"], env=environment(), stdout=subprocess.DEVNULL)
    until = time.monotonic() + 60
    while time.monotonic() < until and sum(f.read_text().count("node") for f in tmp_path.glob("*.jsonl")) < 3:
        time.sleep(0.05)
    os.kill(running.pid, signal.SIGKILL)
    running.wait()
    kept = sum(f.read_text().count('"node"') for f in tmp_path.glob("*.jsonl"))
    simulation, plan, images = judged
    assert 3 <= kept < len(plan.nodes)
    before, counting = Counting.runs, Counting(simulation.graph)
    found = sensitivity(counting, plan, images, cache=tmp_path, workers=1)
    assert Counting.runs - before == len(plan.nodes) - kept
    fresh = sensitivity(simulation, plan, images, cache=tmp_path / "fresh")
    assert {n: pytest.approx(vars(s)) for n, s in fresh.scores.items()} == {n: vars(s) for n, s in found.scores.items()}


def test_a_cache_that_cannot_be_written_is_done_without(judged, tmp_path):
    simulation, plan, images = judged
    (tmp_path / "file").touch()
    found = sensitivity(simulation, plan, images, cache=tmp_path / "file/cache", nodes=["qkv/Gemm"])
    assert found.scores["qkv/Gemm"].error > 0


def test_progress_and_wrong_questions(judged, tmp_path):
    simulation, plan, images = judged
    seen = []
    sensitivity(simulation, plan, images, cache=tmp_path, progress=lambda label, total: contextlib.nullcontext(seen.append))
    assert seen == list(range(1, len(plan.nodes) + 1))
    with pytest.raises(UserError, match="no way 'sideways'"):
        sensitivity(simulation, plan, images, way="sideways", cache=tmp_path)
    with pytest.raises(UserError, match="does not quantise a node 'nothere'"):
        sensitivity(simulation, plan, images, nodes=["nothere"], cache=tmp_path)
    with pytest.raises(ArtifactError, match="belongs to another model"):
        sensitivity(simulation, replace(plan, graph="0" * 64), images, cache=tmp_path)
