"""Post-training quantisation: one pass over calibration images gives every int8 node its scales."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from fnmatch import fnmatchcase
from typing import Any

import numpy as np

from msedge.errors import UserError
from msedge.progress import Progress, Say, no_progress, silent
from msedge.quantization.activation_functions import function_of
from msedge.quantization.calibration import calibrate, check_images
from msedge.quantization.graph import ModelGraph, Unit
from msedge.quantization.observers import OBSERVERS, Observer, make_observer
from msedge.quantization.plan import NodePlan, Plan, TensorPlan
from msedge.quantization.scheme import Scheme, best_range

WEIGHT_METHODS = ("mse", "minmax")
_LARGEST_BIAS = 2**30  # int32 with room for the sum that it starts


@dataclass(frozen=True)
class PtqSettings:
    """`activations` names an observer, `weights` a search (mse, minmax); `symmetric` is about activations. `float_nodes` are
    patterns (`stem.*`) of nodes that stay float. Raises UserError for names that do not exist."""

    activations: str = "mse"
    weights: str = "mse"
    per_channel: bool = True
    symmetric: bool = False
    float_nodes: tuple[str, ...] = ()

    def __post_init__(self):
        for key, value, known in (("activations", self.activations, OBSERVERS), ("weights", self.weights, WEIGHT_METHODS)):
            if value not in known:
                raise UserError(f"quantisation: {key} is {value!r}", f"one of {', '.join(known)}")

    @classmethod
    def naive(cls) -> PtqSettings:
        """What one would write first: the extremes of every tensor, one scale for each."""
        return cls(activations="minmax", weights="minmax", per_channel=False)


_DEFAULT = PtqSettings()


def make_plan(
    graph: ModelGraph,
    images: np.ndarray,
    settings: PtqSettings = _DEFAULT,
    say: Say = silent,
    progress: Progress = no_progress,
) -> tuple[ModelGraph, Plan]:
    """The model, with the weights that the plan is for, and its plan. `images` are float32 [N, 3, H, W].

    Raises DataError for images that cannot calibrate, UserError for a pattern that no node has.
    """
    check_images(images)
    if len(images) == 1:
        say("one calibration image: the scales fit that image only; 64 to 256 are usual")
    nodes = _precisions(graph, settings)
    plan = Plan(graph.fingerprint, {}, nodes)
    int8 = [graph.units[n] for n in plan.of("int8")]
    tensors = _activations(graph, images, int8, settings, say, progress) | weight_plans(graph, int8, settings)
    tensors |= _room_for_biases(graph, int8, tensors)
    plan = Plan(graph.fingerprint, tensors, nodes, _made_by(settings, images))
    plan.check(graph)
    return graph, plan


def _made_by(settings: PtqSettings, images: np.ndarray) -> dict[str, Any]:
    return {"method": "ptq", "settings": {**asdict(settings), "float_nodes": list(settings.float_nodes)}, "images": len(images)}


def _precisions(graph: ModelGraph, settings: PtqSettings) -> dict[str, NodePlan]:
    for pattern in settings.float_nodes:
        if not any(fnmatchcase(name, pattern) for name in graph.units):
            first = next(iter(graph.units))
            raise UserError(f"no node that can be quantised is named {pattern!r}", f"nodes are named like {first!r}")
    nodes = {}
    for name in graph.units:
        kept = next((p for p in settings.float_nodes if fnmatchcase(name, p)), None)
        nodes[name] = (
            NodePlan("int8", "int8 unless said otherwise") if kept is None else NodePlan("float", f"named by {kept!r}")
        )
    return nodes


def _activations(
    graph: ModelGraph, images: np.ndarray, units: list[Unit], settings: PtqSettings, say: Say, progress: Progress
) -> dict[str, TensorPlan]:
    scheme = Scheme(symmetric=settings.symmetric)
    names = dict.fromkeys(t for u in units for t in (*u.roots, u.output))
    observers: dict[str, Observer] = {t: make_observer(settings.activations, scheme, function_of(graph, t)) for t in names}
    calibrate(graph, images, {t: o.observe for t, o in observers.items()}, progress)
    ends = {t: o.ends() for t, o in observers.items()}
    for name, (low, high) in ends.items():
        if not low.any() and not high.any():
            say(f"the tensor {name!r} is 0 for every calibration image: it gets the range -1 to 1")
    return {t: scheme.plan(*e) for t, e in ends.items()}


def weight_plans(graph: ModelGraph, units: list[Unit], settings: PtqSettings) -> dict[str, TensorPlan]:
    """How to store the weights of these units: symmetric, with the least mean square error or everything inside."""
    plans = {}
    for unit in units:
        if unit.weight is not None:
            scheme = Scheme("weight", 8, True, unit.axis if settings.per_channel else None)
            plans[unit.weight] = weight_plan(graph.weights[unit.weight], scheme, settings.weights)
    return plans


def weight_plan(weight: np.ndarray, scheme: Scheme, method: str = "mse") -> TensorPlan:
    """The plan of a weight of any shape; `scheme.axis` is its axis of output channels or None."""
    rows = np.moveaxis(weight, scheme.axis or 0, 0).reshape(1 if scheme.axis is None else weight.shape[scheme.axis], -1)
    ends = best_range(rows.astype(np.float64), None, scheme) if method == "mse" else (rows.min(1), rows.max(1))
    return scheme.plan(*ends)


def _room_for_biases(graph: ModelGraph, units: list[Unit], tensors: Mapping[str, TensorPlan]) -> dict[str, TensorPlan]:
    """The weights whose scale is too small for int32 biases (a channel of next to nothing), with the scale that is enough."""
    wider = {}
    for unit in units:
        if unit.weight is None or unit.bias is None:
            continue
        t, scale = tensors[unit.weight], np.asarray(tensors[unit.weight].scale)
        bias = np.abs(graph.weights[unit.bias].astype(np.float64))
        needed = bias / _LARGEST_BIAS / tensors[unit.roots[0]].scale[0]
        needed = needed if len(scale) > 1 else needed.max()
        if (needed > scale).any():
            wider[unit.weight] = _with_scale(t, np.maximum(scale, needed))
    return wider


def _with_scale(t: TensorPlan, scale: np.ndarray) -> TensorPlan:
    values = tuple(np.float32(scale).astype(np.float64).tolist())
    return TensorPlan(t.role, values, t.zero_point, t.bits, t.symmetric, t.axis, t.group)
