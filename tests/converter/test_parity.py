"""Which images INT8 is judged on, and golden inputs that belong to another model."""

from __future__ import annotations

import numpy as np
import pytest
from small_models import pictures, small_onnx, spec

from msedge.converter.calibration import write_bins
from msedge.data.calibration_images import choose
from msedge.data.images import read_image
from msedge.data.preprocess import Preprocess
from msedge.errors import ArtifactError, DataError
from msedge.runtime import open_runner
from msedge.runtime.source import Golden, read_golden
from msedge.verification.judging import golden_or_drawn, judging_images

CLASSES = ("cat", "dog", "fox")


def silent(text):
    raise AssertionError(f"nothing should be said, but: {text}")


def test_calibration_is_balanced_and_from_train(dataset):
    chosen = choose(dataset, 30, silent)
    assert {p.parents[1].name for p in chosen.paths} == {"train"}
    assert [sum(p.parent.name == c for p in chosen.paths) for c in CLASSES] == [10, 10, 10]


def test_fewer_images_than_asked_for_are_all_used_and_said(tmp_path):
    lines = []
    chosen = choose(pictures(tmp_path / "flat", (), 5), 128, lines.append)
    assert len(chosen.paths) == 5
    assert "5 readable images" in lines[0]
    assert "128 were asked for" in lines[0]
    (tmp_path / "none").mkdir()
    with pytest.raises(DataError):
        choose(tmp_path / "none", 128, silent)


def test_bins_are_nhwc_float32(tmp_path):
    chosen = choose(pictures(tmp_path / "flat", (), 2), 2, silent)
    preprocess = Preprocess(32)
    _, sections = write_bins(chosen, preprocess, "x", tmp_path / "bins")
    assert sections["data_preprocess_param"]["calibrate_path"] == f"x:{tmp_path / 'bins'}"
    files = sorted((tmp_path / "bins").iterdir())
    for file, image in zip(files, chosen.paths, strict=True):
        nhwc = np.fromfile(file, np.float32).reshape(32, 32, 3)
        np.testing.assert_array_equal(nhwc.transpose(2, 0, 1), preprocess(read_image(image)))


def test_an_input_name_that_the_ini_cannot_hold(tmp_path):
    chosen = choose(pictures(tmp_path / "flat", (), 1), 1, silent)
    with pytest.raises(ArtifactError, match="x:0"):
        write_bins(chosen, Preprocess(32), "x:0", tmp_path / "bins")


def test_the_val_split_is_taken_where_there_is_one(dataset):
    chosen = choose(dataset, 30, silent)
    images, words = judging_images(dataset, chosen.paths, None, CLASSES, 200, silent)
    assert {p.parents[1].name for p in images.paths} == {"val"}
    assert (len(images), words) == (60, "images not used for calibration")
    assert [CLASSES[i] for i in images.labels] == [p.parent.name for p in images.paths]


def test_else_the_images_that_were_not_used(tmp_path):
    lines = []
    folder = pictures(tmp_path / "flat", (), 30)
    chosen = choose(folder, 20, silent)
    images, _ = judging_images(folder, chosen.paths, None, CLASSES, 200, lines.append)
    assert len(images) == 10
    assert not set(images.paths) & set(chosen.paths)
    assert "10 images only" in lines[0]
    assert images.labels is None


def test_else_the_calibration_images_and_it_says_so(tmp_path):
    lines = []
    folder = pictures(tmp_path / "flat", (), 5)
    chosen = choose(folder, 5, silent)
    images, words = judging_images(folder, chosen.paths, None, None, 200, lines.append)
    assert set(images.paths) == set(chosen.paths)
    assert words == "the calibration images"
    assert "INT8 is measured on these" in lines[0]


def test_given_data_wins_and_the_limit_holds(dataset):
    chosen = choose(dataset, 3, silent)
    images, _ = judging_images(dataset, chosen.paths, dataset / "train", CLASSES, 12, silent)
    assert len(images) == 12
    assert {p.parents[1].name for p in images.paths} == {"train"}
    images, _ = judging_images(dataset, chosen.paths, None, CLASSES, 12, silent)
    assert len(images) == 12
    assert len({p.parent.name for p in images.paths}) == 3


def test_foreign_class_folders_may_calibrate_but_give_no_labels(tmp_path):
    folder = pictures(tmp_path / "d", ("owl", "wolf"), 40)
    chosen = choose(folder, 20, silent)
    images, _ = judging_images(folder, chosen.paths, None, CLASSES, 200, silent)
    assert (len(images), images.labels) == (60, None)


def test_golden_outputs_must_be_the_models_own(tmp_path):
    file = small_onnx(tmp_path / "model.onnx", described=spec(classes=CLASSES))
    with open_runner(file) as runner:
        drawn, words = golden_or_drawn(None, runner)
        assert words == "drawn inputs"
        assert drawn.inputs.shape == (8, 3, 32, 32)
        assert golden_or_drawn(drawn, runner) == (drawn, "golden inputs")
        with pytest.raises(ArtifactError, match=r"golden\.npz does not belong to .*model\.onnx"):
            golden_or_drawn(Golden(drawn.inputs, -drawn.logits), runner)


def test_a_damaged_golden_file(tmp_path):
    file = tmp_path / "golden.npz"
    assert read_golden(file) is None
    np.savez(file, inputs=np.zeros((2, 3, 4, 4)), logits=np.zeros((2, 3)))
    assert len(read_golden(file).inputs) == 2
    whole = file.read_bytes()
    for content in (whole[:100], b"", b"text"):
        file.write_bytes(content)
        with pytest.raises(ArtifactError, match="is damaged"):
            read_golden(file)
    np.savez(file, inputs=np.zeros((2, 3, 4, 4)), logits=np.zeros((3, 3)))
    with pytest.raises(ArtifactError, match="do not fit together"):
        read_golden(file)
    np.savez(file, inputs=np.zeros((2, 3, 4, 4)))
    with pytest.raises(ArtifactError, match="is damaged"):
        read_golden(file)
