"""Fixtures of runs that take seconds: small class folders, a small recipe, the command line in a process of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

# A Swin of two small stages: compiles in a few seconds and has stochastic depth.
SWIN = "{dim: [8, 16], heads: [[1], [2]], head_dim: [[8], [8]], mlp: [[16], [32]], window: 4, drop_path: 0.3}"
RECIPE = f"""
name: tiny
seed: 3
data:
  root: ROOT
  batch_size: 5
  eval_batch_size: 10
  augment: {{crop_scale: [0.6, 1.0], mixup: 0.2, mix_prob: 0.5}}
model: {{name: swin_nano, image_size: 32, config: {SWIN}}}
train: {{epochs: 3, lr: 3e-3, warmup_epochs: 1, ema: 0.9, save_minutes: 1e-6}}
"""
TEACHER = f"""
teacher:
  model: {{name: swin_nano, image_size: 64, config: {SWIN.replace("0.3", "0.0")}}}
"""


def write_images(root: Path, counts: dict[str, int], size: int = 64, seed: int = 0) -> Path:
    """Two textures that a model can tell apart: bright blobs on dark, or stripes; one folder per class."""
    rng = np.random.default_rng(seed)
    for split, share in (("train", 1.0), ("val", 0.5)):
        for label, (name, n) in enumerate(counts.items()):
            folder = root / split / name
            folder.mkdir(parents=True)
            for i in range(max(2, round(n * share))):
                image = rng.integers(0, 90, (size, size, 3), np.uint8)
                if label % 2:
                    image[:: rng.integers(3, 6)] += 120
                else:
                    cv2.circle(image, tuple(int(v) for v in rng.integers(16, 48, 2)), 14, (200, 180, 160), -1)
                cv2.imwrite(str(folder / f"{i:03d}.png"), image)
    return root


@pytest.fixture(scope="session")
def folders(tmp_path_factory) -> Path:
    return write_images(tmp_path_factory.mktemp("folders"), {"blob": 20, "stripe": 20})


def _runner(folder: Path, **variables: str):
    def run(*args: str, start: bool = False):
        command = [sys.executable, "-m", "msedge", *map(str, args)]
        pipe = subprocess.PIPE
        process = subprocess.Popen(command, stdout=pipe, stderr=pipe, text=True, env=os.environ | variables, cwd=folder)
        if start:
            return process
        out, err = process.communicate(timeout=300)
        return subprocess.CompletedProcess(command, process.returncode, out, err)

    return run


@pytest.fixture(scope="session")
def cli(tmp_path_factory):
    """Run the command line in a process and with a cache of its own."""
    cache = tmp_path_factory.mktemp("cache")
    return _runner(cache, MSEDGE_CACHE=str(cache))


@pytest.fixture(scope="session")
def user_cli(tmp_path_factory):
    """The same with the user's cache, where the Lite toolchain is."""
    return _runner(tmp_path_factory.mktemp("work"))


@pytest.fixture(scope="session")
def recipe_text(folders) -> str:
    return RECIPE.replace("ROOT", str(folders))


@pytest.fixture(scope="session")
def whole(cli, recipe_text, tmp_path_factory) -> Path:
    """A run of the recipe that nothing stopped."""
    folder = tmp_path_factory.mktemp("whole")
    (folder / "tiny.yaml").write_text(recipe_text)
    done = cli("train", folder / "tiny.yaml", "--out", folder / "run")
    assert done.returncode == 0, done.stderr
    return folder / "run"


@pytest.fixture
def recipe(tmp_path, recipe_text) -> Path:
    path = tmp_path / "tiny.yaml"
    path.write_text(recipe_text)
    return path


@pytest.fixture
def distill(recipe) -> Path:
    recipe.write_text(recipe.read_text() + TEACHER)
    return recipe
