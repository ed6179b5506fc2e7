"""Batches for training and evaluation. A training batch is a pure function of (seed, epoch, step)."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from msedge.data.augment import augment
from msedge.data.folder import Samples
from msedge.data.mix import mix, one_hot
from msedge.data.prefetch import prefetch
from msedge.data.preprocess import Preprocess
from msedge.data.randomness import generator
from msedge.data.store import RAM_BYTES, ImageStore, shrink
from msedge.errors import DataError
from msedge.recipe.schema import DataConfig

_STREAM_VERSION = 1  # raise when the same configuration would give other pixels


@dataclass(frozen=True)
class Batch:
    images: np.ndarray  # float32 [n, 3, size, size], normalised
    targets: np.ndarray  # float32 [n, classes], one-hot or mixed; label smoothing is the loss's
    indices: np.ndarray  # int32 [n], into the samples; of the first image where two are mixed


class TrainBatches:
    """Shuffled, augmented batches of equal size; an epoch's remainder is dropped.

    All randomness comes from `data_config.augment.seed` (or `seed` where that is None), the epoch (modulo
    `augment.views` if set, so that a cache of so many epochs serves for ever), and the place: starting an epoch at
    `start_step` gives the very batches that a whole epoch would have given. Raises DataError if there are fewer images
    than one batch holds.
    """

    def __init__(self, samples: Samples, preprocess: Preprocess, data_config: DataConfig, *, size: int, seed: int):
        self.samples, self.preprocess, self.size = samples, preprocess, size
        self.augment = data_config.augment
        self.batch_size, self.workers = data_config.batch_size, data_config.workers
        self.seed = seed if self.augment.seed is None else self.augment.seed
        self.steps_per_epoch = len(samples) // self.batch_size
        if not self.steps_per_epoch:
            raise DataError(
                f"{samples.root}: {len(samples)} training images are fewer than a batch of {self.batch_size}",
                "lower data.batch_size or add images",
            )
        side = math.ceil(size * min(1.5, max(1.15, self.augment.crop_scale[0] ** -0.5)))
        self._store = ImageStore(samples.paths, lambda image: shrink(image, side))

    def stream_key(self) -> str:
        """sha256 of all that determines the batches: data, augmentation and its seed, sizes, preprocessing."""
        document = {
            "version": _STREAM_VERSION,
            "data": self.samples.fingerprint(),
            "augment": dataclasses.asdict(self.augment) | {"seed": self.seed},
            "batch_size": self.batch_size,
            "size": self.size,
            "preprocess": self.preprocess.to_dict(),
        }
        return hashlib.sha256(json.dumps(document, sort_keys=True).encode()).hexdigest()

    def epoch(self, epoch: int, start_step: int = 0) -> Iterator[Batch]:
        """The batches of `epoch` from `start_step` on, built ahead in `workers` threads that end with the iterator."""
        view = epoch % self.augment.views if self.augment.views else epoch
        order = generator(self.seed, "shuffle", view).permutation(len(self.samples)).astype(np.int32)
        steps = range(start_step, self.steps_per_epoch)
        return prefetch(lambda step: self._build(order, view, step), steps, self.workers)

    def _build(self, order: np.ndarray, view: int, step: int) -> Batch:
        indices = order[step * self.batch_size : (step + 1) * self.batch_size]
        pixels = np.empty((len(indices), self.size, self.size, 3), np.uint8)
        for row, i in enumerate(indices):
            pixels[row] = augment(self._store[i], self.size, self.augment, generator(self.seed, "augment", view, int(i)))
        images = self.preprocess.normalize(pixels)
        targets = one_hot(self.samples.labels[indices], len(self.samples.classes))
        images, targets = mix(images, targets, self.augment, generator(self.seed, "mix", view, step))
        return Batch(images, targets, indices)


class EvalBatch(NamedTuple):
    images: np.ndarray  # float32 [batch_size, 3, size, size]; rows from `valid` on are zeros
    labels: np.ndarray  # int32 [batch_size]; -1 from `valid` on
    valid: int


class EvalBatches:
    """All samples in order, preprocessed as for deployment; the last batch is padded so that one shape is compiled.

    Can be iterated again and again; the cropped pixels are kept in memory while they fit.
    """

    def __init__(self, samples: Samples, preprocess: Preprocess, batch_size: int, *, workers: int = 2):
        self.samples, self.preprocess, self.batch_size, self.workers = samples, preprocess, batch_size, workers
        self._store = ImageStore(samples.paths, preprocess.geometry, RAM_BYTES // 2)

    def __len__(self) -> int:
        """Number of batches."""
        return math.ceil(len(self.samples) / self.batch_size)

    def __iter__(self) -> Iterator[EvalBatch]:
        return prefetch(self._build, range(len(self)), self.workers)

    def _build(self, step: int) -> EvalBatch:
        first = step * self.batch_size
        valid = min(self.batch_size, len(self.samples) - first)
        size = self.preprocess.size
        images = np.zeros((self.batch_size, 3, size, size), np.float32)
        labels = np.full(self.batch_size, -1, np.int32)
        images[:valid] = self.preprocess.normalize(np.stack([self._store[first + i] for i in range(valid)]))
        labels[:valid] = self.samples.labels[first : first + valid]
        return EvalBatch(images, labels, valid)
