"""Quantisation-aware training of a narrow Swin on two textures."""

from __future__ import annotations

import csv
import dataclasses
import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from families import small
from quant_qat import extremes_plan, weight_plan
from small_models import small_onnx

from msedge.artifact import read_manifest
from msedge.data.batches import EvalBatches
from msedge.data.folder import load_samples
from msedge.errors import ArtifactError, ModelError
from msedge.exporter.stage import export
from msedge.mindspore_setup import graph_mode, load_mindspore
from msedge.models import load_checkpoint_folder, read_checkpoint, save_checkpoint, spec_of
from msedge.quantization.cell import GraphCell, simulate
from msedge.quantization.graph import ModelGraph
from msedge.quantization.making import load_tensors
from msedge.quantization.plan import load_plan
from msedge.quantization.qat import run_qat, train_quantised
from msedge.quantization.shared_scales import with_shared_scales
from msedge.recipe import AugmentConfig, DataConfig, DistillConfig, QatConfig, Recipe, TrainConfig, find_recipe, load_recipe
from msedge.runtime.source import locate_source, resolve_source
from msedge.training.step import TrainStep
from msedge.training.tasks import DistillLogits

load_mindspore()

from mindspore import Tensor  # noqa: E402

CONFIG = QatConfig(
    epochs=2,
    freeze_epochs=1,
    lr=5e-4,
    scale_lr=5e-3,
    calib_images=10,
    ema=0.5,
    save_minutes=1e-6,
    augment=AugmentConfig(crop_scale=(0.8, 1.0), color_jitter=0.1),
)


def write_checkpoint(folder, classes=("blob", "stripe"), seed: int = 0):
    model = small("swin_nano", len(classes))
    spec_of(model, classes).save(folder)
    values = {name: p.asnumpy() * np.float32(1 + seed) for name, p in model.parameters_dict().items()}
    save_checkpoint(values, folder / "best.ckpt")
    return folder


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    return write_checkpoint(tmp_path_factory.mktemp("source"))


@pytest.fixture(scope="module")
def recipe(folders) -> Recipe:
    return Recipe(name="tiny", seed=3, data=DataConfig(root=str(folders), batch_size=5), distill=DistillConfig(cache=False))


def extremes(preprocess):
    return lambda graph, samples: (graph, extremes_plan(graph, load_tensors(samples.paths, preprocess)[:1]))


@pytest.fixture(scope="module")
def trained(source, recipe, tmp_path_factory):
    """(folder, result) of a whole run."""
    out = tmp_path_factory.mktemp("trained") / "qat"
    start = extremes(load_checkpoint_folder(source)[1].preprocess)
    return out, train_quantised(source, out, CONFIG, recipe, start=start)


def validation(folders, preprocess):
    batches = EvalBatches(load_samples(str(folders), "val"), preprocess, 5)
    return np.concatenate([x[:valid] for x, _, valid in batches])


def test_ends_nearer_to_the_float_model(trained, source, folders):
    out, result = trained
    report = result.report
    assert report["val_images"] == 20
    assert 1 <= report["best_epoch"] <= 2
    assert report["val_agreement"] >= report["start"]["val_agreement"]
    assert report["val_kl"] < report["start"]["val_kl"]
    cell, spec = load_checkpoint_folder(source)
    images = validation(folders, spec.preprocess)
    in_float = cell.set_train(False)(Tensor(images)).asnumpy()
    ours = simulate(ModelGraph.load(out / "model.onnx"), load_plan(out / "plan.json"), images)
    agreement = (ours.argmax(1) == in_float.argmax(1)).mean()
    assert agreement == pytest.approx(report["val_agreement"], abs=0.051)


def test_leaves_an_export_folder_with_a_plan(trained, source, tmp_path):
    out, result = trained
    manifest = read_manifest(out, "export")
    assert set(manifest["files"]) == {"model.onnx", "golden.npz", "model.json", "plan.json", "history.csv", "recipe.yaml"}
    assert {p.name for p in out.iterdir()} == {*manifest["files"], "manifest.json"}
    assert manifest["quantization"] == json.loads(json.dumps(result.report))
    graph, plan = ModelGraph.load(out / "model.onnx"), load_plan(out / "plan.json")
    plan.check(graph)
    assert plan.made_by["method"] == "qat"
    assert plan.of("int8") == tuple(graph.units)
    assert with_shared_scales(graph, plan).tensors == plan.tensors
    found = resolve_source(locate_source(out, None), None, tmp_path, None, lambda text: None)
    assert found.spec == load_checkpoint_folder(source)[1]
    assert found.golden.logits == pytest.approx(simulate(graph, None, found.golden.inputs), abs=1e-4)


def test_the_history_begins_with_the_start(trained):
    rows = list(csv.DictReader((trained[0] / "history.csv").read_text().splitlines()))
    assert [row["epoch"] for row in rows] == ["0", "1", "2"]
    assert float(rows[0]["val_kl"]) == pytest.approx(trained[1].report["start"]["val_kl"], rel=1e-4)
    assert float(rows[1]["loss"]) > float(rows[2]["loss"]) > 0


def test_weights_and_scales_were_trained_and_constants_left(trained, source, tmp_path):
    graph, plan = ModelGraph.load(trained[0] / "model.onnx"), load_plan(trained[0] / "plan.json")
    before = ModelGraph.load(export(source, tmp_path / "float", golden=1) / "model.onnx")
    assert graph.fingerprint == before.fingerprint
    learned = [u.weight for u in graph.units.values() if u.weight]
    assert len(learned) >= 10
    for name, value in graph.weights.items():
        change = abs(value - before.weights[name]).max()
        assert change < 0.1, name
        if name in learned:
            assert change > 0, name
        elif name.endswith(("/epsilon", "/two", "/root", "/one", "/half", "/constant", "/shape", "/rows")):
            assert change == 0, name
    assert any(t.zero_point[0] not in (0, -128) for t in plan.tensors.values() if t.role == "activation")


