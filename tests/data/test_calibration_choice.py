"""Which images are chosen: balanced, different, spread as the data are."""

import shutil

import cv2
import numpy as np
import pytest

from msedge.data.calib import calibration_samples
from msedge.data.calibration_choice import choose_spread
from msedge.data.image_statistics import STATISTICS, measure, pixel_histograms
from msedge.data.preprocess import Preprocess
from msedge.errors import DataError


def per_class(choice) -> dict[str, int]:
    return {c: choice.classes_chosen.count(c) for c in choice.samples.classes}


@pytest.fixture
def varied(tmp_path):
    """Two classes of 60 images whose brightness has a long tail: most are dark, a few very bright."""
    rng = np.random.default_rng(0)
    root = tmp_path / "varied"
    for k, name in enumerate(("a", "b")):
        (root / name).mkdir(parents=True)
        for i, level in enumerate(rng.exponential(0.25, 60)):
            texture = cv2.resize(rng.uniform(0, 1, (6, 6, 3)), (48, 40), interpolation=cv2.INTER_CUBIC)
            image = np.clip(255 * (0.3 * texture + min(level, 1) * 0.7), 0, 255).astype(np.uint8)
            cv2.imwrite(str(root / name / f"{k}{i:03d}.png"), image)
    return root


def test_the_choice_is_balanced_and_the_same_for_the_same_seed(make_folder):
    samples = calibration_samples(make_folder({"a": 20, "b": 5, "c": 20}))
    choice = choose_spread(samples, 12)
    assert per_class(choice) == {"a": 4, "b": 4, "c": 4}
    assert choice.paths == choose_spread(samples, 12).paths
    assert choice.paths != choose_spread(samples, 12, seed=1).paths
    assert per_class(choose_spread(samples, 21)) == {"a": 8, "b": 5, "c": 8}
    assert [p.parent.name for p in choice.paths[:6]] == ["a", "b", "c"] * 2, "every first part is balanced too"


def test_the_choice_resembles_the_data_better_than_chance_does(varied):
    samples = calibration_samples(varied)
    whole = np.array([measure(p).values for p in samples.paths])

    def distance(chosen) -> float:
        found = 0.0
        for column in range(len(STATISTICS)):
            at = np.sort(whole[:, column])
            part = np.searchsorted(np.sort(whole[chosen, column]), at, "right") / len(chosen)
            found = max(found, np.abs(part - np.searchsorted(at, at, "right") / len(at)).max())
        return found

    rng = np.random.default_rng(0)
    by_chance = [distance(rng.permutation(len(samples))[:24]) for _ in range(40)]
    mine = [distance(choose_spread(samples, 24, seed).chosen) for seed in range(3)]
    assert max(mine) < np.median(by_chance)


def test_repeats_and_what_resembles_them_are_taken_once(make_folder):
    root = make_folder({"a": 6, "b": 6})
    first = sorted((root / "a").iterdir())[0]
    shutil.copy(first, root / "a/copy.png")
    shutil.copy(first, root / "b/copy.png")
    image = cv2.imread(str(first))
    cv2.imwrite(str(root / "a/again.jpg"), cv2.resize(image, (96, 80)), [cv2.IMWRITE_JPEG_QUALITY, 85])
    choice = choose_spread(calibration_samples(root), 100)
    assert len(choice.chosen) == 12
    assert len(choice.left_out["repeated or almost equal"]) == 3
    assert len({m.examined.phash for m in choice.measured_chosen}) == 12
    assert any("12 different usable images, 100 were asked for" in n for n in choice.notices)


def test_unreadable_and_flat_images_are_left_out(make_folder):
    root = make_folder({"a": 5, "b": 5})
    (root / "a/broken.jpg").write_bytes(b"broken")
    for i, level in enumerate((0, 128)):
        cv2.imwrite(str(root / f"b/flat{i}.png"), np.full((40, 48, 3), level, np.uint8))
    choice = choose_spread(calibration_samples(root), 10)
    assert choice.left_out["unreadable"] == ["a/broken.jpg"]
    assert choice.left_out["of one colour"] == ["b/flat0.png", "b/flat1.png"]
    assert per_class(choice) == {"a": 5, "b": 5}
    assert any(n.startswith("left out as of one colour: 2, the first b/flat0.png") for n in choice.notices)


