import json
import shutil

import numpy as np
import pytest

from msedge.data.calib import choose_calibration, write_calib_bins
from msedge.data.folder import load_samples
from msedge.data.images import read_image
from msedge.data.preprocess import Preprocess
from msedge.errors import DataError

COUNTS = {"train/a": 9, "train/b": 4, "train/c": 9, "val/a": 1, "val/b": 1, "val/c": 1}


def per_class(paths) -> dict[str, int]:
    names = [p.parent.name for p in paths]
    return {n: names.count(n) for n in sorted(set(names))}


def test_choice_is_balanced_deterministic_and_from_train(make_folder):
    root = make_folder(COUNTS)
    chosen = choose_calibration(root, 9)
    assert per_class(chosen) == {"a": 3, "b": 3, "c": 3}
    assert all("train" in p.parts for p in chosen)
    assert chosen == choose_calibration(root, 9) == choose_calibration(load_samples(root, "train"), 9)
    assert chosen != choose_calibration(root, 9, seed=1)
    assert per_class(choose_calibration(root, 16)) == {"a": 6, "b": 4, "c": 6}
    assert len(set(choose_calibration(root, 500))) == 22


def test_class_folders_and_flat_folders(make_folder):
    root = make_folder(COUNTS)
    assert per_class(choose_calibration(root / "train", 6)) == {"a": 2, "b": 2, "c": 2}
    assert len(choose_calibration(root / "train/a", 5)) == 5
    shutil.rmtree(root / "val")
    assert per_class(choose_calibration(root, 6)) == {"a": 2, "b": 2, "c": 2}


def test_damaged_images_are_passed_over(make_folder):
    root = make_folder({"a": 4, "b": 4})
    broken = sorted((root / "a").iterdir())[:3]
    for path in broken:
        path.write_bytes(b"broken")
    chosen = choose_calibration(root, 6)
    assert not set(broken) & set(chosen)
    assert per_class(chosen) == {"a": 1, "b": 4}


def test_nothing_to_calibrate_with(make_folder, tmp_path):
    root = make_folder({"a": 2})
    for path in (root / "a").iterdir():
        path.write_bytes(b"broken")
    with pytest.raises(DataError, match="no readable image to calibrate"):
        choose_calibration(root / "a")
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="no image in this folder"):
        choose_calibration(tmp_path / "empty")
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes/readme.txt").touch()
    with pytest.raises(DataError, match="no image in this folder"):
        choose_calibration(tmp_path / "notes")
    with pytest.raises(DataError, match="missing"):
        choose_calibration(tmp_path / "none")
    with pytest.raises(DataError, match="too few"):
        choose_calibration(root, 0)


def test_bins_are_nhwc_float32(make_folder, tmp_path):
    preprocess = Preprocess(24, channel_order="BGR")
    paths = choose_calibration(make_folder({"a": 3, "b": 3}), 4)
    calibration = write_calib_bins(paths, preprocess, tmp_path / "bins")
    files = sorted((tmp_path / "bins").iterdir())
    assert [f.suffix for f in files] == [".bin"] * 4
    for path, file in zip(paths, files, strict=True):
        tensor = np.fromfile(file, np.float32).reshape(24, 24, 3)
        assert np.array_equal(tensor.transpose(2, 0, 1), preprocess(read_image(path)))
    document = calibration.to_dict()
    assert json.loads(json.dumps(document)) == document
    assert Preprocess.from_dict(document["preprocess"]) == preprocess
    assert len(document["images"]) == 4


def test_bins_want_images_and_a_folder_of_their_own(make_folder, tmp_path):
    paths = choose_calibration(make_folder({"a": 3, "b": 3}), 2)
    with pytest.raises(DataError, match="no images"):
        write_calib_bins([], Preprocess(8), tmp_path / "bins")
    (tmp_path / "used").mkdir()
    (tmp_path / "used/old.bin").touch()
    with pytest.raises(DataError, match="not empty"):
        write_calib_bins(paths, Preprocess(8), tmp_path / "used")
