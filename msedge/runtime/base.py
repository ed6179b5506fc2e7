"""The interface that all runtimes share, and what they have in common: checks, batches, time, memory."""

from __future__ import annotations

import resource
import time
from abc import ABC, abstractmethod
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from msedge.errors import ModelError

if TYPE_CHECKING:
    from msedge.models import ModelSpec


class Runner(ABC):
    """A loaded model; a context manager.

    `name` is short and for people, `runtime` is mindspore, onnxruntime, openvino or lite, `spec` is None where nothing
    beside or inside the file says what the model is. `input_shape` is (batch, channels, height, width) with batch 0
    where any batch is taken.
    """

    runtime: str

    def __init__(self, file: Path, spec: ModelSpec | None, threads: int):
        self.file = file
        self.spec = spec
        self.threads = threads
        self.name = short_name(file)
        self.input_shape: tuple[int, int, int, int] = (0, 0, 0, 0)

    @abstractmethod
    def _infer(self, x: np.ndarray) -> np.ndarray:
        """One call of the runtime with a batch that the model takes."""

    @property
    def _batch(self) -> int:
        """Images in one call when there are many."""
        return self.input_shape[0] or 32

    def predict(self, x: np.ndarray) -> np.ndarray:
        """Map float32 [N, C, H, W] (any N) to the first output, float32 [N, classes] for a classifier.

        Raises ModelError where x does not fit the model.
        """
        return self.timed(x)[0]

    def timed(self, x: np.ndarray) -> tuple[np.ndarray, float]:
        """As `predict`; also the milliseconds spent inside the runtime's calls."""
        x = self._checked(x)
        parts, spent = [], 0.0
        for start in range(0, len(x), self._batch):
            part = x[start : start + self._batch]
            taken = len(part)
            if self.input_shape[0] and taken < self.input_shape[0]:
                part = np.concatenate([part, np.repeat(part[-1:], self.input_shape[0] - taken, axis=0)])
            began = time.perf_counter()
            out = self._infer(part)
            spent += time.perf_counter() - began
            parts.append(np.asarray(out, np.float32)[:taken])
        return np.concatenate(parts), spent * 1e3

    def _checked(self, x: np.ndarray) -> np.ndarray:
        wanted = self.input_shape[1:]
        if x.ndim != 4 or len(x) == 0 or any(w and w != got for w, got in zip(wanted, x.shape[1:], strict=True)):
            shape = " x ".join(str(w or "any") for w in wanted)
            raise ModelError(f"{self.name} takes images [N, {shape}], not {list(x.shape)}")
        return np.ascontiguousarray(x, np.float32)

    @property
    def size_bytes(self) -> int:
        """Bytes of the model file (with the external data of an ONNX file, where there is any)."""
        return self.file.stat().st_size

    @property
    def peak_rss_mb(self) -> float:
        """Peak resident memory in MB (of 1024 KB) of the process that runs the model."""
        return own_peak_rss_mb()

    def close(self) -> None:  # noqa: B027 (most runtimes hold nothing that needs an order)
        """Free the model; harmless when repeated."""

    def __enter__(self) -> Runner:
        return self

    def __exit__(self, *_) -> None:
        self.close()


def own_peak_rss_mb() -> float:
    """Peak resident memory of this process. The kernel's VmHWM, since ru_maxrss of a child starts at its parent's."""
    try:
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) / 1024
    except OSError:
        pass
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def short_name(file: Path) -> str:
    """`student/model.ms` for a file that is called as all are, its own name for others."""
    return f"{file.resolve().parent.name}/{file.name}" if file.stem in ("model", "best", "last") else file.name
