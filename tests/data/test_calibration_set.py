"""The manifest of a chosen set, and what reads it."""

import json
import os
import shutil

import pytest

from msedge.data.calib import calibration_samples, choose_calibration
from msedge.data.calibration_choice import choose_spread
from msedge.data.calibration_images import choose
from msedge.data.calibration_set import FILE, data_behind, is_calibration, load_calibration, read_calibration, write_calibration
from msedge.data.preprocess import Preprocess
from msedge.errors import ArtifactError, DataError


@pytest.fixture
def made(make_folder, tmp_path):
    """(folder of the set, its choice): six of twelve images."""
    root = make_folder({"train/a": 6, "train/b": 6, "val/a": 2, "val/b": 2})
    choice = choose_spread(calibration_samples(root), 6)
    write_calibration(choice, tmp_path / "sets/six", root, Preprocess(32), {"ok": True})
    return tmp_path / "sets/six", choice


def test_the_set_gives_its_images_back_in_order(made):
    folder, choice = made
    assert [p.resolve() for p in load_calibration(folder)] == [p.resolve() for p in choice.paths]
    assert load_calibration(folder / FILE) == load_calibration(folder)
    document, root = read_calibration(folder)
    assert root.samefile(choice.samples.root)
    assert [i["class"] for i in document["images"]] == ["a", "b"] * 3
    assert not os.path.isabs(document["data"])  # noqa: PTH117
    assert list(folder.iterdir()) == [folder / FILE], "no images are copied"


def test_calib_takes_a_set_whole(made):
    folder, choice = made
    said = []
    assert [p.name for p in choose_calibration(folder, 2)] == [p.name for p in choice.paths]
    assert len(choose(folder, 128, said.append).paths) == 6
    assert said and "6 readable images" in said[0], "few are said to be few"
    assert is_calibration(folder) and is_calibration(folder / FILE)
    assert not is_calibration(choice.samples.root)
    assert data_behind(folder).samefile(choice.samples.root)
    assert data_behind(choice.samples.root) is choice.samples.root


def test_set_and_data_may_move_together(made, tmp_path):
    _, choice = made
    (tmp_path / "elsewhere").mkdir()
    shutil.move(tmp_path / "sets", tmp_path / "elsewhere/sets")
    shutil.move(choice.samples.root, tmp_path / "elsewhere" / choice.samples.root.name)
    assert len(load_calibration(tmp_path / "elsewhere/sets/six")) == 6


def test_a_changed_or_missing_image_is_refused(made):
    folder, choice = made
    original = choice.paths[2].read_bytes()
    choice.paths[2].write_bytes(choice.paths[3].read_bytes())
    with pytest.raises(DataError, match="1 of 6 images are not as they were when the set was made"):
        load_calibration(folder)
    choice.paths[2].unlink()
    with pytest.raises(DataError, match="1 of 6 images are missing") as error:
        choose_calibration(folder)
    assert "msedge calib make" in error.value.hint
    choice.paths[2].write_bytes(original)
    assert len(load_calibration(folder)) == 6
    shutil.rmtree(choice.samples.root)
    with pytest.raises(DataError, match="its image folder"):
        load_calibration(folder)
    with pytest.raises(DataError, match="its image folder"):
        data_behind(folder)


def test_copies_stand_for_themselves(made, tmp_path):
    _, choice = made
    write_calibration(choice, tmp_path / "copied", choice.samples.root, Preprocess(32), {}, copy=True)
    with pytest.raises(ArtifactError, match="holds files already"):
        write_calibration(choice, tmp_path / "copied", choice.samples.root, Preprocess(32), {}, copy=True)
    shutil.rmtree(choice.samples.root)
    paths = load_calibration(tmp_path / "copied")
    assert len(paths) == 6
    assert all((tmp_path / "copied/images").resolve() in p.resolve().parents for p in paths)
    assert data_behind(tmp_path / "copied") == tmp_path / "copied/images"


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda d: d.update(format="other"), "is no calibration set"),
        (lambda d: d.update(version=99), "has version 99"),
        (lambda d: d.pop("images"), "is damaged: 'images' is missing"),
        (lambda d: d.pop("preprocess"), "is damaged: 'preprocess' is missing"),
        (lambda d: d.update(images=[]), "names no images"),
        (lambda d: d["images"][0].pop("sha256"), "is damaged: 'sha256' is missing"),
        (lambda d: d.update(images=3), "is damaged"),
    ],
)
def test_a_damaged_manifest_is_refused(made, spoil, message):
    folder, _ = made
    document = json.loads((folder / FILE).read_text())
    spoil(document)
    (folder / FILE).write_text(json.dumps(document))
    with pytest.raises(ArtifactError, match=message):
        load_calibration(folder)


def test_what_is_no_json_is_refused(made):
    folder, _ = made
    (folder / FILE).write_text("{")
    with pytest.raises(ArtifactError, match="cannot be read"):
        load_calibration(folder)
    (folder / FILE).write_text("[]")
    with pytest.raises(ArtifactError, match="is no calibration set"):
        load_calibration(folder)
