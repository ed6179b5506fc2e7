"""Checkpoint folders in MindSpore's graph mode."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from msedge.errors import ModelError
from msedge.mindspore_setup import load_mindspore
from msedge.runtime.base import Runner

_BATCH = 32  # each batch size costs a compilation: single images run with 1, all else with this


class MindSporeRunner(Runner):
    """A cell rebuilt from `model.json`, with the weights of `best.ckpt` or the given `.ckpt`.

    Raises ArtifactError and ModelError where the folder is damaged or its parts do not fit together.
    """

    runtime = "mindspore"

    def __init__(self, file: Path, threads: int):
        ms = load_mindspore()
        from msedge.models import load_checkpoint_folder

        cell, spec = load_checkpoint_folder(file.parent, file.name)
        super().__init__(file, spec, threads)
        ms.set_context(mode=ms.GRAPH_MODE, device_target=_device(ms))
        cell.set_train(False)
        cell.set_grad(False)
        self._tensor = ms.Tensor
        self._cell = cell
        self.input_shape = (0, 3, spec.image_size, spec.image_size)

    @property
    def _batch(self) -> int:
        return _BATCH

    def _infer(self, x: np.ndarray) -> np.ndarray:
        taken = len(x)
        if 1 < taken < _BATCH:
            x = np.concatenate([x, np.repeat(x[-1:], _BATCH - taken, axis=0)])
        out = self._cell(self._tensor(x))
        logits = out[0] if isinstance(out, tuple) else out
        if logits.ndim != 2:
            raise ModelError(f"{self.name} gives {list(logits.shape)}, not logits [N, classes]")
        return logits.asnumpy()[:taken]


def _device(ms) -> str:
    return ms.get_context("device_target") or "CPU"
