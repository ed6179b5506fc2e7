"""Weights that a run starts from: given on the command line, in the recipe, by name; bad ones cost nothing."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save, save_file
from tiny_runs import SWIN
from web_site import Step

from msedge.models import read_checkpoint
from msedge.recipe import load_recipe


@pytest.fixture(scope="module")
def start(whole, tmp_path_factory):
    """The weights of a finished run, with heads for three classes."""
    values = dict(read_checkpoint(whole / "best.ckpt"))
    values["head.fc.weight"] = np.zeros((3, values["head.fc.weight"].shape[1]), np.float32)
    values["head.fc.bias"] = np.zeros(3, np.float32)
    path = tmp_path_factory.mktemp("start") / "start.safetensors"
    save_file(values, path)
    return path


def test_a_run_starts_from_weights_by_name_and_needs_no_network_again(cli, recipe, start, site, tmp_path, monkeypatch):
    content = start.read_bytes()
    checksum = {"X-Linked-Etag": f'"{hashlib.sha256(content).hexdigest()}"'}
    site.serve("/timm/nano/resolve/main/model.safetensors", content, headers=checksum)
    monkeypatch.setenv("HF_ENDPOINT", site.url)
    quick = ["--set", "train.epochs=1", "--set", "train.lr=1e-9", "--set", "train.min_lr=0", "--set", "train.ema=0"]
    arguments = ["train", recipe, *quick, "--weights", "hf:timm/nano"]
    done = cli(*arguments, "--out", tmp_path / "a")
    assert done.returncode == 0, done.stderr
    assert "weights: the head has 3 classes in the file: it starts anew with 2" in done.stderr
    assert [s.method for s in site.seen] == ["HEAD", "GET"]
    assert load_recipe(tmp_path / "a" / "recipe.yaml").model.weights == "hf:timm/nano"
    trained, first = read_checkpoint(tmp_path / "a" / "best.ckpt"), load_file(start)
    name = "layers.0.blocks.0.mlp.fc1.weight"
    np.testing.assert_allclose(trained[name], first[name], atol=1e-6)
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    cached = cli("models", "fetch", "hf:timm/nano")
    assert cached.returncode == 0, cached.stderr
    Path(cached.stdout.split(": ")[1].rpartition(" (")[0]).unlink()
    finished = cli(*arguments, "--out", tmp_path / "a", "--resume")  # needs its first weights no more
    assert finished.returncode == 0, finished.stderr
    assert "nothing to do" in finished.stderr


def nan(values):
    return {**values, "norm.bias": np.full_like(values["norm.bias"], np.nan)}


def inf(values):
    return {**values, "norm.bias": np.full(values["norm.bias"].shape, 1e300)}


def wide(values):
    return {**values, "norm.bias": np.zeros(99, np.float32)}


BAD = {
    "nan": (lambda v: save(nan(v)), "norm.bias holds values that are not finite"),
    "beyond float32": (lambda v: save(inf(v)), "norm.bias holds values that are not finite"),
    "cut off": (lambda v: save(v)[:-5], "it is cut off"),
    "widths": (lambda v: save(wide(v)), "norm.bias is [99] in the file and [16] in swin_nano"),
    "family": (lambda v: save({f"stages.{n}": a for n, a in v.items()}), "has no parameter of swin_nano"),
    "empty": (lambda v: b"", "is damaged or no safetensors file"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_weights_are_one_line_and_leave_nothing(recipe, start, tmp_path, capsys, case):
    from msedge.cli import _run

    make, words = BAD[case]
    bad = tmp_path / "bad.safetensors"
    bad.write_bytes(make(load_file(start)))
    out = tmp_path / "run"
    assert _run(["train", str(recipe), "--weights", str(bad), "--out", str(out)]) == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1
    assert words in lines[0]
    assert str(bad) in lines[0]
    assert not out.exists()


def test_weights_that_cannot_be_had_end_the_run_before_the_data_is_read(cli, recipe, site, tmp_path, monkeypatch):
    monkeypatch.setenv("HF_ENDPOINT", site.url)
    site.serve("/timm/gated/resolve/main/model.safetensors", steps=[Step(403, {"X-Error-Code": "GatedRepo"})])
    recipe.write_text(recipe.read_text() + f"teacher: {{model: {{name: swin_nano, image_size: 32, config: {SWIN}}}}}\n")
    arguments = ["train", recipe, "--data", tmp_path / "no-data", "--out", tmp_path / "run"]
    done = cli(*arguments, "--set", "teacher.model.weights=hf:timm/gated")
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert "hf:timm/gated is only for those who have accepted its terms" in done.stderr
    assert not (tmp_path / "run").exists()
