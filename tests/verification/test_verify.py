"""verify on real files, against the same numbers worked out here."""

from __future__ import annotations

import json
import shutil

import numpy as np
import onnx
import pytest
from onnx import numpy_helper
from small_models import noise, pictures, small_onnx, spec

from msedge.data.images import read_image
from msedge.data.preprocess import Preprocess
from msedge.errors import ArtifactError, DataError, ModelError
from msedge.runtime import open_runner
from msedge.verification import Thresholds, compare, verify

CLASSES = ("cat", "dog", "fox")
KEYS = {"n", "top1_a", "top1_b", "agreement", "flips", "cosine_mean", "cosine_min", "max_abs", "sqnr_db"}


def logits_of(file, folder, preprocess):
    paths = sorted(folder.rglob("*.jpg"))
    with open_runner(file) as runner:
        return runner.predict(np.stack([preprocess(read_image(p)) for p in paths])), [p.parent.name for p in paths]


def test_numbers_are_those_of_the_definition(images, described, tmp_path):
    other = small_onnx(tmp_path / "b.onnx", widen=0.2, described=spec(classes=CLASSES))
    report = verify(described, other, images)
    a, names = logits_of(described, images, Preprocess(32))
    b, _ = logits_of(other, images, Preprocess(32))
    labels = np.array([CLASSES.index(n) for n in names])
    found = report.to_dict()
    assert set(found) >= KEYS
    assert found["n"] == 24
    assert found["top1_a"] == pytest.approx((a.argmax(1) == labels).mean())
    assert found["top1_b"] == pytest.approx((b.argmax(1) == labels).mean())
    assert found["flips"] == (a.argmax(1) != b.argmax(1)).sum() > 0
    assert found["max_abs"] == pytest.approx(np.abs(a - b).max(), rel=1e-4)
    cosines = (a * b).sum(1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1)
    assert found["cosine_mean"] == pytest.approx(cosines.mean(), abs=1e-5)
    assert found["cosine_min"] == pytest.approx(cosines.min(), abs=1e-5)
    assert found["sqnr_db"] == pytest.approx(10 * np.log10((a**2).sum() / ((a - b) ** 2).sum()), abs=0.01)


def test_a_model_equals_itself(images, described):
    found = verify(described, described, images).to_dict()
    assert (found["flips"], found["max_abs"], found["agreement"]) == (0, 0.0, 1.0)
    assert (found["top1_a"], found["sqnr_db"]) == (found["top1_b"], 200.0)


def test_an_unlabelled_folder_gives_no_accuracy(tmp_path, described):
    flat = pictures(tmp_path / "flat", (), 5)
    found = verify(described, described, flat).to_dict()
    assert (found["n"], found["top1_a"], found["top1_b"], found["paired"]) == (5, None, None, None)


def test_each_model_gets_its_own_preprocessing(images, described, tmp_path):
    # The second network is the first one with its red and blue weights exchanged, fed with BGR: the same function.
    model = onnx.load(str(small_onnx(tmp_path / "b.onnx", described=spec(classes=CLASSES, channel_order="BGR"))))
    w1 = next(i for i in model.graph.initializer if i.name == "w1")
    w1.CopyFrom(numpy_helper.from_array(np.ascontiguousarray(numpy_helper.to_array(w1)[:, ::-1]), "w1"))
    described_spec = spec(classes=CLASSES, channel_order="BGR", mean=(0.406, 0.456, 0.485), std=(0.225, 0.224, 0.229))
    model.metadata_props[0].value = json.dumps(described_spec.to_dict())
    onnx.save(model, str(tmp_path / "b.onnx"))
    found = verify(described, tmp_path / "b.onnx", images)
    assert found.comparison.flips == 0
    assert found.comparison.max_abs < 1e-4


def test_classes_in_another_order_are_matched_by_name(images, described, tmp_path):
    turned = small_onnx(tmp_path / "b.onnx", order=[2, 0, 1], described=spec(classes=("fox", "cat", "dog")))
    lines = []
    report = verify(described, turned, images, say=lines.append)
    assert report.comparison.flips == 0
    assert report.comparison.max_abs < 1e-5
    assert report.comparison.top1_a == report.comparison.top1_b
    assert any("another order" in line for line in lines)


