"""Distinct inputs must give distinct features: a model that has collapsed answers everything alike.

A scale that is far too large, an overflow or a wrong kernel can send all images to the same few numbers while the logits of
a two-class model still look plausible. Distances between images are compared with those of the float model, in the logits
and in the pooled outputs of the last nodes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np

from msedge.errors import CheckFailed, DataError, ModelError
from msedge.quantization.graph import ModelGraph, Unit
from msedge.quantization.node_values import RuntimeNodes
from msedge.quantization.onnx_simulation import Simulation
from msedge.quantization.plan import Plan
from msedge.runtime.base import Runner

SHARE = 0.5  # of the float model's distances that must be left
LOGITS = "logits"
_NEAR = 0.1  # of the median distance: images that the float model itself hardly tells apart say nothing
_LOST = 0.1  # of a pair's distance: less is a pair that has become one
_MANY_LOST = 0.05  # share of the pairs

Features = dict[str, np.ndarray]


@dataclass(frozen=True)
class Spread:
    """Distances between images in one place (logits or a node): the median of the float model's and of the other's, the
    median and the least ratio over the pairs, the shares of pairs that shrank below a tenth and of finite images."""

    where: str
    distance_float: float
    distance: float
    ratio: float
    least: float
    lost: float
    finite: float

    def problem(self, share: float = SHARE) -> str:
        """What is wrong, in words; empty where nothing is."""
        if self.finite < 1:
            return f"{self.where}: {100 * (1 - self.finite):.0f} % of the images give numbers that are not finite"
        if self.ratio < share:
            return f"{self.where}: images are {self.ratio:.3f} times as far apart as in the float model"
        if self.lost > _MANY_LOST:
            return f"{self.where}: {100 * self.lost:.0f} % of the pairs of images have become one"
        return ""


@dataclass(frozen=True)
class CollapseReport:
    """`share` is what must be left of the float model's distances."""

    images: int
    share: float
    places: tuple[Spread, ...]

    @property
    def problems(self) -> list[str]:
        return [text for place in self.places if (text := place.problem(self.share))]

    @property
    def passed(self) -> bool:
        return not self.problems

    def require(self) -> None:
        """Raise CheckFailed where the model has collapsed."""
        if not self.passed:
            raise CheckFailed(f"distinct images give the same features: {'; '.join(self.problems)}",
                              "look at the layer report for the first node that parts")  # fmt: skip

    def to_dict(self) -> dict[str, Any]:
        places = [dict(vars(p)) for p in self.places]
        return {"images": self.images, "share": self.share, "passed": self.passed, "problems": self.problems, "places": places}


def compare_spread(reference: Features, other: Features, share: float = SHARE) -> CollapseReport:
    """Compare the distances between images in places that both know; arrays are [N, D].

    Raises DataError for fewer than two images, or images that the float model itself cannot tell apart; ModelError where
    the two have no place in common.
    """
    common = [name for name in reference if name in other]
    if not common:
        raise ModelError("the two models have no place to compare", "give features of the same nodes, or logits")
    images = len(reference[common[0]])
    if images < 2:
        raise DataError(f"{images} image has no distance to another", "give two or more distinct images")
    return CollapseReport(images, share, tuple(_spread(name, reference[name], other[name]) for name in common))


def _spread(where: str, reference: np.ndarray, other: np.ndarray) -> Spread:
    finite = np.isfinite(other).all(axis=1)
    a = _distances(reference)
    b = _distances(np.where(finite[:, None], other, 0))
    median = float(np.median(a))
    if not np.isfinite(median) or median <= 1e-6 * float(np.abs(reference).max()):
        raise DataError(f"{where}: the float model itself gives the same for all images", "give distinct images, or train it")
    told = a >= _NEAR * median
    ratios = b[told] / a[told]
    return Spread(
        where,
        median,
        float(np.median(b)),
        float(np.median(ratios)),
        float(ratios.min()),
        float((ratios < _LOST).mean()),
        float(finite.mean()),
    )


def _distances(x: np.ndarray) -> np.ndarray:
    x = np.asarray(x, np.float64)
    return np.array([np.linalg.norm(x[i] - x[j]) for i, j in combinations(range(len(x)), 2)])


def late_units(graph: ModelGraph, count: int = 3) -> list[Unit]:
    """The last units before the one that makes the logits, first things first."""
    head = graph.root(graph.output)
    return [u for u in graph.units.values() if u.output != head][-count:]


def simulated_features(
    simulation: Simulation, images: np.ndarray, plan: Plan | None = None, units: Sequence[Unit] | None = None
) -> Features:
    """Logits and pooled outputs of late units, float or by the plan, for float32 [N, 3, H, W]."""
    units = late_units(simulation.graph) if units is None else units
    names = [u.output for u in units]
    seen = [simulation.tensors(image[None], [*names, simulation.graph.output], plan) for image in images]
    found = {LOGITS: np.concatenate([s[simulation.graph.output].reshape(1, -1) for s in seen])}
    return found | {u.name: np.stack([_pooled(s[u.output], u) for s in seen]) for u in units}


def runtime_features(
    nodes: RuntimeNodes, images: np.ndarray, shapes_from: Simulation, units: Sequence[Unit] | None = None
) -> Features:
    """The same of a `.ms` in the real runtime; `shapes_from` simulates its ONNX model."""
    units = late_units(nodes.graph) if units is None else units
    tensors = list(nodes.tensor_of.values())
    shapes = {n: v.shape for n, v in shapes_from.tensors(images[:1], tensors).items()}
    seen = [nodes.units(image[None], shapes) for image in images]
    found = {LOGITS: nodes.runner.predict(images)}
    present = [u for u in units if all(u.name in s for s in seen)]
    return found | {u.name: np.stack([_pooled(s[u.name], u) for s in seen]) for u in present}


def logit_features(runner: Runner, images: np.ndarray) -> Features:
    """The logits alone, of any model in any runtime."""
    return {LOGITS: runner.predict(images)}


def _pooled(value: np.ndarray, unit: Unit) -> np.ndarray:
    """Mean over places: channels [C] of a convolution's [1, C, H, W], the last axis of everything else."""
    if unit.op == "Conv":
        return value.mean(axis=tuple(range(2, value.ndim)))[0]
    return value.reshape(-1, value.shape[-1]).mean(axis=0)


def collapse_test(
    simulation: Simulation,
    images: np.ndarray,
    plan: Plan | None = None,
    runtime: RuntimeNodes | None = None,
    share: float = SHARE,
) -> CollapseReport:
    """Test a plan, or the `.ms` that it was written into (`runtime`, also a float or fp16 one), against the float model on
    distinct images, float32 [N, 3, H, W]. Raises DataError, ModelError."""
    reference = simulated_features(simulation, images)
    other = runtime_features(runtime, images, simulation) if runtime else simulated_features(simulation, images, plan)
    return compare_spread(reference, other, share)