def test_refuses_what_does_not_fit(trained, recipe, source, tmp_path):
    out, result = trained
    with pytest.raises(ArtifactError, match="already holds a run"):
        train_quantised(source, out, CONFIG, recipe)
    assert run_qat(dataclasses.replace(recipe, qat=CONFIG), source, out, resume=True).report == json.loads(
        json.dumps(result.report)
    )
    with pytest.raises(ArtifactError, match=r"was started with qat\.lr"):
        train_quantised(source, out, dataclasses.replace(CONFIG, lr=1e-3), recipe, resume=True)
    with pytest.raises(ModelError, match="knows 3 classes, the data has 2"):
        train_quantised(write_checkpoint(tmp_path / "three", ("a", "b", "c")), tmp_path / "out", CONFIG, recipe)
    with pytest.raises(ArtifactError):
        train_quantised(tmp_path / "nothing", tmp_path / "out", CONFIG, recipe)


LEARNING = {"lsq": ("int8", "lsq"), "ema": ("int8", "ema"), "4 bit weights": ("weight", "lsq")}


@pytest.mark.parametrize("kind", LEARNING)
def test_steps_lower_the_loss(kind, tmp_path):
    """One graph of two convolutions: twenty steps bring the logits nearer, and scales move (averages follow in ema)."""
    mode, learned = LEARNING[kind]
    graph = ModelGraph.load(small_onnx(tmp_path / "small.onnx", batch=4))
    images = np.random.default_rng(0).standard_normal((4, 3, 32, 32)).astype(np.float32)
    in_float = simulate(graph, None, images)
    plan = weight_plan(graph, 4, 16) if mode == "weight" else extremes_plan(graph, 0.5 * images)
    cell = GraphCell(graph, plan, learn=True, learned=learned)
    before = cell.tensors()
    parameters = [p for p in cell.get_parameters() if p.requires_grad]
    with graph_mode():
        cell.set_train(True)
        cell.follow(0.1)
        step = TrainStep(DistillLogits(cell, DistillConfig(temperature=1.0, alpha=0.0), 0.0), parameters, TrainConfig())
        losses = [step.run(3e-3, i, images, np.eye(3)[[0] * 4].astype(np.float32), in_float)[0]["loss"] for i in range(1, 21)]
    assert losses[-1] < 0.5 * losses[0]
    after = cell.tensors()
    moved = {name for name in after if after[name].scale != before[name].scale}
    assert {t.role for t in (after[n] for n in moved)} == ({"weight"} if mode == "weight" else {"weight", "activation"})
    assert all(after[n].problem() == "" for n in after)


def test_moving_averages_hold_still_in_evaluation_and_when_told(tmp_path):
    graph = ModelGraph.load(small_onnx(tmp_path / "small.onnx", batch=4))
    images = np.random.default_rng(0).standard_normal((4, 3, 32, 32)).astype(np.float32)
    cell = GraphCell(graph, extremes_plan(graph, images), learn=True, learned="ema")
    before = cell.tensors()
    for train, momentum, moves in ((False, 0.5, False), (True, 0.0, False), (True, 0.5, True)):
        cell.set_train(train)
        cell.follow(momentum)
        cell.run(2 * images)
        assert (cell.tensors() != before) == moves


SCRIPT = """
import sys
sys.path[:0] = sys.argv[3:]
import test_qat as t
from pathlib import Path
from msedge.recipe import DataConfig, DistillConfig, Recipe
from msedge.models import load_checkpoint_folder
source, (out, root) = Path(sys.argv[1]), sys.argv[2].split(":")
recipe = Recipe(name="tiny", seed=3, data=DataConfig(root=root, batch_size=5), distill=DistillConfig(cache=False))
start = t.extremes(load_checkpoint_folder(source)[1].preprocess)
t.train_quantised(source, out, t.CONFIG, recipe, start=start)
"""


@pytest.mark.slow
def test_kill_and_resume_gives_the_same_result(trained, source, recipe, folders, tmp_path):
    out, here = tmp_path / "killed", Path(__file__).parent
    command = [sys.executable, "-c", SCRIPT, source, f"{out}:{folders}", here, here.parent / "helpers"]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 300
    while True:
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        if (out / "last.ckpt").is_file():
            progress = json.loads(read_checkpoint(out / "last.ckpt")["msedge.progress"].tobytes())
            if (progress["epoch"], progress["step_in_epoch"]) >= (0, 3):
                break
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert not (out / "manifest.json").exists()
    other = write_checkpoint(tmp_path / "other", seed=1)
    with pytest.raises(ArtifactError, match="was started from another checkpoint"):
        train_quantised(other, out, CONFIG, recipe, resume=True)
    resumed = train_quantised(source, out, CONFIG, recipe, resume=True)
    assert resumed.report == trained[1].report
    for name in ("plan.json", "golden.npz"):
        assert (out / name).read_bytes() == (trained[0] / name).read_bytes(), name
    ours, whole = (ModelGraph.load(folder / "model.onnx").weights for folder in (out, trained[0]))
    for name, value in whole.items():
        np.testing.assert_array_equal(ours[name], value, err_msg=name)


def test_the_recipe():
    recipe = load_recipe(find_recipe("recipes/catdog_qat.yaml"))
    assert recipe.qat == QatConfig()
    assert recipe.teacher is not None
