"""Which images to calibrate with: different ones, even over the classes, spread as the data are.

Within a class the images are taken by kernel herding (Chen, Welling, Smola 2010) over the ranks of simple statistics, so
that every first part of the list resembles the whole.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from msedge.data.audit import NEAR_DISTANCE
from msedge.data.duplicates import hamming
from msedge.data.folder import Samples
from msedge.data.image_statistics import Measured, measure_all
from msedge.errors import DataError

POOL = 4096  # candidates that are decoded and measured at most, or four times what is wanted
_BANDWIDTH = 0.25  # of the kernel, in ranks (0..1) for each statistic
Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Choice:
    """`chosen` and `pool` are indices into `samples`; `measured` follows `pool`."""

    samples: Samples
    pool: np.ndarray
    measured: list[Measured]
    chosen: list[int]
    seed: int
    asked: int
    left_out: dict[str, list[str]] = field(default_factory=dict)  # why: names of files relative to the root

    @property
    def paths(self) -> list[Path]:
        return [self.samples.paths[i] for i in self.chosen]

    @property
    def measured_chosen(self) -> list[Measured]:
        """The measurements of the chosen, in their order."""
        place = {int(i): at for at, i in enumerate(self.pool)}
        return [self.measured[place[i]] for i in self.chosen]

    @property
    def classes_chosen(self) -> list[str | None]:
        """The class of each of the chosen; None where the data have no classes."""
        return [self.samples.classes[self.samples.labels[i]] or None for i in self.chosen]

    @property
    def names_chosen(self) -> list[str]:
        """Their files, relative to the data."""
        names = self.samples.names()
        return [names[i] for i in self.chosen]

    @property
    def notices(self) -> list[str]:
        """What a user should know about the choice, in sentences."""
        said = []
        usable = len(self.pool) - sum(map(len, self.left_out.values()))
        if len(self.chosen) < self.asked:
            said.append(f"{self.samples.root} has {usable} different usable images, {self.asked} were asked for: all are taken")
        if len(self.chosen) == 1:
            said.append("one image says next to nothing about the ranges of others: 128 are a good number")
        if len(self.chosen) < len(self.samples.classes):
            said.append(f"{len(self.chosen)} images cannot hold all {len(self.samples.classes)} classes")
        if len(self.samples.classes) == 1 and self.samples.classes[0]:
            said.append(f"the data have one class only ('{self.samples.classes[0]}')")
        said += [f"left out as {why}: {len(names)}, the first {names[0]}" for why, names in self.left_out.items() if names]
        return said


def choose_spread(samples: Samples, n: int = 128, seed: int = 0, progress: Progress | None = None) -> Choice:
    """`n` different, readable images, even over the classes and spread as the data are; the same for the same seed.

    Left out are unreadable files, images of one colour, and pictures that resemble one that was taken. Raises DataError
    for n below 1, where no image can be used, and where a class would be missing although the data have it.
    """
    if n < 1:
        raise DataError(f"{n} calibration images are too few", "128 is a good number")
    if n == 1 and len(samples.classes) > 1:
        raise DataError(f"one image can show only one of {len(samples.classes)} classes", "--n 128 is a good number")
    pool = _pool(samples, max(POOL, 4 * n), seed)
    measured = measure_all([samples.paths[i] for i in pool], progress)
    names = samples.names()
    bad = [i for i, m in zip(pool, measured, strict=True) if m.examined.problem]
    flat = [i for i, m in zip(pool, measured, strict=True) if m.flat]
    out = {"unreadable": [names[i] for i in bad], "of one colour": [names[i] for i in flat]}
    usable = np.array([not (m.examined.problem or m.flat) for m in measured])
    _refuse_without(samples, samples.labels[pool], usable, measured)
    places, similar = _herd(measured, samples.labels[pool], usable, n, seed)
    out["repeated or almost equal"] = [names[pool[p]] for p in similar]
    return Choice(samples, pool, measured, [int(pool[p]) for p in places], seed, n, out)


def _pool(samples: Samples, most: int, seed: int) -> np.ndarray:
    if len(samples) <= most:
        return np.arange(len(samples))
    place = {path: i for i, path in enumerate(samples.paths)}
    return np.array([place[path] for path in samples.take_balanced(most, seed).paths])


def _refuse_without(samples: Samples, labels: np.ndarray, usable: np.ndarray, measured: list[Measured]) -> None:
    for label, name in enumerate(samples.classes):
        own = np.flatnonzero(labels == label)
        if usable[own].any():
            continue
        of = f" of class '{name}'" if name else ""
        if not len(own):
            raise DataError(f"{samples.root}: there is no image{of}", "add images or remove the folder")
        first = measured[own[0]].examined
        why = first.problem or "almost one colour all over"
        raise DataError(
            f"{samples.root}: none of the {len(own)} images{of} can be used (such as {first.path.name}: {why})",
            "calibration needs images like those that the model will see" + (", of every class" if name else ""),
        )


def _herd(measured: list[Measured], labels: np.ndarray, usable: np.ndarray, n: int, seed: int) -> tuple[list[int], list[int]]:
    """Places that are taken, class after class in turn, and places passed over since they resemble one of these."""
    rng = np.random.default_rng((seed, 0x73707264))
    herds = [_Herd(np.flatnonzero((labels == k) & usable), measured, rng) for k in np.unique(labels[usable])]
    hashes = np.array([m.examined.phash or 0 for m in measured], np.uint64)
    free, similar, taken = usable.copy(), [], []
    while len(taken) < n and free.any():
        for herd in herds:
            if len(taken) == n or (place := herd.take(free)) is None:
                continue
            taken.append(place)
            free[place] = False
            near = np.flatnonzero(free & (hamming(hashes, hashes[place]) <= NEAR_DISTANCE))
            similar += near.tolist()
            free[near] = False
    return taken, sorted(similar)


class _Herd:
    """The images of one class: `take` gives the one that brings the mean of those taken closest to that of all."""

    def __init__(self, places: np.ndarray, measured: list[Measured], rng: np.random.Generator):
        self.places = places
        values = np.array([measured[p].values for p in places])
        self.ranks = _ranks(values).astype(np.float32)
        self.width = 2 * _BANDWIDTH**2 * values.shape[1]
        self.wanted = np.concatenate(
            [self._kernel(part).mean(axis=1) for part in np.array_split(self.ranks, len(places) // 256 + 1)]
        )
        self.sums = np.zeros(len(places), np.float32)
        self.count = 0
        self.first = int(rng.integers(len(places)))

    def _kernel(self, some: np.ndarray) -> np.ndarray:
        squares = (some**2).sum(axis=1)[:, None] + (self.ranks**2).sum(axis=1)[None] - 2 * some @ self.ranks.T
        return np.exp(-np.maximum(squares, 0) / self.width)

    def take(self, free: np.ndarray) -> int | None:
        allowed = free[self.places]
        if not allowed.any():
            return None
        score = np.where(allowed, self.wanted - self.sums / (self.count + 1), -np.inf)
        best = self.first if self.count == 0 and allowed[self.first] else int(score.argmax())
        self.count += 1
        self.sums += self._kernel(self.ranks[best : best + 1])[0]
        return int(self.places[best])


def _ranks(values: np.ndarray) -> np.ndarray:
    """Column by column the share of smaller values (equal ones share their middle), 0..1."""
    ranks = np.empty(values.shape)
    for column in range(values.shape[1]):
        ordered = np.sort(values[:, column])
        low, high = (np.searchsorted(ordered, values[:, column], side) for side in ("left", "right"))
        ranks[:, column] = (low + high) / 2 / len(values)
    return ranks
