"""What the audit of a calibration set finds."""

import cv2
import numpy as np
import pytest

from msedge.data.calibration_audit import add_drift, add_shared, audit_set, settle
from msedge.data.image_statistics import STATISTICS, measure_all, pixel_histograms
from msedge.data.preprocess import Preprocess


def levels(report) -> dict[str, str]:
    return {v.text: v.level for v in report.verdicts}


def picture(seed: int, brightness: float = 1.0) -> np.ndarray:
    coarse = np.random.default_rng(seed).uniform(0, 255 * brightness, (6, 7, 3)).astype(np.float32)
    return np.clip(cv2.resize(coarse, (56, 48), interpolation=cv2.INTER_CUBIC), 0, 255).astype(np.uint8)


@pytest.fixture
def folder(tmp_path):
    """folder(name, n, seed, brightness) writes n pictures and returns their paths."""

    def write(name: str, n: int, seed: int = 0, brightness: float = 1.0):
        (tmp_path / name).mkdir()
        paths = [tmp_path / name / f"{i:03d}.png" for i in range(n)]
        for i, path in enumerate(paths):
            cv2.imwrite(str(path), picture(1000 * seed + i, brightness))
        return paths

    return write


def audited(paths, whole=(), classes=None, known=()):
    measured = measure_all(paths)
    return audit_set([p.name for p in paths], measured, classes or [None] * len(paths), measure_all(whole), known), measured


def test_a_good_set_has_nothing_to_complain_about(folder):
    whole = folder("whole", 60)
    report, measured = audited(whole[:20], whole, ["a", "b"] * 10, ["a", "b"])
    add_drift(report, *(pixel_histograms(p, Preprocess(32)) for p in (whole[:20], whole[20:])), Preprocess(32), "the others")
    add_shared(report, measured, measure_all(whole[20:]))
    settle(report)
    assert report.ok
    assert levels(report) == {"nothing to complain about": "ok"}
    assert report.counts == {"a": 10, "b": 10}
    assert [c.statistic for c in report.coverage] == list(STATISTICS)
    assert all(0.8 < c.inside <= 1 and c.distance < 0.4 for c in report.coverage)
    assert report.to_dict()["verdicts"][0]["level"] == "ok"


def test_one_class_of_several_is_an_error_and_few_of_one_a_warning(folder):
    paths = folder("x", 20)
    report, _ = audited(paths, (), ["a"] * 20, ["a", "b"])
    assert levels(report) == {"no image of class 'b'": "error"}
    assert not report.ok
    report, _ = audited(paths, (), ["a", "b"] * 10, ["a", "b", "c", "d"])
    assert levels(report) == {"no image of class 'c' and 1 others": "warning"}
    report, _ = audited(paths, (), ["a"] * 17 + ["b"] * 3, ["a", "b"])
    assert levels(report) == {"only 3 of 20 images are of class 'b'": "warning"}
    report, _ = audited(paths, (), ["a"] * 20, ["a"])
    assert levels(report) == {"only one class ('a')": "warning"}


def test_repeats_and_flat_images_are_found(folder, tmp_path):
    paths = folder("x", 18)
    paths[3].write_bytes(paths[4].read_bytes())
    cv2.imwrite(str(paths[5]), np.zeros((40, 40, 3), np.uint8))
    report, _ = audited(paths)
    assert report.repeated == [["003.png", "004.png"]]
    assert "1 pictures stand in the set more than once: 003.png = 004.png" in levels(report)
    assert "1 images are of one colour, such as 005.png" in levels(report)
    for path in paths:
        cv2.imwrite(str(path), np.zeros((40, 40, 3), np.uint8))
    report, _ = audited(paths)
    assert levels(report)["18 images are of one colour, such as 000.png"] == "error"


def test_a_set_of_another_kind_than_the_data_is_found(folder):
    dark, bright = folder("dark", 40, 0, 0.3), folder("bright", 40, 1, 1.0)
    report, _ = audited(dark[:20], dark + bright)
    assert any("is not spread as the data's" in text for text in levels(report))
    worst = max(report.coverage, key=lambda c: c.distance)
    assert worst.inside < 0.7


def test_drift_is_measured_in_the_preprocessed_values(folder):
    dark, bright = folder("dark", 20, 0, 0.6), folder("bright", 20, 1, 1.0)
    preprocess = Preprocess(32, mean=(0.5, 0.4, 0.3), std=(0.2, 0.3, 0.4))
    report, _ = audited(dark)
    add_drift(report, *(pixel_histograms(p, preprocess) for p in (dark, bright)), preprocess, "val/")
    for c, drift in enumerate(report.drift):
        for side, paths in enumerate((dark, bright)):
            values = preprocess.batch(paths)[:, c]
            assert drift.mean[side] == pytest.approx(values.mean(), abs=1e-3)
            assert drift.std[side] == pytest.approx(values.std(), abs=1e-3)
        assert drift.outside == pytest.approx((preprocess.batch(bright)[:, c] > drift.range[1] + 1e-4).mean(), abs=1e-6)
        assert drift.shift < -1
    assert any("is darker than in val/" in text and level == "error" for text, level in levels(report).items())


def test_pictures_of_the_validation_images_are_counted(folder):
    paths = folder("x", 18)
    report, measured = audited(paths)
    add_shared(report, measured, measure_all([*folder("others", 5, 1), *paths[:3]]))
    assert report.shared == 3
    assert any(text.startswith("3 of the set's pictures are among the validation images") for text in levels(report))


def test_few_images_are_said_to_be_few(folder):
    report, _ = audited(folder("x", 1))
    assert levels(report) == {"only 1 images": "warning"}
