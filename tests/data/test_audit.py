import json
import shutil

import cv2
import pytest

from msedge.data.audit import audit
from msedge.errors import DataError

WELL = {"train/a": 22, "train/b": 24, "val/a": 3, "val/b": 3}


def texts(report, level: str) -> str:
    return "\n".join(v.text for v in report.verdicts if v.level == level)


def test_a_good_set(make_folder):
    report = audit(make_folder(WELL))
    assert report.ok
    assert [v.text for v in report.verdicts] == ["nothing to complain about"]
    assert report.counts == {"train": {"a": 22, "b": 24}, "val": {"a": 3, "b": 3}}
    assert report.sizes["width"] == {"min": 48, "median": 48, "max": 48}
    document = report.to_dict()
    assert json.loads(json.dumps(document)) == document
    assert document["images"] == 52


def test_exact_and_near_duplicates_across_splits_are_errors(make_folder):
    root = make_folder(WELL)
    shutil.copy(root / "train/a/003.png", root / "val/a/copy.png")
    image = cv2.imread(str(root / "train/b/005.png"))
    cv2.imwrite(str(root / "val/b/smaller.jpg"), cv2.resize(image, (40, 34)), [cv2.IMWRITE_JPEG_QUALITY, 70])
    report = audit(root)
    assert not report.ok
    assert "2 pictures both in train and val" in texts(report, "error")
    found = {(d.kind, frozenset(d.files)) for d in report.duplicates}
    assert ("same", frozenset({"train/a/003.png", "val/a/copy.png"})) in found
    assert ("near", frozenset({"train/b/005.png", "val/b/smaller.jpg"})) in found


def test_duplicates_under_two_labels(make_folder):
    root = make_folder(WELL)
    shutil.copy(root / "train/a/003.png", root / "train/b/copy.png")
    report = audit(root)
    assert "1 pictures under two labels: train/a/003.png = train/b/copy.png" in texts(report, "error")


def test_duplicates_within_a_split_are_a_warning(make_folder):
    root = make_folder({"a": 22, "b": 22})
    shutil.copy(root / "a/003.png", root / "a/copy.png")
    report = audit(root)
    assert report.ok
    assert "repeated or almost equal" in texts(report, "warning")
    assert any("both sides" in v.advice for v in report.verdicts)


def test_damaged_and_odd_files_are_listed(make_folder, odd_files):
    root = make_folder(WELL)
    for kind in ("good", "bad"):
        for path in (odd_files / kind).iterdir():
            shutil.copy(path, root / "train" / ("a" if kind == "bad" else "b") / path.name)
    (root / "train/a/notes.txt").write_text("notes")
    report = audit(root)
    assert {name for name, _ in report.bad} == {f"train/a/{p.name}" for p in (odd_files / "bad").iterdir()}
    odd = dict(report.odd)
    assert odd["train/b/cmyk.jpg"] == "CMYK"
    assert odd["train/b/exif.jpg"] == "rotated by EXIF"
    assert odd["train/b/png_named.jpg"] == "a PNG with the suffix .jpg"
    assert odd["train/b/palette.png"] == "palette"
    assert odd["train/b/rgb16.png"] == "16 bits"
    assert "14 unreadable" in texts(report, "error")
    assert report.ignored == 1


def test_imbalance_few_images_and_missing_classes(make_folder):
    root = make_folder({"train/a": 40, "train/b": 5, "val/a": 3, "val/b": 3, "val/c": 2})
    report = audit(root)
    assert "'a' has 8.0 times as many images as 'b'" in texts(report, "warning")
    assert "only 5 images of 'b'" in texts(report, "warning")
    assert "class 'c' is missing in train/" in texts(report, "error")
    assert not report.ok


def test_an_empty_class_and_a_single_class(make_folder):
    assert "no image in class 'b'" in texts(audit(make_folder({"a": 22, "b": 0}, "x")), "error")
    assert "only one class ('a')" in texts(audit(make_folder({"a": 22}, "y")), "error")


def test_flat_colours_are_not_near_duplicates(make_folder):
    root = make_folder({"a": 20, "b": 20})
    for value, place in ((10, "a"), (90, "b"), (200, "b")):
        cv2.imwrite(str(root / place / f"flat{value}.png"), cv2.merge([cv2.UMat(32, 32, cv2.CV_8U).get() * 0 + value] * 3))
    assert audit(root).duplicates == []


def test_no_folder(tmp_path):
    with pytest.raises(DataError, match="missing"):
        audit(tmp_path / "none")


@pytest.mark.realdata
def test_the_photos_are_clean(pets):
    report = audit(pets)
    assert report.ok, report.verdicts
    assert report.counts == {"train": {"cat": 900, "dog": 900}, "val": {"cat": 200, "dog": 200}}
