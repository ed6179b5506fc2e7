"""What the rest of msedge knows of a MindSpore Lite toolchain: requests, answers, and the two interfaces.

Three kinds of toolchain stand behind it: msedge's own copy of the pinned wheel ("native"), an interpreter that can
import `mindspore_lite` ("python"), and a folder with the official `converter_lite` ("folder").
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Protocol, runtime_checkable

import numpy as np


@dataclass(frozen=True)
class ToolchainInfo:
    """One toolchain as probed. `abilities` has the keys convert, predict, trace, full_quant, ascend (bool) and
    mindir_version (the newest `mind_ir_version` that it reads, int, or None where that is not known)."""

    kind: str
    location: Path
    version: str
    abilities: dict[str, bool | str | int | None]


@dataclass(frozen=True)
class ConvertRequest:
    """One conversion. `output` ends in `.ms`; `config_text` is the converter's INI; `timeout` is in seconds."""

    source: Path
    output: Path
    fmk: str
    config_text: str = ""
    fp16_weights: bool = False
    timeout: float = 600.0


@dataclass(frozen=True)
class ConvertOutcome:
    """`log` is all that the converter printed; `seconds` counts the conversion without the worker's start."""

    log: str
    seconds: float
    worker_start_seconds: float


@dataclass(frozen=True)
class TensorInfo:
    """A model's input or output: its own name and layout (images are usually NHWC in a `.ms`), numpy's dtype name."""

    name: str
    shape: tuple[int, ...]
    dtype: str


@dataclass(frozen=True)
class NodeTrace:
    """One node of one inference: name (the ONNX node's), type, milliseconds, output arrays in the runtime's layout."""

    name: str
    type: str
    ms: float
    outputs: tuple[np.ndarray, ...]


@runtime_checkable
class Session(Protocol):
    """A `.ms` loaded in a worker process; a context manager."""

    inputs: tuple[TensorInfo, ...]
    outputs: tuple[TensorInfo, ...]
    peak_rss_mb: float

    def predict(self, x_nchw: np.ndarray) -> np.ndarray:
        """Map float32 [N, C, H, W] to float32 logits [N, classes]; any N, image by image where the model has batch 1.

        Raises ModelError where x does not fit the model, ToolFailed or ToolTimeout where the worker dies or hangs.
        """

    def timed(self, x_nchw: np.ndarray) -> tuple[np.ndarray, float]:
        """As `predict`; also the milliseconds spent in the runtime's own Predict, measured inside the worker."""

    def trace(self, x_nchw: np.ndarray, keep_outputs: bool = True) -> list[NodeTrace]:
        """Run one batch and report every node in the order of execution; without outputs if not `keep_outputs`."""

    def timed_trace(self, x_nchw: np.ndarray, keep_outputs: bool = True) -> tuple[list[NodeTrace], float]:
        """As `trace`; also the milliseconds of the whole run, which the reports make longer."""

    def close(self) -> None:
        """End the worker; harmless when repeated."""

    def __enter__(self) -> Session: ...

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None) -> None: ...


@runtime_checkable
class Toolchain(Protocol):
    """A converter, a runtime, or both; see `info.abilities`."""

    info: ToolchainInfo

    def convert(self, request: ConvertRequest) -> ConvertOutcome:
        """Convert; `request.output` appears only when whole.

        Raises ArtifactError (source missing, output not writable), ToolFailed (with the log), ToolTimeout, ToolMissing.
        """

    def load(self, model: Path, threads: int = 1) -> Session:
        """Start a worker and load a `.ms`. Raises ArtifactError, ToolFailed, ToolTimeout, ToolMissing."""
