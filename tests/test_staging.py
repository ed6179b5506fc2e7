"""A result folder appears whole or not at all."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from msedge.errors import ArtifactError
from msedge.staging import staged_folder

OWN = ("a", "b")


def fill(stage, text="new"):
    for name in OWN:
        (stage / name).write_text(text)


def names(folder):
    return sorted(p.name for p in folder.iterdir())


def test_a_new_folder_with_its_parents(tmp_path):
    with staged_folder(tmp_path / "x" / "out", OWN) as stage:
        fill(stage)
        assert not (tmp_path / "x" / "out").exists()
    assert names(tmp_path / "x") == ["out"]
    assert names(tmp_path / "x" / "out") == ["a", "b"]


def test_an_earlier_result_is_replaced_as_a_whole(tmp_path):
    out = tmp_path / "out"
    out.mkdir()
    fill(out, "old")
    with staged_folder(out, OWN) as stage:
        (stage / "a").write_text("new")
        assert (out / "b").read_text() == "old"
    assert names(tmp_path) == ["out"]
    assert names(out) == ["a"]


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, SystemExit])
def test_an_error_leaves_what_was_there(tmp_path, error):
    out = tmp_path / "out"
    out.mkdir()
    fill(out, "old")
    with pytest.raises(error), staged_folder(out, OWN) as stage:
        fill(stage)
        raise error
    assert names(tmp_path) == ["out"]
    assert (out / "a").read_text() == "old"


def test_what_a_killed_process_left_is_removed(tmp_path):
    dead = subprocess.run([sys.executable, "-c", "import os; print(os.getpid())"], capture_output=True, text=True, check=True)
    kept = [f".out.{os.getppid()}.part", ".out.part", ".other.1.part", ".out.x.part"]
    for name in (f".out.{dead.stdout.strip()}.part", *kept):
        (tmp_path / name).mkdir()
    with staged_folder(tmp_path / "out", OWN) as stage:
        fill(stage)
    assert names(tmp_path) == sorted(["out", *kept])


def test_what_is_in_the_way(tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    other = tmp_path / "other"
    other.mkdir()
    (other / "thesis.tex").touch()
    empty = tmp_path / "empty"
    empty.mkdir()
    for out, message in (
        (tmp_path / "file", "a file of that name is in the way"),
        (tmp_path / "file" / "out", r"cannot write .*out: a (part of the path is a file|file of that name is in the way)"),
        (other, r"holds other files \(thesis\.tex\)"),
    ):
        with pytest.raises(ArtifactError, match=message), staged_folder(out, OWN):
            pytest.fail("the block must not run")
    assert names(other) == ["thesis.tex"]
    monkeypatch.chdir(empty)
    with pytest.raises(ArtifactError, match="current folder"), staged_folder(empty, OWN):
        pytest.fail("the block must not run")


def test_a_place_where_no_folder_can_be_made():
    with pytest.raises(ArtifactError, match="cannot write /proc/out"), staged_folder(Path("/proc/out"), OWN):
        pytest.fail("the block must not run")


def test_a_mount_point_and_a_read_only_disk(disk):
    mounted = disk("size=1m")
    with pytest.raises(ArtifactError, match="mount point"), staged_folder(mounted, OWN):
        pytest.fail("the block must not run")
    read_only = disk("size=1m,ro")
    with pytest.raises(ArtifactError, match="read-only"), staged_folder(read_only / "out", OWN):
        pytest.fail("the block must not run")


def test_a_full_disk_leaves_nothing(disk):
    small = disk("size=8k")
    with pytest.raises(ArtifactError, match="no space left"), staged_folder(small / "out", OWN) as stage:
        (stage / "a").write_bytes(bytes(50_000))
    assert names(small) == []
