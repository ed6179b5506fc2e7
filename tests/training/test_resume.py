"""A run that was killed and resumed ends with the very weights of one that was not."""

from __future__ import annotations

import json
import os
import signal
import time

import numpy as np
import pytest

from msedge.models import read_checkpoint


def weights(folder):
    return {name: read_checkpoint(folder / name) for name in ("best.ckpt", "last.ckpt")}


def without_times(values):
    state = dict(values)
    progress = json.loads(state.pop("msedge.progress").tobytes())
    rows = [{k: v for k, v in row.items() if k not in ("images_per_s", "seconds")} for row in progress["history"]]
    return state, rows


def assert_equal_runs(a, b):
    a, b = weights(a), weights(b)
    (a_state, a_rows), (b_state, b_rows) = without_times(a["last.ckpt"]), without_times(b["last.ckpt"])
    assert a_rows == b_rows
    for one, other in ((a["best.ckpt"], b["best.ckpt"]), (a_state, b_state)):
        assert one.keys() == other.keys()
        for name in one:
            np.testing.assert_array_equal(one[name], other[name], err_msg=name)


def wait_for_step(last, process, epoch, step):
    """Wait until the state on disk has passed `step` of `epoch`, in the middle of the epoch."""
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        assert process.poll() is None, process.communicate()
        if last.is_file():
            progress = json.loads(read_checkpoint(last)["msedge.progress"].tobytes())
            if (progress["epoch"], progress["step_in_epoch"]) >= (epoch, step):
                return
        time.sleep(0.005)
    raise AssertionError("the run never got there")


def test_kill_in_mid_epoch_and_resume(cli, recipe, tmp_path, whole):
    out = tmp_path / "killed"
    process = cli("train", recipe, "--out", out, start=True)
    wait_for_step(out / "last.ckpt", process, 1, 3)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert not (out / "manifest.json").exists()

    refused = cli("train", recipe, "--out", out)
    assert refused.returncode == 2
    assert "already holds a run (add --resume" in refused.stderr
    other = cli("train", recipe, "--out", out, "--resume", "--set", "train.lr=0.5")
    assert other.returncode == 2
    assert "train.lr = 0.003, not 0.5" in other.stderr

    resumed = cli("train", recipe, "--out", out, "--resume", "--json")
    assert resumed.returncode == 0, resumed.stderr
    assert "going on from epoch 2" in resumed.stderr
    assert_equal_runs(whole, out)
    assert json.loads(resumed.stdout)["folders"][0]["val_images"] == 20

    again = cli("train", recipe, "--out", out, "--resume")
    assert again.returncode == 0
    assert "nothing to do" in again.stderr


def test_interrupt_saves_and_says_how_to_go_on(cli, recipe, tmp_path, whole):
    out = tmp_path / "stopped"
    process = cli("train", recipe, "--out", out, "--set", "train.save_minutes=60", start=True)
    while "validation images" not in process.stderr.readline():
        assert process.poll() is None
    time.sleep(1)  # the graph is being compiled: the stop comes after the first step
    os.kill(process.pid, signal.SIGINT)
    _, err = process.communicate(timeout=120)
    if process.returncode == 0:
        pytest.fail("the run ended before it could be interrupted")
    assert process.returncode == 130, err
    assert "Traceback" not in err
    assert "stopped and saved; go on with: msedge train" in err
    assert "--resume" in err
    command = err.strip().splitlines()[-1].split("go on with: msedge ")[1].split()
    resumed = cli(*command)
    assert resumed.returncode == 0, resumed.stderr
    assert_equal_runs(whole, out)


def test_two_runs_are_equal_and_seeds_matter(cli, recipe, tmp_path, whole):
    assert cli("train", recipe, "--out", tmp_path / "twin").returncode == 0
    assert_equal_runs(whole, tmp_path / "twin")
    assert cli("train", recipe, "--out", tmp_path / "other", "--set", "seed=4").returncode == 0
    a, b = weights(whole)["last.ckpt"], weights(tmp_path / "other")["last.ckpt"]
    assert any(not np.array_equal(a[n], b[n]) for n in a if n.startswith("model:"))
