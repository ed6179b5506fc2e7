from __future__ import annotations

from pathlib import Path

import pytest
from small_models import pictures, small_onnx, spec

from msedge.lite import ConvertRequest, find_toolchain
from msedge.lite.install import install

CLASSES = ("cat", "dog", "fox")


@pytest.fixture(scope="session")
def models(tmp_path_factory) -> Path:
    """A folder with net.onnx, which knows its classes, and the same network as net.ms with model.json beside."""
    folder = tmp_path_factory.mktemp("models")
    small_onnx(folder / "net.onnx", described=spec(classes=CLASSES))
    find_toolchain(str(install())).convert(ConvertRequest(folder / "net.onnx", folder / "net.ms", "ONNX"))
    spec(classes=CLASSES).save(folder)
    return folder


@pytest.fixture(scope="session")
def images(tmp_path_factory) -> Path:
    return pictures(tmp_path_factory.mktemp("images"), CLASSES, 8)
