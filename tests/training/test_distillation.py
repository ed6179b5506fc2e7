"""Teacher and student from one recipe, teachers of every kind, and the cache of their logits."""

from __future__ import annotations

import csv
import dataclasses
import json

import numpy as np
import pytest

from msedge.data.batches import TrainBatches
from msedge.data.folder import load_samples
from msedge.data.preprocess import Preprocess
from msedge.errors import ArtifactError, ModelError
from msedge.mindspore_setup import graph_mode
from msedge.recipe import AugmentConfig, DataConfig
from msedge.training.teacher import CellTeacher, OnnxTeacher, adapt, check_classes
from msedge.training.teacher_cache import TeacherLogits


def rows(folder):
    with (folder / "history.csv").open() as f:
        return list(csv.DictReader(f))


def test_recipe_leaves_teacher_and_student(cli, distill, tmp_path):
    out = tmp_path / "run"
    done = cli("train", distill, "--out", out, "--json", "--set", "train.epochs=2")
    assert done.returncode == 0, done.stderr
    folders = json.loads(done.stdout)["folders"]
    assert [f["folder"] for f in folders] == [str(out / "teacher"), str(out / "student")]
    for name in ("teacher", "student"):
        found = {p.name for p in (out / name).iterdir()}
        assert found == {"model.json", "best.ckpt", "last.ckpt", "history.csv", "recipe.yaml", "manifest.json"}
    assert set(rows(out / "student")[0]) >= {"loss", "kl", "ce", "val_accuracy", "images_per_s"}
    manifest = json.loads((out / "student" / "manifest.json").read_text())
    assert manifest["parents"]["teacher"] == CellTeacher(out / "teacher").sha256


def test_a_student_that_cannot_be_built_does_not_cost_a_teacher(cli, distill, tmp_path):
    out = tmp_path / "run"
    refused = cli("train", distill, "--out", out, "--set", "model.image_size=33")
    assert refused.returncode == 2
    assert "Swin cannot take images of 33 px" in refused.stderr
    assert not (out / "teacher" / "last.ckpt").exists()


@pytest.mark.parametrize("extra", ["feature", "attention"])
def test_maps_are_distilled(cli, distill, tmp_path, extra):
    out = tmp_path / "run"
    more = ["--set", f"distill.{extra}=1.0", "--set", "train.epochs=2", "--set", "teacher.model.image_size=32"]
    done = cli("train", distill, "--out", out, *more)
    assert done.returncode == 0, done.stderr
    first, last = rows(out / "student")
    assert float(first[extra]) > 0
    assert float(last[extra]) < float(first[extra])


@pytest.fixture
def teacher(whole):
    return whole


def stream(folders, **augment):
    samples = load_samples(folders, "train")
    config = DataConfig(root=str(folders), batch_size=4, augment=AugmentConfig(**augment))
    return TrainBatches(samples, Preprocess(size=32), config, size=32, seed=0)


def test_logits_are_computed_once(teacher, folders, monkeypatch, tmp_path):
    monkeypatch.setenv("MSEDGE_CACHE", str(tmp_path / "cache"))
    with graph_mode():
        t = CellTeacher(teacher)
        s = stream(folders)
        first = TeacherLogits(t, s.preprocess, s.stream_key(), s.steps_per_epoch)
        a = [first(0, i, b)[0] for i, b in enumerate(s.epoch(0))]
        second = TeacherLogits(t, s.preprocess, s.stream_key(), s.steps_per_epoch)
        b = [second(0, i, b)[0] for i, b in enumerate(s.epoch(0))]
    assert (first.computed, second.computed) == (s.steps_per_epoch, 0)
    np.testing.assert_array_equal(a, b)
    assert not np.array_equal(a[0], a[1])


