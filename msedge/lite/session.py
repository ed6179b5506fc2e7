"""A `.ms` in a running worker: NCHW batches in, logits out."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np

from msedge.errors import ArtifactError, ModelError, ToolFailed, ToolMissing
from msedge.lite.client import Worker
from msedge.lite.ms_file import read_ms
from msedge.lite.protocol import NodeTrace, TensorInfo

LOAD_TIMEOUT = 120.0
PREDICT_TIMEOUT = 300.0
IMAGE_CHANNELS = (1, 3, 4)


def _info(description: dict[str, Any]) -> TensorInfo:
    return TensorInfo(description["name"], tuple(description["shape"]), description["dtype"])


class WorkerSession:
    """`protocol.Session` over a worker; `start_worker()` starts the process."""

    def __init__(self, start_worker: Callable[[], Worker], model: Path, threads: int, can_trace: bool):
        if not model.is_file():
            raise ArtifactError(f"the model is missing: {model}")
        if threads < 1:
            raise ModelError(f"threads must be 1 or more, not {threads}")
        self._can_trace = can_trace
        self._lock = threading.Lock()  # the tensor file holds one request at a time
        self._model = model
        self._worker: Worker | None = None
        try:
            self._worker = start_worker()
            loaded = self._worker.call("load", LOAD_TIMEOUT, path=str(model.resolve()), threads=threads)
        except ToolFailed:
            self.close()
            read_ms(model)  # a damaged file is the user's matter, not the tool's: ArtifactError says what is wrong with it
            raise
        except BaseException:
            self.close()
            raise
        self.inputs = tuple(_info(d) for d in loaded["inputs"])
        self.outputs = tuple(_info(d) for d in loaded["outputs"])

    @property
    def peak_rss_mb(self) -> float:
        return self._worker.peak_rss_mb if self._worker else 0.0

    @property
    def pid(self) -> int:
        """The worker's process id."""
        return self._worker.pid

    def predict(self, x_nchw: np.ndarray) -> np.ndarray:
        return self.timed(x_nchw)[0]

    def timed(self, x_nchw: np.ndarray) -> tuple[np.ndarray, float]:
        logits, seconds = [], 0.0
        with self._lock:
            for batch in self._batches(x_nchw):
                answer = self._worker.call("predict", PREDICT_TIMEOUT, inputs=self._worker.put([batch]))
                seconds += answer["seconds"]
                logits.append(self._logits(answer["outputs"]))
        return np.concatenate(logits)[: len(x_nchw)], seconds * 1e3

    def trace(self, x_nchw: np.ndarray, keep_outputs: bool = True) -> list[NodeTrace]:
        return self.timed_trace(x_nchw, keep_outputs)[0]

    def timed_trace(self, x_nchw: np.ndarray, keep_outputs: bool = True) -> tuple[list[NodeTrace], float]:
        if not self._can_trace:
            raise ToolMissing(
                "this MindSpore Lite toolchain cannot report single nodes",
                "msedge's own copy can: run msedge lite install and leave --lite and MSEDGE_LITE unset",
            )
        batches = self._batches(x_nchw)
        if len(batches) != 1:
            raise ModelError(f"trace takes one batch of {self._batch_size()} image(s), not {len(x_nchw)}")
        with self._lock:
            places = self._worker.put(batches)
            answer = self._worker.call("trace", PREDICT_TIMEOUT, inputs=places, keep_outputs=keep_outputs)
            nodes = [
                NodeTrace(n["name"], n["type"], n["seconds"] * 1e3, tuple(self._worker.get(o) for o in n["outputs"]))
                for n in answer["nodes"]
            ]
            self._worker.forget()
        return nodes, answer["seconds"] * 1e3

    def close(self) -> None:
        if self._worker:
            self._worker.close()

    def __enter__(self) -> WorkerSession:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None) -> None:
        self.close()

    def _batch_size(self) -> int:
        shape = self.inputs[0].shape
        return shape[0] if shape else 1

    def _batches(self, x: np.ndarray) -> list[np.ndarray]:
        """Cut x [N, C, H, W] into arrays of the model's own shape; the last repeats its last image to be full."""
        if len(self.inputs) != 1:
            raise ModelError(f"{self._model} has {len(self.inputs)} inputs; only models with one can be run on images")
        want = self.inputs[0]
        if want.dtype not in ("float32", "float16"):
            raise ModelError(f"{self._model} wants {want.dtype} input, images are float32")
        if len(x) == 0:
            raise ModelError("there is no image to run")
        x = self._in_layout(np.asarray(x), want.shape)
        size = self._batch_size()
        if rest := -len(x) % size:
            x = np.concatenate([x, np.repeat(x[-1:], rest, axis=0)])
        x = np.ascontiguousarray(x, dtype=want.dtype)
        return [x[i : i + size] for i in range(0, len(x), size)]

    def _in_layout(self, x: np.ndarray, want: tuple[int, ...]) -> np.ndarray:
        """Transpose to NHWC where the model wants it (where both layouts fit, it does: the converter writes NHWC)."""
        looks_nhwc = len(want) == 4 and want[3] in IMAGE_CHANNELS and want[1] not in IMAGE_CHANNELS
        if x.ndim == len(want):
            if x.ndim == 4 and (x.shape[2], x.shape[3], x.shape[1]) == want[1:]:
                return x.transpose(0, 2, 3, 1)
            if x.shape[1:] == want[1:] and not looks_nhwc:
                return x
        raise ModelError(
            f"{self._model} wants input of shape {list(want)}, got {list(x.shape)} (images are NCHW here)",
            "check the image size and the number of channels",
        )

    def _logits(self, outputs: list[dict[str, Any]]) -> np.ndarray:
        if not outputs:
            raise ToolFailed(f"{self._model} gave no output")
        if outputs[0]["dtype"] not in ("float32", "float16"):
            raise ToolFailed(f"{self._model} answers with {outputs[0]['dtype']}, not with floating-point numbers")
        return self._worker.get(outputs[0]).astype(np.float32, copy=False)
