"""The smallest set of nodes in float that holds a budget, and the curve of accuracy against size that was seen on the way.

Nodes are taken in order of what they harm for what they cost; bisection finds how many are needed, and whatever of them
the budget does not need after all goes back.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from msedge.errors import CheckFailed, UserError
from msedge.progress import Progress, Say, no_progress, silent
from msedge.quantization.budget import Budget, Loss, loss_of
from msedge.quantization.onnx_simulation import Simulation
from msedge.quantization.plan import Plan
from msedge.quantization.sensitivity import Sensitivity, sensitivity
from msedge.quantization.sizes import added_bytes, model_bytes
from msedge.runtime.onnx_graph import node_macs

SIZES = ("bytes", "count", "macs")
SCORING_IMAGES = 64
_CAST_BYTES = 100  # what a float node among int8 ones adds to a `.ms` besides its weights, about


@dataclass(frozen=True)
class Point:
    """The plan with `nodes` in float: bytes of its constants, and its loss."""

    nodes: tuple[str, ...]
    bytes: int
    loss: Loss
    holds: bool

    def to_dict(self) -> dict[str, Any]:
        loss = {**vars(self.loss), "drop": self.loss.drop}
        return {"float_nodes": len(self.nodes), "bytes": self.bytes, "holds": self.holds, **loss, "nodes": list(self.nodes)}


@dataclass(frozen=True)
class MixedPlan:
    """`plan` has `found.nodes` in float and says why; `met` is whether it holds the budget (else it is the nearest).
    `curve` are all points that were judged, the smallest first; `sensitivity` is None where nothing had to be scored."""

    plan: Plan
    budget: Budget
    met: bool
    found: Point
    curve: tuple[Point, ...]
    sensitivity: Sensitivity | None

    @property
    def reason(self) -> str:
        """Why the budget does not hold; empty where it does."""
        if self.met:
            return ""
        loss = self.found.loss
        got = (
            f"agreement {loss.agreement:.4f}" if self.budget.kind == "agreement" else f"a drop of {100 * loss.drop:.2f} points"
        )
        return (f"no plan that quantises anything holds {self.budget} on {loss.images} images; the nearest has "
                f"{len(self.found.nodes)} nodes in float and {got}")  # fmt: skip

    def require(self) -> None:
        """Raise CheckFailed where the budget does not hold."""
        if not self.met:
            raise CheckFailed(self.reason, "allow more loss, give more images, or quantise otherwise (QAT)")

    def to_dict(self) -> dict[str, Any]:
        return {
            "budget": str(self.budget),
            "met": self.met,
            "reason": self.reason,
            "found": self.found.to_dict(),
            "why": {name: self.plan.nodes[name].why for name in self.found.nodes},
            "curve": [p.to_dict() for p in self.curve],
            "sensitivity": self.sensitivity.to_dict() if self.sensitivity else None,
        }


def find_mixed_plan(
    simulation: Simulation,
    plan: Plan,
    budget: Budget,
    images: np.ndarray,
    labels: np.ndarray | None = None,
    sizes: str = "bytes",
    *,
    reference: np.ndarray | None = None,
    cache: Path | None = None,
    say: Say = silent,
    progress: Progress = no_progress,
) -> MixedPlan:
    """The plan with as little in float as holds `budget` on `images` (float32 [N, 3, H, W]; `labels` int [N] for points of
    top-1). What is little is counted in `sizes`: bytes, count of nodes, or macs.

    `reference` are the logits to judge against, where not the simulation's own float model made them (weights that
    equalisation or bias correction changed). Nodes that the plan has in float stay so. Raises UserError.
    """
    if sizes not in SIZES:
        raise UserError(f"nodes cannot be counted in '{sizes}'", f"one of {', '.join(SIZES)}")
    if budget.needs_labels and labels is None:
        raise UserError(f"a budget of {budget} needs images with labels", "give --data with class folders, or agreement=0.99")
    allowed = budget.limit if budget.kind == "drop" else 1 - budget.limit
    if 0 < allowed < 1 / len(images):
        say(f"one of {len(images)} images is {100 / len(images):.2f} points, the budget is finer: it allows no loss at all")
    judge = _Judge(simulation, plan, budget, images, labels, reference)
    quantised = plan.of("int8", "weight")
    if not quantised:
        raise UserError("the plan quantises no node", "a budget chooses among quantised nodes")
    if judge([]).holds:
        return judge.result([], None)
    scores = sensitivity(simulation, plan, images[:: -(-len(images) // SCORING_IMAGES)], cache=cache, progress=progress)
    costs = _costs(simulation, plan, sizes, images[:1])
    order = sorted(quantised, key=lambda n: -scores.scores[n].error / costs[n])
    with progress("searching the mixed plan", len(order)) as report:
        count = _bisect(lambda k: judge(order[:k]).holds, len(order))
        report(len(order) - count)
        chosen = order[:count]
        if count < len(order):
            chosen = _pruned(judge, chosen, costs, lambda left: report(len(order) - left))
        for k in _spread(len(order)):
            judge(order[:k])
        report(len(order))
    return judge.result(chosen, scores)


class _Judge:
    """Judges sets of float nodes, each once."""

    def __init__(self, simulation, plan, budget, images, labels, reference):
        self.simulation, self.plan, self.budget, self.images, self.labels = simulation, plan, budget, images, labels
        self.reference = simulation.logits(images) if reference is None else reference
        self.points: dict[frozenset[str], Point] = {}

    def __call__(self, nodes: Iterable[str]) -> Point:
        key = frozenset(nodes)
        if key not in self.points:
            mixed = self.plan.with_float(dict.fromkeys(key, ""))
            loss = loss_of(self.reference, self.simulation.logits(self.images, mixed), self.labels)
            names = tuple(n for n in self.plan.nodes if n in key)
            self.points[key] = Point(names, model_bytes(self.simulation.graph, mixed), loss, self.budget.holds(loss))
        return self.points[key]

    def result(self, chosen: list[str], scores: Sensitivity | None) -> MixedPlan:
        quantised = len(self.plan.of("int8", "weight"))
        found = self(chosen)
        mixed = [p for p in self.points.values() if len(p.nodes) < quantised]
        met = found.holds and len(found.nodes) < quantised
        if not met:
            found = min(mixed, key=lambda p: (round(self.budget.excess(p.loss), 9), p.bytes))
        why = {n: _why(n, scores) for n in found.nodes}
        curve = sorted(self.points.values(), key=lambda p: (p.bytes, len(p.nodes)))
        return MixedPlan(self.plan.with_float(why), self.budget, met, found, tuple(curve), scores)


def _why(name: str, scores: Sensitivity | None) -> str:
    if scores is None:
        return ""
    s = scores.scores[name]
    rank = scores.ranked().index(name) + 1
    return (f"quantising it alone moves the logits by {100 * math.sqrt(s.error):.2f} % of their spread and changes "
            f"{s.flips} of {scores.images} decisions; rank {rank} of {len(scores.scores)}")  # fmt: skip


def _costs(simulation: Simulation, plan: Plan, sizes: str, image: np.ndarray) -> dict[str, float]:
    names = plan.of("int8", "weight")
    graph = simulation.graph
    if sizes == "count":
        return dict.fromkeys(names, 1.0)
    if sizes == "bytes":
        return {n: float(max(added_bytes(graph, plan, n) + _CAST_BYTES, 1)) for n in names}
    tensors = [t for n in names for t in (graph.units[n].output, *graph.units[n].inputs)]
    shapes = {n: t.shape for n, t in (graph.weights | simulation.tensors(image, tensors)).items()}
    return {n: float(max(node_macs(graph.maker(graph.units[n].output), shapes), 1)) for n in names}


def _bisect(holds: Callable[[int], bool], most: int) -> int:
    """The smallest k in 1..most that holds, where more hold whenever fewer do; `most` where none does.

    Doubling first: few are enough more often than not, and the curve gets its points where it bends.
    """
    low, high = 0, 1
    while high < most and not holds(high):
        low, high = high, min(2 * high, most)
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if holds(middle) else (middle, high)
    return high


def _pruned(judge: _Judge, chosen: list[str], costs: dict[str, float], report: Callable[[int], None]) -> list[str]:
    """Without the nodes that the budget does not need, the dearest tried first."""
    for name in sorted(chosen, key=lambda n: -costs[n]):
        fewer = [n for n in chosen if n != name]
        if judge(fewer).holds:
            chosen = fewer
        report(len(chosen))
    return chosen


def _spread(most: int) -> list[int]:
    """Counts that a curve needs besides those of the search."""
    return sorted({0, 1, most} | {min(most, 2**k) for k in range(1, most.bit_length() + 1)})
