from __future__ import annotations

from pathlib import Path

import pytest
from small_models import pictures, small_onnx, spec

CLASSES = ("cat", "dog", "fox")


@pytest.fixture(scope="session")
def images(tmp_path_factory) -> Path:
    """24 pictures in three class folders."""
    return pictures(tmp_path_factory.mktemp("images"), CLASSES, 8)


@pytest.fixture(scope="session")
def described(tmp_path_factory) -> Path:
    """An ONNX file that knows its classes and preprocessing."""
    return small_onnx(tmp_path_factory.mktemp("described") / "a.onnx", described=spec(classes=CLASSES))
