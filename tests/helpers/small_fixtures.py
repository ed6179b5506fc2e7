"""Fixtures that several suites share: the toolchain, a small ONNX file and `.ms`, an untrained checkpoint folder,
small disks."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest
from small_models import small_onnx

from msedge.lite import ConvertRequest, Toolchain, ToolchainInfo, find_toolchain, kinds
from msedge.lite.install import install


@pytest.fixture(scope="session")
def toolchain() -> Toolchain:
    return find_toolchain(str(install()))


@pytest.fixture
def aarch64(monkeypatch) -> kinds.WorkerToolchain:
    """A native toolchain whose worker processes are aarch64."""
    prepared = os.environ.get("MSEDGE_TEST_AARCH64")
    if not prepared:
        pytest.skip("MSEDGE_TEST_AARCH64 names no folder made by tests/lite/prepare_aarch64.sh")
    folder = Path(prepared)
    monkeypatch.setattr(kinds.sys, "executable", str(folder / "python"))
    info = ToolchainInfo("native", folder, "2.0.0", {"trace": True})
    return kinds.WorkerToolchain(info, folder / "mindspore_lite" / "lib")


@pytest.fixture(scope="session")
def onnx_file(tmp_path_factory) -> Path:
    return small_onnx(tmp_path_factory.mktemp("onnx") / "small.onnx")


@pytest.fixture(scope="session")
def ms_file(toolchain, onnx_file, tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("ms") / "small.ms"
    toolchain.convert(ConvertRequest(onnx_file, path, "ONNX"))
    return path


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory) -> Path:
    """A checkpoint folder: MobileViT-XXS at 64 px, first weights, two classes."""
    from msedge.models import create_model, describe, save_checkpoint

    folder = tmp_path_factory.mktemp("checkpoint")
    describe("mobilevit_xxs", 2, 64, ("cat", "dog")).save(folder)
    save_checkpoint(create_model("mobilevit_xxs", num_classes=2, image_size=64), folder / "best.ckpt")
    return folder


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


@pytest.fixture
def tiny_disk(disk):
    """A function that mounts a disk of so many kilobytes and returns its folder."""
    return lambda kilobytes: disk(f"size={kilobytes}k")
