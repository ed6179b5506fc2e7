"""Where in the order of execution a quantised model and its float model part."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

from msedge.errors import DataError
from msedge.quantization.node_values import RuntimeNodes, Traced
from msedge.quantization.onnx_simulation import Simulation
from msedge.verification.metrics import SQNR_CAP_DB

PARTED_DB = 10.0  # the error has a tenth of the signal's power


class Agreement:
    """Signal, noise and cosine of pairs of arrays, added up."""

    def __init__(self):
        self.signal = self.noise = 0.0
        self.cosines: list[float] = []

    def add(self, reference: np.ndarray, other: np.ndarray) -> None:
        a, b = reference.astype(np.float64).ravel(), other.astype(np.float64).ravel()
        finite = np.isfinite(b).all()
        self.signal += float(a @ a)
        self.noise += float(((a - b) ** 2).sum()) if finite else math.inf
        lengths = math.sqrt(float(a @ a) * float(b @ b)) if finite else 0.0
        self.cosines.append(float(a @ b) / lengths if lengths else float(finite and np.array_equal(a, b)))

    @property
    def db(self) -> float | None:
        """SQNR in dB, within 200 of 0; None where nothing was added."""
        if not self.cosines:
            return None
        if not self.noise or not self.signal:
            return SQNR_CAP_DB if not self.noise else -SQNR_CAP_DB
        ratio = self.signal / self.noise
        return float(np.clip(10 * math.log10(ratio), -SQNR_CAP_DB, SQNR_CAP_DB)) if ratio else -SQNR_CAP_DB

    @property
    def cosine(self) -> float | None:
        return float(np.mean(self.cosines)) if self.cosines else None


@dataclass(frozen=True)
class Divergence:
    """`trail` has (node, type, SQNR dB) for every compared node in the order of execution; `limit` is in dB."""

    limit: float
    trail: tuple[tuple[str, str, float], ...]

    @property
    def node(self) -> str | None:
        """The first node where the two part; None where they do not."""
        return next((name for name, _, db in self.trail if db < self.limit), None)

    def to_dict(self) -> dict[str, Any]:
        return {"limit_db": self.limit, "node": self.node, "trail": [list(t) for t in self.trail]}


def first_divergence(
    quantised: RuntimeNodes, reference: RuntimeNodes | Simulation, images: np.ndarray, limit: float = PARTED_DB
) -> Divergence:
    """Walk the real runtime node by node and find where it parts from the float model by an SQNR below `limit` dB.

    A float `.ms` as `reference` lets every node be compared that both have by name; a simulation the units only. Raises
    DataError where nothing can be compared.
    """
    tallies: dict[str, tuple[str, Agreement]] = {}
    for image in images:
        for node, expected, value in _pairs(quantised, reference, image[None]):
            tallies.setdefault(node.name, (node.type, Agreement()))[1].add(expected, value)
    if not tallies:
        raise DataError("the two models have no node in common", "give models made of the same ONNX file")
    return Divergence(limit, tuple((name, kind, tally.db) for name, (kind, tally) in tallies.items()))


def _pairs(
    quantised: RuntimeNodes, reference: RuntimeNodes | Simulation, image: np.ndarray
) -> Iterable[tuple[Traced, np.ndarray, np.ndarray]]:
    traced = quantised.trace(image)
    if isinstance(reference, RuntimeNodes):
        expected = {t.name: t for t in reference.trace(image)}
        for node in traced:
            other = expected.get(node.name)
            if other is not None and other.value.shape == node.value.shape and other.type == node.type:
                yield node, other.value, node.value
        return
    tensors = quantised.tensor_of
    values = reference.tensors(image, list(dict.fromkeys(tensors[t.name] for t in traced if t.unit)))
    found = quantised.in_onnx_layout(traced, {t: v.shape for t, v in values.items()})
    for node in traced:
        if node.unit:
            yield node, values[tensors[node.name]], found[node.name]
