"""What a tensor's numbers look like, learned from one pass, and the scale that fits them.

Memory does not grow with the number of images: extremes, or a histogram. All take any scheme: per tensor or per channel,
symmetric or affine. Softmax's skew towards 0 and the short negative side of GELU and SiLU need nothing of their own: with an
affine scheme both ends are found apart.
"""

from __future__ import annotations

from typing import Protocol

import numpy as np

from msedge.errors import UserError
from msedge.quantization.histogram import Histogram
from msedge.quantization.plan import TensorPlan
from msedge.quantization.scheme import Scheme, Through, best_range

PERCENT, MOMENTUM = 99.99, 0.9


class Observer(Protocol):
    """Sees the values of one tensor image by image."""

    def observe(self, x: np.ndarray) -> None:
        """Take in one array; every call has the same channels."""

    def ends(self) -> tuple[np.ndarray, np.ndarray]:
        """(low, high), each [channels] ([1] per tensor), in real units."""

    def plan(self) -> TensorPlan:
        """How to store the tensor."""


class _Base:
    def __init__(self, scheme: Scheme):
        self.scheme = scheme

    def _rows(self, x: np.ndarray) -> np.ndarray:
        """[channels, n]."""
        return (
            x.reshape(1, -1)
            if self.scheme.axis is None
            else np.moveaxis(x, self.scheme.axis, 0).reshape(x.shape[self.scheme.axis], -1)
        )

    def plan(self) -> TensorPlan:
        return self.scheme.plan(*self.ends())


class MinMax(_Base):
    """Everything that was seen fits."""

    low: np.ndarray | None = None
    high: np.ndarray | None = None

    def observe(self, x: np.ndarray) -> None:
        rows = self._rows(x)
        low, high = rows.min(1), rows.max(1)
        if self.low is None:
            self.low, self.high = low, high
        else:
            self.low, self.high = self._joined(low, high)

    def _joined(self, low: np.ndarray, high: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return np.minimum(self.low, low), np.maximum(self.high, high)

    def ends(self) -> tuple[np.ndarray, np.ndarray]:
        return self.low, self.high


class MovingAverage(MinMax):
    """The extremes of each image, averaged: a single odd image counts little. The first image starts the average."""

    def _joined(self, low: np.ndarray, high: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return MOMENTUM * self.low + (1 - MOMENTUM) * low, MOMENTUM * self.high + (1 - MOMENTUM) * high


class _Counting(_Base):
    def __init__(self, scheme: Scheme):
        super().__init__(scheme)
        self.histogram = Histogram(2048 if scheme.axis is None else 512)

    def observe(self, x: np.ndarray) -> None:
        self.histogram.add(self._rows(x))


class Percentile(_Counting):
    """Leaves out the same share of the numbers at both ends: together 100 - PERCENT."""

    def ends(self) -> tuple[np.ndarray, np.ndarray]:
        centres, counts = self.histogram.points()
        below = np.cumsum(counts, 1) / counts.sum(1, keepdims=True)
        left_out = (1 - PERCENT / 100) / 2
        first, last = (below <= left_out).sum(1), (below < 1 - left_out).sum(1)
        rows = np.arange(len(counts))
        return centres[rows, first], centres[rows, last]


class Mse(_Counting):
    """Least mean square error; with `through`, of the values after that function."""

    def __init__(self, scheme: Scheme, through: Through | None = None):
        super().__init__(scheme)
        self.through = through

    def ends(self) -> tuple[np.ndarray, np.ndarray]:
        return best_range(*self.histogram.points(), self.scheme, self.through)


class Entropy(_Counting):
    """Least Kullback-Leibler divergence between the clipped histogram and its stored form, both ends shrunk alike
    (Migacz, "8-bit inference with TensorRT", 2017)."""

    def ends(self) -> tuple[np.ndarray, np.ndarray]:
        centres, counts = self.histogram.points()
        low, high = np.minimum(self.histogram.low, 0), np.maximum(self.histogram.high, 0)
        shrunk = np.linspace(0.3, 1.0, 71)[:, None]
        lost = [[self._divergence(x, n, lo, hi) for lo, hi in zip(low * shrunk, high * shrunk, strict=True)]
                for x, n, low, high in zip(centres, counts, low, high, strict=True)]  # fmt: skip
        best = shrunk[np.argmin(lost, 1), 0]
        return low * best, high * best

    def _divergence(self, x: np.ndarray, n: np.ndarray, low: float, high: float) -> float:
        inside = np.flatnonzero((x >= low) & (x <= high))
        if not n[inside].sum():
            return np.inf
        scale, zero = self.scheme.grid(low, high)
        first, last = self.scheme.bounds
        level = (np.clip(np.rint(x[inside] / scale) + zero, first, last) - first).astype(np.int64)
        inner = n[inside]
        full, kinds = np.bincount(level, inner), np.bincount(level, inner > 0)
        stored = np.where(inner > 0, (full / np.maximum(kinds, 1))[level], 0)
        clipped = inner.copy()
        clipped[0] += n[: inside[0]].sum()
        clipped[-1] += n[inside[-1] + 1 :].sum()
        p, q = clipped / clipped.sum(), np.maximum(stored, 1e-9) / stored.sum()
        seen = p > 0
        return float((p[seen] * np.log(p[seen] / q[seen])).sum())


OBSERVERS = {"minmax": MinMax, "average": MovingAverage, "percentile": Percentile, "mse": Mse, "entropy": Entropy}


def make_observer(name: str, scheme: Scheme, through: Through | None = None) -> Observer:
    """An observer by name; `through` is the activation function that alone reads the tensor, for those that can use it.
    Raises UserError."""
    if name not in OBSERVERS:
        raise UserError(f"there is no observer '{name}'", f"one of {', '.join(OBSERVERS)}")
    return Mse(scheme, through) if name == "mse" else OBSERVERS[name](scheme)