def test_other_classes_are_an_error(images, described, tmp_path):
    other = small_onnx(tmp_path / "b.onnx", described=spec(classes=("cat", "dog", "owl")))
    with pytest.raises(ModelError, match=r"same classes.*fox, owl"):
        verify(described, other, images)


def test_another_number_of_outputs_is_an_error(images, described, tmp_path):
    with pytest.raises(ModelError, match=r"3 outputs, b\.onnx has 5"):
        verify(described, small_onnx(tmp_path / "b.onnx", classes=5), images)


def test_a_model_without_a_spec_takes_that_of_the_other(images, described, tmp_path):
    bare = small_onnx(tmp_path / "b.onnx", size=48)
    lines = []
    report = verify(described, bare, images, say=lines.append)
    assert report.comparison.n == 24
    assert lines == []


def test_two_models_without_a_spec_say_what_is_assumed(tmp_path):
    bare = small_onnx(tmp_path / "b.onnx")
    two = pictures(tmp_path / "two", ("x", "y"), 2)
    lines = []
    report = verify(bare, bare, two, say=lines.append)
    assert report.comparison.top1_a is None
    assert "ImageNet" in lines[0]
    assert "accuracy is not known" in lines[-1]


def test_limit_is_balanced(images, described):
    report = verify(described, described, images, limit=6)
    assert report.comparison.n == 6
    with pytest.raises(DataError, match="limit of 0"):
        verify(described, described, images, limit=0)


def test_unreadable_images_are_left_out_and_said(images, described, tmp_path):
    folder = tmp_path / "images"
    shutil.copytree(images, folder)
    (folder / "cat" / "a.jpg").write_bytes(b"no image")
    lines = []
    report = verify(described, described, folder, say=lines.append)
    assert (report.comparison.n, len(report.skipped)) == (24, 1)
    assert report.comparison.top1_a == verify(described, described, images).comparison.top1_a
    assert "a.jpg" in lines[-1]


def test_no_readable_image_is_an_error(described, tmp_path):
    for name in CLASSES:
        (tmp_path / "d" / name).mkdir(parents=True)
        (tmp_path / "d" / name / "a.jpg").write_bytes(b"no image")
    with pytest.raises(DataError, match="none of the 3 images"):
        verify(described, described, tmp_path / "d")


def test_a_class_that_the_model_does_not_know(described, tmp_path):
    with pytest.raises(DataError, match="wolf"):
        verify(described, described, pictures(tmp_path / "d", ("cat", "wolf"), 1))


def test_a_model_json_of_another_size_is_an_error(images, described, tmp_path):
    file = small_onnx(tmp_path / "b.onnx", size=48, described=spec(32, classes=CLASSES))
    with pytest.raises(ModelError, match=r"takes 48 pixels, its model.json says 32"):
        verify(described, file, images)


def test_a_model_json_of_another_class_count_is_an_error(images, tmp_path):
    file = small_onnx(tmp_path / "b.onnx", classes=4, described=spec(32, classes=CLASSES))
    with pytest.raises(ModelError, match=r"4 outputs, its model.json names 3"):
        verify(file, file, images)


def test_thresholds_decide(images, described, tmp_path):
    other = small_onnx(tmp_path / "b.onnx", seed=5, described=spec(classes=CLASSES))
    assert verify(described, other, images).passed
    report = verify(described, other, images, thresholds=Thresholds(min_agreement=0.99))
    assert not report.passed
    assert "agreement" in report.to_dict()["reasons"][0]


def test_runners_that_were_given_stay_open_and_others_are_closed(images, described):
    with open_runner(described) as runner:
        verify(runner, described, images, limit=3)
        assert runner.predict(noise(1)).shape == (1, 3)
        assert compare(runner, runner, noise(4)).max_abs == 0


def test_a_missing_model_is_an_error(images, described):
    with pytest.raises(ArtifactError, match="there is no model"):
        verify(described, "nothere.ms", images)
