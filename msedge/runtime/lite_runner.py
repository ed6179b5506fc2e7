"""`.ms` files in the MindSpore Lite runtime, in a worker process."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from msedge.errors import ArtifactError, ModelError, ToolFailed
from msedge.lite import find_toolchain
from msedge.lite.protocol import Toolchain
from msedge.runtime.base import Runner

if TYPE_CHECKING:
    from msedge.models import ModelSpec

_IDENTIFIERS = (b"MSL1", b"MSL2")


class LiteRunner(Runner):
    """Raises ArtifactError (no `.ms`, or one that is damaged), ModelError, ToolMissing, ToolTimeout."""

    runtime = "lite"

    def __init__(self, file: Path, spec: ModelSpec | None, threads: int, toolchain: Toolchain):
        super().__init__(file, spec, threads)
        _check_identifier(file)
        try:
            self.session = toolchain.load(file, threads)
        except ToolFailed as e:
            raise ArtifactError(
                f"MindSpore Lite {toolchain.info.version} cannot load {file}: {e.message.rpartition(': ')[2]}",
                "the file may be damaged or written for another version: convert the model again",
            ) from e
        inputs = self.session.inputs
        if len(inputs) != 1 or len(inputs[0].shape) != 4:
            self.close()
            found = ", ".join(f"{i.name} {list(i.shape)}" for i in inputs) or "none"
            raise ModelError(f"{file} does not take one image tensor: its inputs are {found}")
        self.input_shape = _nchw(inputs[0].shape)

    def timed(self, x: np.ndarray) -> tuple[np.ndarray, float]:
        return self.session.timed(self._checked(x))

    def _infer(self, x: np.ndarray) -> np.ndarray:
        return self.session.predict(x)

    @property
    def peak_rss_mb(self) -> float:
        return self.session.peak_rss_mb

    def close(self) -> None:
        self.session.close()


def toolchain_for(
    lite: str | Path | Toolchain | None, say: Callable[[str], None] | None = None, install: bool = True
) -> Toolchain:
    """The toolchain itself where one was given, else the one that is found (and installed where there is none)."""
    if lite is None or isinstance(lite, str | Path):
        return find_toolchain(str(lite) if lite else None, install=install, say=say)
    return lite


def _check_identifier(file: Path) -> None:
    with file.open("rb") as f:
        head = f.read(8)
    if head[4:] not in _IDENTIFIERS:
        raise ArtifactError(f"{file} is not a .ms file: it does not begin as one", "convert the model again")


def _nchw(shape: tuple[int, ...]) -> tuple[int, int, int, int]:
    """Images are NHWC in a `.ms`; a few models keep NCHW: channels are the smaller of the two ends."""
    n, first, middle, last = (max(d, 0) for d in shape)
    return (n, last, first, middle) if last <= first else (n, first, middle, last)
