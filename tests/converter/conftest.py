from __future__ import annotations

from pathlib import Path

import pytest
from small_models import pictures, small_onnx, spec

CLASSES = ("cat", "dog", "fox")


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
