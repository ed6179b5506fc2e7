"""Counts of numbers whose range is not known before: bins of a power of two wide, which merge in pairs as the range grows."""

from __future__ import annotations

import numpy as np


class Histogram:
    """One row of `bins` counts for each channel. Bin i of a row covers [(start + i) * width, (start + i + 1) * width); when a
    number falls outside, the row is moved or its bins merge, and no count is ever split. `low` and `high` are exact."""

    def __init__(self, bins: int = 2048):
        self.bins = bins
        self.counts: np.ndarray | None = None  # [channels, bins]
        self.low: np.ndarray
        self.high: np.ndarray
        self._exponent: np.ndarray  # width = 2 ** exponent
        self._start: np.ndarray

    def add(self, rows: np.ndarray) -> None:
        """Count the numbers of [channels, n]."""
        low, high = rows.min(1).astype(np.float64), rows.max(1).astype(np.float64)
        if self.counts is None:
            self.low, self.high = low, high
            self.counts = np.zeros((len(rows), self.bins))
            self._exponent, self._start = self._layout(low, high)
        elif (low < self.low).any() or (high > self.high).any():
            self.low, self.high = np.minimum(low, self.low), np.maximum(high, self.high)
            first, last = (np.floor(end * 2.0**-self._exponent) - self._start for end in (self.low, self.high))
            if (first < 0).any() or (last >= self.bins).any():
                self._relay()
        index = np.floor(rows * 2.0 ** -self._exponent[:, None]).astype(np.int64) - self._start[:, None]
        self.counts += self._counted(index)

    def points(self) -> tuple[np.ndarray, np.ndarray]:
        """(centres, counts), each [channels, bins]; no centre lies outside what was seen."""
        centres = (self._start[:, None] + np.arange(self.bins) + 0.5) * 2.0 ** self._exponent[:, None]
        return np.clip(centres, self.low[:, None], self.high[:, None]), self.counts

    def _layout(self, low: np.ndarray, high: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Exponent and start for a range: a quarter of the bins stays free for growth."""
        span = np.maximum(high - low, np.maximum(np.maximum(-low, high), 1e-30) / 1024)
        exponent = np.ceil(np.log2(span / (0.75 * self.bins - 2)))
        centre = np.floor((low + high) / 2 * 2.0**-exponent).astype(np.int64)
        return exponent, centre - self.bins // 2

    def _relay(self) -> None:
        exponent, start = self._layout(self.low, self.high)
        exponent = np.maximum(exponent, self._exponent)
        start = np.floor((self.low + self.high) / 2 * 2.0**-exponent).astype(np.int64) - self.bins // 2
        merged = np.minimum(exponent - self._exponent, 62).astype(np.int64)[:, None]
        index = ((self._start[:, None] + np.arange(self.bins)) >> merged) - start[:, None]
        index = np.where(self.counts > 0, index, 0)
        self.counts = self._counted(index, self.counts)
        self._exponent, self._start = exponent, start

    def _counted(self, index: np.ndarray, weights: np.ndarray | None = None) -> np.ndarray:
        flat = (index + np.arange(len(index))[:, None] * self.bins).ravel()
        weights = None if weights is None else weights.ravel()
        return np.bincount(flat, weights, minlength=len(index) * self.bins).reshape(-1, self.bins)
