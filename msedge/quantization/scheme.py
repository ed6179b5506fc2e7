"""From the range of a tensor to its scale and zero point, and the search for the range that loses least."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from msedge.quantization.plan import TensorPlan

Through = Callable[[np.ndarray], np.ndarray]
SMALLEST = 1e-12  # scale; below it a product of two scales leaves float32
_COARSE = 2.0 ** (-np.arange(0, 5.01, 1 / 8))  # shrink the range down to 1/32, in steps of 9 %
_APART = 2.0 ** np.arange(-2, 0.51, 1 / 8)
_FINE = 2.0 ** (np.arange(-4, 5) / 32)


@dataclass(frozen=True)
class Scheme:
    """How numbers are to be stored: the fields of TensorPlan without the values."""

    role: str = "activation"
    bits: int = 8
    symmetric: bool = False
    axis: int | None = None

    @property
    def bounds(self) -> tuple[int, int]:
        """Smallest and largest stored number."""
        empty = TensorPlan(self.role, (), (), self.bits, self.symmetric)
        return empty.low, empty.high

    def grid(self, low: np.ndarray, high: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(scale, zero point), float64, for real ranges that are widened to hold 0. A range of 0 is taken for -1 to 1."""
        low, high = np.minimum(low, 0.0).astype(np.float64), np.maximum(high, 0.0).astype(np.float64)
        low, high = np.where(low == high, -1.0, low), np.where(low == high, 1.0, high)
        first, last = self.bounds
        if self.symmetric:
            scale = np.maximum(np.maximum(-low, high) / last, SMALLEST).astype(np.float32).astype(np.float64)
            return scale, np.zeros_like(scale)
        scale = np.maximum((high - low) / (last - first), SMALLEST).astype(np.float32).astype(np.float64)
        return scale, np.clip(np.rint(first - low / scale), first, last)

    def plan(self, low: np.ndarray, high: np.ndarray) -> TensorPlan:
        """The plan of a tensor with this range: one entry, or one for each channel. Scales are float32 numbers."""
        scale, zero = self.grid(np.atleast_1d(low), np.atleast_1d(high))
        values = tuple(scale.tolist()), tuple(int(z) for z in zero)
        return TensorPlan(self.role, *values, self.bits, self.symmetric, self.axis)


def best_range(
    points: np.ndarray, counts: np.ndarray | None, scheme: Scheme, through: Through | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """(low, high), each [channels], with the least mean square error of the stored numbers.

    `points` [channels, n] are the numbers, each `counts` times there. With `through` the error is that of through(number):
    what an activation function kills may be clipped. Both ends are searched together, then in turn.
    """
    first, last = scheme.bounds

    def error(low: np.ndarray, high: np.ndarray) -> np.ndarray:
        scale, zero = (v[:, None] for v in scheme.grid(low, high))
        kept = (np.clip(np.rint(points / scale) + zero, first, last) - zero) * scale
        lost = (kept - points if through is None else through(kept) - target) ** 2
        return (lost if counts is None else lost * counts).sum(1)

    target = points if through is None else through(points)
    low, high = np.minimum(points.min(1), 0), np.maximum(points.max(1), 0)
    if scheme.symmetric:
        high = np.maximum(-low, high)
        for factors in (_COARSE, _FINE):
            high = _best(factors, high, lambda end: error(-end, end))
        return -high, high
    share = _best(_COARSE, np.ones_like(high), lambda share: error(low * share, high * share))
    low, high = low * share, high * share
    for factors in (_APART, _APART, _FINE, _FINE):
        high = _best(factors, high, lambda end: error(low, end))  # noqa: B023
        low = _best(factors, low, lambda end: error(end, high))  # noqa: B023
    return low, high


def _best(factors: np.ndarray, end: np.ndarray, error: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
    """For each channel the end of the range, times one of the factors, with the least error."""
    errors = np.stack([error(end * f) for f in factors])
    return end * factors[errors.argmin(0)]
