import errno
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import cv2
import numpy as np
import pytest

from msedge.data.drawn import ensure_drawn, make_drawn
from msedge.data.drawn.bodies import POSES
from msedge.data.drawn.dataset import draw
from msedge.data.folder import load_samples
from msedge.data.randomness import generator
from msedge.errors import ArtifactError, DataError
from msedge.recipe.schema import DrawnConfig

SMALL = DrawnConfig(train=10, val=4, size=48, seed=3)


def contents(root: Path) -> dict[str, bytes]:
    return {p.relative_to(root).as_posix(): p.read_bytes() for p in sorted(root.rglob("*")) if p.is_file()}


def test_the_same_configuration_gives_the_same_bytes(tmp_path):
    for name in ("one", "two"):
        make_drawn(tmp_path / name, SMALL)
    one = contents(tmp_path / "one")
    assert one == contents(tmp_path / "two")
    assert len(one) == 15
    assert sum(n.startswith("train/cat/") for n in one) == 5
    assert sum(n.startswith("val/dog/") for n in one) == 2
    other = tmp_path / "other"
    make_drawn(other, DrawnConfig(train=10, val=4, size=48, seed=4))
    assert not set(one.values()) & {v for k, v in contents(other).items() if k.endswith("jpg")}


def test_a_larger_set_starts_with_the_smaller(tmp_path):
    make_drawn(tmp_path / "small", SMALL)
    make_drawn(tmp_path / "large", DrawnConfig(train=14, val=4, size=48, seed=3))
    small, large = contents(tmp_path / "small"), contents(tmp_path / "large")
    assert all(large[name] == data for name, data in small.items() if name.endswith("jpg"))


def test_images_differ_and_have_the_size(tmp_path):
    make_drawn(tmp_path / "set", SMALL)
    samples = load_samples(tmp_path / "set", "train")
    images = [cv2.imread(str(p)) for p in samples.paths]
    assert all(i.shape == (48, 48, 3) for i in images)
    assert all(i.std() > 8 for i in images)
    assert len({i.tobytes() for i in images}) == 10


@pytest.mark.parametrize("kind", ["cat", "dog"])
@pytest.mark.parametrize("size", [16, 160])
def test_many_of_each_kind_can_be_drawn(kind, size):
    for i in range(12):
        image = cv2.imdecode(np.frombuffer(draw(kind, size, generator(11, "t", i)), np.uint8), cv2.IMREAD_COLOR)
        assert image.shape == (size, size, 3)


@pytest.mark.parametrize("pose", POSES)
def test_the_two_kinds_differ_in_every_pose(pose, monkeypatch):
    """From the same random numbers a cat and a dog come out as different pictures."""
    monkeypatch.setattr("msedge.data.drawn.dataset.POSES", {pose: (POSES[pose][0], 1.0, POSES[pose][2])})
    cat, dog = (
        cv2.imdecode(np.frombuffer(draw(kind, 96, generator(5, "t")), np.uint8), cv2.IMREAD_COLOR).astype(int)
        for kind in ("cat", "dog")
    )
    assert np.abs(cat - dog).mean() > 3


def test_progress_counts_to_the_end(tmp_path):
    calls = []
    make_drawn(tmp_path / "set", SMALL, lambda done, total: calls.append((done, total)))
    assert calls == [(i, 14) for i in range(1, 15)]


def test_an_existing_folder_is_not_touched(tmp_path):
    (tmp_path / "set").mkdir()
    (tmp_path / "set" / "mine.txt").write_text("mine")
    with pytest.raises(DataError, match="exists already"):
        make_drawn(tmp_path / "set", SMALL)
    assert contents(tmp_path) == {"set/mine.txt": b"mine"}


def test_stopped_or_failed_drawing_leaves_nothing(tmp_path):
    def stop(done: int, total: int) -> None:
        if done == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        make_drawn(tmp_path / "set", SMALL, stop)

    def full(done: int, total: int) -> None:
        if done == 3:
            raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(ArtifactError, match="no space left"):
        make_drawn(tmp_path / "set", SMALL, full)
    assert list(tmp_path.iterdir()) == []


def test_the_cache_keeps_sets_apart_and_repairs_a_broken_one(own_cache):
    first = ensure_drawn(SMALL)
    assert first == ensure_drawn(SMALL)
    assert first != ensure_drawn(DrawnConfig(train=4, val=4, size=48, seed=3))
    (first / "drawn.json").unlink()
    (first / "train/cat/cat_00000.jpg").unlink()
    assert (ensure_drawn(SMALL) / "train/cat/cat_00000.jpg").is_file()


def test_a_cache_that_cannot_be_written_is_named(tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    monkeypatch.setenv("MSEDGE_CACHE", str(tmp_path / "file"))
    with pytest.raises(ArtifactError, match="set MSEDGE_CACHE"):
        ensure_drawn(SMALL)


def test_ctrl_c_leaves_neither_files_nor_processes(tmp_path):
    command = [sys.executable, "-m", "msedge", "data", "make", str(tmp_path / "set"), "--train", "100000", "--size", "32"]
    run = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, start_new_session=True)
    deadline = time.monotonic() + 60
    while not list(tmp_path.glob(".set.*/train/cat/*.jpg")) and time.monotonic() < deadline:
        time.sleep(0.05)
    os.killpg(run.pid, signal.SIGINT)
    _, lines = run.communicate(timeout=60)
    assert run.returncode == 130
    assert lines.strip() == "msedge: stopped"
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(ProcessLookupError):
        os.killpg(run.pid, 0)
