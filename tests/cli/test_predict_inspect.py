"""msedge predict, inspect, lite and doctor as a user calls them."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest
from small_models import msedge, small_onnx, spec

from msedge.data.images import read_image
from msedge.data.preprocess import Preprocess
from msedge.runtime import open_runner

CLASSES = ("cat", "dog", "fox")


@pytest.mark.lite
@pytest.mark.parametrize("model", ["net.onnx", "net.ms"])
def test_predict_gives_names_and_probabilities(models, images, model):
    picture = images / "cat" / "cat_000.jpg"
    done = msedge("predict", model, picture, "--json", cwd=models)
    (answer,) = json.loads(done.stdout)
    with open_runner(models / "net.onnx") as runner:
        logits = runner.predict(Preprocess(32)(read_image(picture))[None])[0].astype(np.float64)
    expected = np.exp(logits) / np.exp(logits).sum()
    assert [c["class"] for c in answer["top"]] == [CLASSES[i] for i in np.argsort(-expected)]
    assert [c["probability"] for c in answer["top"]] == pytest.approx(sorted(expected, reverse=True), abs=1e-5)
    assert done.returncode == 0


def test_predict_takes_folders_and_shows_a_table(models, images):
    done = msedge("predict", "net.onnx", images / "cat", images / "dog" / "dog_001.jpg", "--top", 1, cwd=models)
    assert done.returncode == 0
    assert done.stdout.count(".jpg") == 9
    assert done.stdout.count("%") == 9


def test_predict_shows_the_readable_ones_and_names_the_others(models, images, tmp_path):
    shutil.copy(images / "fox" / "fox_000.jpg", tmp_path / "good.jpg")
    (tmp_path / "bad.jpg").write_bytes(b"no image")
    done = msedge("predict", models / "net.onnx", "bad.jpg", "good.jpg", "nothere.jpg", cwd=tmp_path)
    assert done.returncode == 2
    assert "good.jpg" in done.stdout
    lines = done.stderr.splitlines()
    assert [line.split(":")[1].strip() for line in lines[:2]] == ["bad.jpg", "nothere.jpg"]
    assert lines[2] == "msedge: 2 of 3 images cannot be read"
    done = msedge("predict", models / "net.onnx", "bad.jpg", "good.jpg", "--json", cwd=tmp_path)
    assert [sorted(a) for a in json.loads(done.stdout)] == [["error", "image"], ["image", "top"]]


def test_predict_without_names_gives_numbers(images, tmp_path):
    small_onnx(tmp_path / "m.onnx", classes=5)
    done = msedge("predict", "m.onnx", images / "cat" / "cat_000.jpg", "--top", 9, "--json", cwd=tmp_path)
    assert sorted(c["class"] for c in json.loads(done.stdout)[0]["top"]) == ["0", "1", "2", "3", "4"]
    assert "ImageNet's mean and std at 32 px are assumed" in done.stderr


def test_predict_with_a_model_json_of_another_model(images, tmp_path):
    small_onnx(tmp_path / "m.onnx", classes=5)
    spec(classes=CLASSES).save(tmp_path)
    done = msedge("predict", "m.onnx", images / "cat" / "cat_000.jpg", cwd=tmp_path)
    assert done.returncode == 2
    assert "has 5 outputs, its model.json names 3 classes" in done.stderr


def test_predict_on_an_empty_folder(models, tmp_path):
    done = msedge("predict", models / "net.onnx", tmp_path, cwd=tmp_path)
    assert done.returncode == 2
    assert "no image in this folder" in done.stderr


@pytest.mark.lite
@pytest.mark.parametrize("file", ["net.onnx", "net.ms"])
def test_inspect(models, file):
    done = msedge("inspect", file, "--json", cwd=models)
    found = json.loads(done.stdout)
    keys = {"format", "producer", "inputs", "outputs", "nodes", "op_counts", "params", "bytes_by_dtype", "quantised_nodes"}
    assert set(found) >= keys
    assert found["model"]["classes"] == list(CLASSES)
    done = msedge("inspect", file, cwd=models)
    assert done.returncode == 0
    for words in ("parameters", "1,443", "small, 3 classes, 32 px", "Conv"):
        assert words in done.stdout


@pytest.mark.parametrize("kind", ["half", "text"])
@pytest.mark.parametrize("file", ["net.onnx", "net.ms"])
@pytest.mark.parametrize("command", ["inspect", "predict", "bench"])
@pytest.mark.lite
def test_damaged_files_are_one_line_and_exit_2(models, images, tmp_path, command, file, kind):
    data = (models / file).read_bytes()
    (tmp_path / file).write_bytes(data[: len(data) // 2] if kind == "half" else b"hello\n" * 99)
    extra = [images / "cat" / "cat_000.jpg"] if command == "predict" else []
    done = msedge(command, file, *extra, cwd=tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    assert len(done.stderr.splitlines()) == 1
    assert file in done.stderr


@pytest.mark.lite
def test_lite_list_and_probe(models):
    found = json.loads(msedge("lite", "list", "--json").stdout)
    assert found[0]["kind"] in ("native", "python", "folder")
    probed = json.loads(msedge("lite", "probe", "--json").stdout)
    assert probed["abilities"]["convert"] is True
    assert "native" in msedge("lite", "list").stdout
    assert "INT8" in msedge("lite", "probe").stdout


def test_lite_without_any_toolchain(tmp_path):
    done = msedge("lite", "list", MSEDGE_CACHE=str(tmp_path), PATH="/usr/bin:/bin")
    assert (done.returncode, done.stdout) == (0, "")
    assert "run msedge lite install" in done.stderr
    done = msedge("lite", "probe", MSEDGE_CACHE=str(tmp_path), PATH="/usr/bin:/bin")
    assert done.returncode == 3
    assert "MindSpore Lite toolchain: looked at --lite" in done.stderr


def test_lite_install_of_a_wrong_wheel(tmp_path):
    wheel = tmp_path / "mindspore_lite.whl"
    wheel.write_bytes(b"no wheel")
    done = msedge("lite", "install", "--wheel", wheel, MSEDGE_CACHE=str(tmp_path / "cache"))
    assert done.returncode == 2
    assert "sha256" in done.stderr
    done = msedge("lite", "install", "--wheel", tmp_path / "nothere", MSEDGE_CACHE=str(tmp_path / "cache"))
    assert done.returncode == 2
    assert "missing" in done.stderr


def test_doctor(tmp_path):
    done = msedge("doctor", "--json")
    found = json.loads(done.stdout)
    assert found["ok"] is (done.returncode == 0) is True
    by_name = {c["name"]: c for c in found["checks"]}
    for name in ("python", "mindspore", "numpy", "opencv-python", "processor", "memory", "cache", "MindSpore Lite", "Ascend"):
        assert by_name[name]["status"] in ("ok", "absent")
    assert by_name["python"]["status"] == "ok"
    done = msedge("doctor")
    assert done.returncode == 0
    assert "mindspore" in done.stdout


def test_doctor_names_what_is_broken_and_the_cure(tmp_path):
    done = msedge("doctor", "--json", MSEDGE_LITE="/nowhere")
    found = {c["name"]: c for c in json.loads(done.stdout)["checks"] if c["status"] == "broken"}
    assert done.returncode == 3
    assert found["MindSpore Lite"]["cure"] == "unset MSEDGE_LITE"
    assert "1 of" in done.stderr
    broken = tmp_path / "onnx"
    broken.mkdir()
    (broken / "__init__.py").write_text("raise ImportError('numpy.core is broken')")
    from small_models import ROOT

    done = msedge("doctor", PYTHONPATH=f"{tmp_path}:{ROOT}")
    assert done.returncode == 3
    assert "cannot be imported: ImportError: numpy.core is broken" in done.stdout
    assert "onnx: pip install" in done.stderr
