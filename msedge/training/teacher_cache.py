"""The teacher's logits for a whole epoch of augmented batches, computed once and kept on disk.

The stream of batches is a pure function of its key, so the logits of (teacher, stream, epoch) never change; TinyViT
(Wu et al. 2022, arXiv:2207.10666) stores them the same way, with the augmentation's random seed instead of the images.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np

from msedge.artifact import atomic_path, cache_dir, sha256_bytes
from msedge.data.batches import Batch
from msedge.data.preprocess import Preprocess
from msedge.training.teacher import Teacher, adapt


class TeacherLogits:
    """Call with (epoch, step, batch) to get the teacher's logits [N, C] for that batch, from disk where they are known.

    An epoch's file is written once all its steps have been computed in one go; `computed` counts teacher passes.
    """

    def __init__(self, teacher: Teacher, own: Preprocess, stream_key: str, steps: int, *, views: int = 0, keep: bool = True):
        self.teacher, self.own, self.steps, self.views = teacher, own, steps, views
        key = sha256_bytes(f"{teacher.sha256} {stream_key} {teacher.preprocess.to_dict()}".encode())
        self.folder = cache_dir() / "teacher" / key[:32] if keep else None
        self.computed = 0
        self._view = -1
        self._known: np.ndarray | None = None
        self._fresh: list[np.ndarray] = []

    def path(self, epoch: int) -> Path | None:
        view = epoch % self.views if self.views else epoch
        return self.folder / f"view_{view:05d}.npy" if self.folder else None

    def __call__(self, epoch: int, step: int, batch: Batch) -> tuple[np.ndarray]:
        if epoch != self._view:
            self._view, self._fresh = epoch, []
            self._known = self._load(self.path(epoch), len(batch.images))
        if self._known is not None:
            return (self._known[step],)
        logits = self.teacher.logits(adapt(batch.images, self.own, self.teacher.preprocess))
        self.computed += 1
        if len(self._fresh) == step:
            self._fresh.append(logits)
        if len(self._fresh) == self.steps and self.folder:
            with atomic_path(self.path(epoch)) as temporary:
                np.save(temporary, np.stack(self._fresh))
        return (logits,)

    def _load(self, path: Path | None, batch: int) -> np.ndarray | None:
        if path is None or not path.is_file():
            return None
        try:
            known = np.load(path, allow_pickle=False)
        except (OSError, ValueError, EOFError):
            return None
        return known if known.shape == (self.steps, batch, self.teacher.num_classes) else None


def teacher_images(teacher: Teacher, own: Preprocess) -> Callable[[int, int, Batch], tuple[np.ndarray]]:
    """For losses on features: each batch as the teacher wants to see it."""
    return lambda epoch, step, batch: (adapt(batch.images, own, teacher.preprocess),)