def test_cache_is_keyed_by_stream_and_survives_damage(teacher, folders, monkeypatch, tmp_path):
    monkeypatch.setenv("MSEDGE_CACHE", str(tmp_path / "cache"))
    with graph_mode():
        t = CellTeacher(teacher)
        s, other = stream(folders), stream(folders, hflip=0.0)
        first = TeacherLogits(t, s.preprocess, s.stream_key(), s.steps_per_epoch)
        for i, b in enumerate(s.epoch(0)):
            first(0, i, b)
        assert TeacherLogits(t, s.preprocess, other.stream_key(), s.steps_per_epoch).folder != first.folder
        first.path(0).write_bytes(b"not an array")
        again = TeacherLogits(t, s.preprocess, s.stream_key(), s.steps_per_epoch)
        for i, b in enumerate(s.epoch(0)):
            again(0, i, b)
    assert again.computed == s.steps_per_epoch
    assert np.load(first.path(0)).shape == (s.steps_per_epoch, 4, 2)


def test_views_bound_the_cache(teacher, folders, monkeypatch, tmp_path):
    monkeypatch.setenv("MSEDGE_CACHE", str(tmp_path / "cache"))
    s = stream(folders, views=2)
    with graph_mode():
        logits = TeacherLogits(CellTeacher(teacher), s.preprocess, s.stream_key(), s.steps_per_epoch, views=2)
        for epoch in range(5):
            for i, b in enumerate(s.epoch(epoch)):
                logits(epoch, i, b)
    assert logits.computed == 2 * s.steps_per_epoch
    assert len(list(logits.folder.iterdir())) == 2


def test_an_onnx_teacher_gives_the_same_logits(teacher, tmp_path):
    from msedge.exporter import export

    export(teacher, tmp_path / "onnx")
    cell, onnx = CellTeacher(teacher), OnnxTeacher(tmp_path / "onnx" / "model.onnx")
    assert onnx.preprocess == cell.preprocess
    x = np.random.default_rng(0).normal(size=(3, 3, 32, 32)).astype(np.float32)
    with graph_mode():
        np.testing.assert_allclose(onnx.logits(x), cell.logits(x), atol=1e-4)
    check_classes(onnx, ("blob", "stripe"))


def test_onnx_teacher_in_a_recipe(cli, teacher, recipe, tmp_path):
    from msedge.exporter import export

    export(teacher, tmp_path / "onnx")
    model = tmp_path / "onnx" / "model.onnx"
    more = ["--set", f"teacher.onnx={model}", "--set", "train.epochs=1"]
    done = cli("train", recipe, "--out", tmp_path / "run", *more)
    assert done.returncode == 0, done.stderr
    assert not (tmp_path / "run" / "teacher").exists()
    damaged = tmp_path / "cut.onnx"
    damaged.write_bytes(model.read_bytes()[:1000])
    more = ["--set", f"teacher.onnx={damaged}"]
    refused = cli("train", recipe, "--out", tmp_path / "run2", *more)
    assert refused.returncode == 2
    assert "cannot load" in refused.stderr
    assert len(refused.stderr.strip().splitlines()) == 1


def test_a_teacher_of_other_classes_is_refused(teacher):
    t = CellTeacher(teacher)
    with pytest.raises(ModelError, match="knows 2 classes, the data has 3"):
        check_classes(t, ("a", "b", "c"))
    with pytest.raises(ModelError, match="names and order"):
        check_classes(t, ("stripe", "blob"))
    with pytest.raises(ArtifactError, match="no ONNX file"):
        OnnxTeacher(teacher / "none.onnx")


def test_adapt_changes_size_order_and_normalisation():
    own = Preprocess(size=4, mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5))
    its = dataclasses.replace(own, size=8, mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0), channel_order="BGR")
    pixels = np.random.default_rng(0).random((2, 3, 1, 1), np.float32)
    images = np.broadcast_to((pixels - 0.5) / 0.5, (2, 3, 4, 4))
    expected = np.broadcast_to(pixels[:, ::-1], (2, 3, 8, 8))
    np.testing.assert_allclose(adapt(images, own, its), expected, atol=1e-6)
