"""Do the activations of validation images stay within the ranges that calibration images span?"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from msedge.data.audit import Verdict
from msedge.errors import ModelError
from msedge.progress import Progress, no_progress
from msedge.quantization.graph import ModelGraph
from msedge.quantization.onnx_simulation import Simulation

IMAGES = 128  # of each kind; a range is seen soon, and all of them cost time
_MANY = 0.001  # share of values outside, besides what chance puts there
_CHANCE = 8  # values: of equal crowds about two (one at each end) lie outside the other's range
_FAR = 0.5  # beyond the end, in widths of the calibrated range


@dataclass(frozen=True)
class TensorDrift:
    """Smallest and largest value in calibration and in validation, the share of validation values outside, and how many
    values were seen in calibration."""

    tensor: str
    calibrated: tuple[float, float]
    seen: tuple[float, float]
    outside: float
    values: int

    @property
    def much(self) -> bool:
        """Whether more lies outside than chance explains."""
        return self.outside > _MANY + _CHANCE / self.values

    @property
    def beyond(self) -> float:
        """How far validation values lie outside, in widths of the calibrated range."""
        width = max(self.calibrated[1] - self.calibrated[0], 1e-12)
        return max(0.0, self.calibrated[0] - self.seen[0], self.seen[1] - self.calibrated[1]) / width


@dataclass(frozen=True)
class ActivationDrift:
    """`tensors` are in order of the share outside, largest first."""

    images: tuple[int, int]
    tensors: tuple[TensorDrift, ...]

    def to_dict(self) -> dict[str, Any]:
        tensors = [{**vars(t), "beyond": t.beyond} for t in self.tensors]
        return {"images": list(self.images), "measured": len(tensors), "tensors": tensors}

    def verdicts(self) -> list[Verdict]:
        """Warnings where many values, or values far out, would be clipped."""
        advice = "more calibration images, or such as the model will see"
        found = []
        if worst := next((t for t in self.tensors if t.much), None):
            text = f"{100 * worst.outside:.2f} % of validation's values of {worst.tensor!r} are outside the calibrated range"
            found.append(Verdict("warning", text, advice))
        farthest = max(self.tensors, key=lambda t: t.beyond, default=None)
        if farthest and farthest.beyond > _FAR:
            text = f"{farthest.tensor!r} reaches {farthest.beyond:.2f} calibrated ranges beyond its range on validation images"
            found.append(Verdict("warning", text, advice))
        return found


def activation_drift(
    graph: ModelGraph, calibration: np.ndarray, validation: np.ndarray, progress: Progress = no_progress
) -> ActivationDrift:
    """Compare what the units of `graph` read and write on two stacks of images, float32 [N, 3, H, W].

    Raises ModelError where the model takes no single images, or gives numbers that are not finite.
    """
    units = graph.units.values()
    names = list(dict.fromkeys(t for u in units for t in (*u.roots, u.output)))
    simulation = Simulation(graph)
    if (batch := simulation.input_shape[0]) != 1:
        raise ModelError(f"the model takes {batch} images at a time, calibration needs one at a time", "export it again")

    def runs(images: np.ndarray) -> Iterator[list[np.ndarray]]:
        for image in images:
            values = simulation.tensors(image[None], names)
            yield [values[n] for n in names]

    low, high = np.full(len(names), np.inf), np.full(len(names), -np.inf)
    seen_low, seen_high = low.copy(), high.copy()
    outside, values_seen = np.zeros(len(names)), np.zeros(len(names), np.int64)
    with progress("measuring activations", len(calibration) + len(validation)) as report:
        for done, values in enumerate(runs(calibration), 1):
            for i, v in enumerate(values):
                low[i], high[i] = min(low[i], v.min()), max(high[i], v.max())
                values_seen[i] += v.size
            report(done)
        for done, values in enumerate(runs(validation), 1):
            for i, v in enumerate(values):
                seen_low[i], seen_high[i] = min(seen_low[i], v.min()), max(seen_high[i], v.max())
                outside[i] += ((v < low[i]) | (v > high[i])).mean() / len(validation)
            report(len(calibration) + done)
    if not (np.isfinite(low).all() and np.isfinite(high).all()):
        bad = names[int(np.flatnonzero(~(np.isfinite(low) & np.isfinite(high)))[0])]
        raise ModelError(f"the float model gives numbers in {bad!r} that are not finite", "check its weights")
    found = [
        TensorDrift(name, (float(low[i]), float(high[i])), (float(a), float(b)), float(share), int(count))
        for i, (name, a, b, share, count) in enumerate(zip(names, seen_low, seen_high, outside, values_seen, strict=True))
    ]
    found.sort(key=lambda t: -t.outside)
    return ActivationDrift((len(calibration), len(validation)), tuple(found))
