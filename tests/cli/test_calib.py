"""msedge calib as a user calls it."""

from __future__ import annotations

import json

import cv2
import numpy as np
import pytest
from small_models import msedge, pictures, small_onnx, spec

CLASSES = ("cat", "dog", "fox")


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """A dataset with train/ and val/ of three classes."""
    root = tmp_path_factory.mktemp("calib") / "photos"
    pictures(root / "train", CLASSES, 12)
    pictures(root / "val", CLASSES, 6, seed=1)
    return root


def test_make_and_check_for_people(data, tmp_path):
    done = msedge("calib", "make", data, "--n", 30, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    for words in ("cat", "10", "coverage", "brightness", "drift against 18 images of val/", "ok: nothing to complain about"):
        assert words in done.stdout, words
    assert "calib_data/photos: 30 calibration images of" in done.stderr
    assert (tmp_path / "calib_data/photos/calibration.json").is_file(), "the default folder"
    again = msedge("calib", "check", "calib_data/photos", cwd=tmp_path)
    assert again.returncode == 0, again.stderr
    assert "ok: nothing to complain about" in again.stdout


def test_json_is_the_manifest_with_relative_names_and_hashes(data, tmp_path):
    done = msedge("calib", "make", data, "--n", 9, "--seed", 3, "--out", tmp_path / "set", "--json")
    found = json.loads(done.stdout)
    assert done.returncode == 0
    assert found["seed"] == 3
    assert [i["class"] for i in found["images"]] == list(CLASSES) * 3
    assert all(i["file"].startswith("train/") and len(i["sha256"]) == 64 for i in found["images"])
    assert found["audit"]["counts"] == dict.fromkeys(CLASSES, 3)
    assert found["audit"]["activations"] is None
    written = json.loads((tmp_path / "set/calibration.json").read_text())
    assert {k: found[k] for k in written} == written
    repeated = msedge("calib", "make", data, "--n", 9, "--seed", 3, "--out", tmp_path / "again", "--json")
    assert json.loads(repeated.stdout)["images"] == found["images"]


def test_with_a_model_activations_are_compared(data, tmp_path):
    model = small_onnx(tmp_path / "net.onnx", described=spec(32, CLASSES, mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5)))
    done = msedge("calib", "make", data, "--n", 12, "--out", tmp_path / "set", "--model", model, "--json")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["preprocess"]["mean"] == [0.5, 0.5, 0.5]
    activations = found["audit"]["activations"]
    assert activations["images"] == [12, 18]
    assert {t["tensor"] for t in activations["tensors"]} == {"x", "c1", "r1", "c2", "p", "logits"}
    shown = msedge("calib", "check", tmp_path / "set", "--model", model)
    assert "activations outside the calibrated range" in shown.stdout


def test_images_of_another_kind_fail_the_check(data, tmp_path):
    for path in pictures(tmp_path / "dark", (), 20).iterdir():
        cv2.imwrite(str(path), cv2.imread(str(path)) // 8)
    made = msedge("calib", "make", tmp_path / "dark", "--n", 16, "--out", tmp_path / "set", "--against", data)
    assert made.returncode == 0, "what is chosen is written, with its verdicts"
    assert "error: channel" in made.stdout
    done = msedge("calib", "check", tmp_path / "set", "--against", data)
    assert done.returncode == 1
    assert "is darker than in" in done.stdout


def test_copies_and_larger_numbers_than_there_are(data, tmp_path):
    done = msedge("calib", "make", data, "--n", 500, "--out", tmp_path / "set", "--copy")
    assert done.returncode == 0
    assert "has 36 different usable images, 500 were asked for: all are taken" in done.stderr
    assert len(list((tmp_path / "set/images").rglob("*.jpg"))) == 36
    assert msedge("calib", "check", tmp_path / "set").returncode == 0


def test_one_image_of_one_class_is_taken_with_notices(data, tmp_path):
    done = msedge("calib", "make", data / "train/cat", "--n", 1, "--out", tmp_path / "set")
    assert done.returncode == 0
    assert "one image says next to nothing about the ranges of others" in done.stderr
    assert "warning: only 1 images" in done.stdout


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (("--n", 0), "0 calibration images are too few"),
        (("--n", 1), "one image can show only one of 3 classes"),
        (("--n", -3), "-3 is not in the range"),
        (("--model", "nothere.onnx"), "there is no model nothere.onnx"),
        (("--against", "nothere"), "the image folder nothere is missing"),
    ],
)
def test_wrong_input_is_one_line_and_exit_2(data, tmp_path, args, message):
    done = msedge("calib", "make", data, *args, cwd=tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    assert message in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_folders_that_cannot_calibrate(data, tmp_path):
    def refused(folder, *args) -> str:
        done = msedge("calib", "make", folder, "--out", tmp_path / "set", *args)
        assert (done.returncode, done.stdout) == (2, "")
        assert len(done.stderr.splitlines()) == 1
        assert not (tmp_path / "set/calibration.json").exists()
        return done.stderr

    (tmp_path / "empty").mkdir()
    assert "no image in this folder" in refused(tmp_path / "empty")
    black = pictures(tmp_path / "black", ("cat", "dog"), 3)
    for path in (black / "cat").iterdir():
        cv2.imwrite(str(path), np.zeros((40, 40, 3), np.uint8))
    assert "none of the 3 images of class 'cat' can be used" in refused(black)
    model = small_onnx(tmp_path / "net.onnx", described=spec(32, CLASSES))
    (tmp_path / "one").mkdir()
    (tmp_path / "one/dog").symlink_to(data / "train/dog")
    assert "has only the class 'dog'" in refused(tmp_path / "one", "--model", model)


def test_check_of_a_changed_set(data, tmp_path):
    root = pictures(tmp_path / "own", ("a", "b"), 6)
    assert msedge("calib", "make", root, "--n", 8, "--out", tmp_path / "set").returncode == 0
    changed = tmp_path / "own" / json.loads((tmp_path / "set/calibration.json").read_text())["images"][0]["file"]
    changed.write_bytes(changed.read_bytes() + b"more")
    done = msedge("calib", "check", tmp_path / "set")
    assert done.returncode == 2
    assert "1 of 8 images are not as they were when the set was made" in done.stderr
    assert "calibration set is missing" in msedge("calib", "check", tmp_path / "own").stderr