def test_floating_point_images_are_unreadable(make_folder):
    root = make_folder({"a": 3, "b": 3})
    pixels = np.random.default_rng(0).uniform(0, 1, (40, 48, 3)).astype(np.float32)
    pixels[3] = np.nan
    cv2.imwrite(str(root / "a/hdr.tiff"), pixels)
    choice = choose_spread(calibration_samples(root), 10)
    assert choice.left_out["unreadable"] == ["a/hdr.tiff"]
    assert "floating-point pixels" in next(m.examined.problem for m in choice.measured if m.examined.problem)


def test_a_class_without_a_usable_image_is_refused(make_folder):
    root = make_folder({"a": 4, "dog": 3})
    for path in (root / "dog").iterdir():
        cv2.imwrite(str(path), np.zeros((40, 48, 3), np.uint8))
    with pytest.raises(DataError, match=r"class 'dog' can be used \(such as 000.png: almost one colour"):
        choose_spread(calibration_samples(root), 4)
    for path in (root / "dog").iterdir():
        path.write_bytes(b"broken")
    with pytest.raises(DataError, match="not an image"):
        choose_spread(calibration_samples(root), 4)
    with pytest.raises(DataError, match="none of the 3 images can be used"):
        choose_spread(calibration_samples(root / "dog"), 4)


def test_odd_numbers_of_images(make_folder):
    samples = calibration_samples(make_folder({"a": 4, "b": 4}))
    with pytest.raises(DataError, match="0 calibration images are too few"):
        choose_spread(samples, 0)
    with pytest.raises(DataError, match="one image can show only one of 2 classes"):
        choose_spread(samples, 1)
    alone = choose_spread(calibration_samples(samples.root / "a"), 1)
    assert len(alone.chosen) == 1
    assert any("one image says next to nothing" in n for n in alone.notices)
    assert any("2 images cannot hold all 3" in n for n in choose_spread(
        calibration_samples(make_folder({"a": 2, "b": 2, "c": 2}, "three")), 2).notices)  # fmt: skip


def test_data_of_one_class_are_taken_with_a_notice(make_folder):
    choice = choose_spread(calibration_samples(make_folder({"only": 6})), 4)
    assert len(choice.chosen) == 4
    assert "the data have one class only ('only')" in choice.notices


def test_large_data_are_sampled_first(make_folder, monkeypatch):
    monkeypatch.setattr("msedge.data.calibration_choice.POOL", 8)
    samples = calibration_samples(make_folder({"a": 20, "b": 20}))
    choice = choose_spread(samples, 2)
    assert len(choice.pool) == len(choice.measured) == 8
    assert choice.paths == choose_spread(samples, 2).paths
    assert [m.examined.path for m in choice.measured_chosen] == choice.paths


def test_statistics_say_what_they_are_named_after(tmp_path):
    def values(image) -> dict[str, float]:
        cv2.imwrite(str(tmp_path / "x.png"), image[..., ::-1])
        return dict(zip(STATISTICS, measure(tmp_path / "x.png").values, strict=True))

    half = np.zeros((64, 256, 3), np.uint8)
    half[:, 128:] = 255
    found = values(half)
    assert found["brightness"] == pytest.approx(0.5, abs=0.01)
    assert found["contrast"] == pytest.approx(0.5, abs=0.01)
    assert found["colour"] == pytest.approx(0, abs=0.01)
    assert found["size"] == 14
    assert found["shape"] == 2
    half[:, 128:] = (255, 0, 0)
    assert values(half)["warmth"] == pytest.approx(0.5, abs=0.01)
    noise = np.random.default_rng(0).integers(0, 256, (128, 128, 3), dtype=np.uint8)
    assert values(noise)["sharpness"] > values(cv2.GaussianBlur(noise, (0, 0), 4))["sharpness"] + 2


def test_pixel_histograms_are_those_of_the_preprocessed_images(make_folder):
    paths = sorted((make_folder({"a": 3}) / "a").iterdir())
    (paths[0].parent / "zzz.png").write_bytes(b"broken")
    preprocess = Preprocess(24, channel_order="BGR")
    counts = pixel_histograms([*paths, paths[0].parent / "zzz.png"], preprocess)
    assert counts.shape == (3, 3, 256)
    levels = (np.arange(256) / 255)[None] / np.array(preprocess.std)[:, None]
    levels -= (np.array(preprocess.mean) / np.array(preprocess.std))[:, None]
    expected = preprocess.batch(paths).mean(axis=(2, 3))
    assert (counts * levels).sum(axis=2) / 24**2 == pytest.approx(expected, abs=1e-4)
    with pytest.raises(DataError, match="none of 1 images can be read"):
        pixel_histograms([paths[0].parent / "zzz.png"], preprocess)
