"""Checkpoint folders in MindSpore's graph mode."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from msedge.errors import ModelError
from msedge.mindspore_setup import graph_mode, load_mindspore
from msedge.models import load_checkpoint_folder
from msedge.runtime.base import Runner

_BATCH = 32  # each batch size costs a compilation: single images run with 1, all else with this


class MindSporeRunner(Runner):
    """A cell rebuilt from `model.json`, with the weights of `best.ckpt` or the given `.ckpt`.

    Raises ArtifactError and ModelError where the folder is damaged or its parts do not fit together.
    """

    runtime = "mindspore"

    def __init__(self, file: Path, threads: int):
        self._tensor = load_mindspore().Tensor
        self._cell, spec = load_checkpoint_folder(file.parent, file.name)
        super().__init__(file, spec, threads)
        self.input_shape = (0, 3, spec.image_size, spec.image_size)

    @property
    def _batch(self) -> int:
        return _BATCH

    def _infer(self, x: np.ndarray) -> np.ndarray:
        taken = len(x)
        if 1 < taken < _BATCH:
            x = np.concatenate([x, np.repeat(x[-1:], _BATCH - taken, axis=0)])
        with graph_mode():
            logits = self._cell(self._tensor(x)).asnumpy()
        if logits.ndim != 2:
            raise ModelError(f"{self.name} gives {list(logits.shape)}, not logits [N, classes]")
        return logits[:taken]
