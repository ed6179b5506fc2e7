import json
import shutil
import threading
from importlib import import_module

import pytest

from msedge.data.folder import load_samples
from msedge.data.scan import scan
from msedge.errors import DataError


@pytest.fixture
def mixed(odd_files, make_folder):
    """Two classes with good, odd and broken files in train/a."""
    root = make_folder({"train/a": 3, "train/b": 4, "val/a": 1, "val/b": 1})
    for kind in ("good", "bad"):
        for path in (odd_files / kind).iterdir():
            shutil.copy(path, root / "train/a" / f"{kind}_{path.name}")
    return root


def test_broken_files_are_left_out_with_reasons(mixed, odd_files, capfd):
    samples = load_samples(mixed, "train")
    calls = []
    report = scan(samples, lambda done, total: calls.append((done, total)))
    bad = sorted(p.name for p in (odd_files / "bad").iterdir())
    assert [p.name for p, _ in report.bad] == [f"bad_{name}" for name in bad]
    assert all(reason and "\n" not in reason and str(mixed) not in reason for _, reason in report.bad)
    assert len(report.good) == len(samples) - len(bad)
    assert not {p for p, _ in report.bad} & set(report.good.paths)
    assert calls[-1] == (len(samples), len(samples))
    assert capfd.readouterr() == ("", "")


def test_the_answer_is_kept(mixed, own_cache):
    samples = load_samples(mixed, "train")
    first = scan(samples)
    calls = []
    again = scan(load_samples(mixed, "train"), lambda done, total: calls.append(done))
    assert again == first
    assert calls == []
    (stored,) = (own_cache / "scan").iterdir()
    stored.write_text(json.dumps({"images": len(samples), "bad": ["nonsense"]}))
    assert scan(samples, lambda done, total: calls.append(done)) == first
    assert calls
    (mixed / "train/b/000.png").write_bytes(b"now broken")
    changed = scan(load_samples(mixed, "train"))
    assert len(changed.bad) == len(first.bad) + 1


def test_a_cache_that_cannot_be_written_is_no_obstacle(mixed, tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    monkeypatch.setenv("MSEDGE_CACHE", str(tmp_path / "file"))
    assert len(scan(load_samples(mixed, "train")).bad) == 14


def test_a_class_without_a_readable_image(make_folder):
    root = make_folder({"train/a": 2, "train/b": 2, "val/a": 1, "val/b": 1})
    for path in (root / "train/b").iterdir():
        path.write_bytes(path.read_bytes()[:50])
    with pytest.raises(DataError, match=r"no readable train image of class 'b' \(such as 000.png: the file is cut off"):
        scan(load_samples(root, "train"))


def test_nothing_to_say_about_good_images(make_folder):
    report = scan(load_samples(make_folder({"a": 3, "b": 3}), "train"))
    assert report.bad == ()
    assert threading.active_count() == 1


def test_a_decoder_that_crashes_costs_one_file(make_folder, tmp_path, monkeypatch):
    (tmp_path / "crashing_decoder.py").write_text(
        "import os, signal\n"
        "from msedge.data.examine import examine as whole\n"
        "def examine(path):\n"
        "    return os.kill(os.getpid(), signal.SIGSEGV) if path.name == '001.png' else whole(path)\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    samples = load_samples(make_folder({"train/a": 3, "train/b": 3, "val/a": 1, "val/b": 1}), "train")
    monkeypatch.setattr("msedge.data.examine.examine", import_module("crashing_decoder").examine)
    report = scan(samples)
    assert [(p.name, reason) for p, reason in report.bad] == [("001.png", "the decoder crashed on this file")] * 2
    assert len(report.good) == 4
