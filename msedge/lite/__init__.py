"""The MindSpore Lite toolchain: discovery, install, worker processes, the ABI, and the `.ms` reader."""

from __future__ import annotations

from pathlib import Path
from types import TracebackType

import numpy as np

from msedge.lite.ms_file import MsModel, MsNode, MsTensor, QuantParam, read_ms, summary
from msedge.lite.protocol import (
    ConvertOutcome,
    ConvertRequest,
    NodeTrace,
    Session,
    TensorInfo,
    Toolchain,
    ToolchainInfo,
)
from msedge.lite.toolchain import find_toolchain

__all__ = [
    "ConvertOutcome",
    "ConvertRequest",
    "LiteModel",
    "MsModel",
    "MsNode",
    "MsTensor",
    "NodeTrace",
    "QuantParam",
    "Session",
    "TensorInfo",
    "Toolchain",
    "ToolchainInfo",
    "find_toolchain",
    "read_ms",
    "summary",
]


class LiteModel:
    """A `.ms` run by MindSpore Lite in a process of its own; a context manager.

    The toolchain is found (and installed where none is) when the model is made. Raises ArtifactError where the file is
    missing, ToolError where no toolchain can be had or it cannot load the file.
    """

    def __init__(self, path: str | Path, threads: int = 1):
        self.path = Path(path)
        self._session = find_toolchain().load(self.path, threads)

    def predict(self, nchw_float32: np.ndarray) -> np.ndarray:
        """Map float32 [N, C, H, W] to float32 logits [N, classes]."""
        return self._session.predict(nchw_float32)

    def close(self) -> None:
        self._session.close()

    def __enter__(self) -> LiteModel:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None) -> None:
        self.close()
