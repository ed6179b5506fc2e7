from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest
from small_models import pictures, small_onnx, spec

from msedge.lite import Toolchain, find_toolchain
from msedge.lite.install import install

CLASSES = ("cat", "dog", "fox")


@pytest.fixture(scope="session")
def toolchain() -> Toolchain:
    return find_toolchain(str(install()))


@pytest.fixture(scope="session")
def described(tmp_path_factory) -> Path:
    """An ONNX file that knows its classes and preprocessing."""
    return small_onnx(tmp_path_factory.mktemp("described") / "small.onnx", described=spec(classes=CLASSES))


@pytest.fixture(scope="session")
def dataset(tmp_path_factory) -> Path:
    """train/ with 30 and val/ with 20 pictures of each of three classes."""
    root = tmp_path_factory.mktemp("dataset")
    pictures(root / "train", CLASSES, 30)
    pictures(root / "val", CLASSES, 20, seed=1)
    return root


@pytest.fixture
def disk(tmp_path: Path):
    """A function that mounts a tmpfs with the given options and returns its folder."""
    mounted = []

    def mount(options: str) -> Path:
        folder = tmp_path / f"disk{len(mounted)}"
        folder.mkdir()
        command = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)]
        if os.geteuid() or subprocess.run(command, capture_output=True, check=False).returncode:
            pytest.skip("only root may mount a disk")
        mounted.append(folder)
        return folder

    yield mount
    for folder in mounted:
        subprocess.run(["umount", str(folder)], check=True)
