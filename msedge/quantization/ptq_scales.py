"""The scales of a PTQ plan: ranges of activations from one pass over the images, ranges of weights from the weights."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from msedge.progress import Progress, Say, no_progress, silent
from msedge.quantization.activation_functions import function_of
from msedge.quantization.calibration import calibrate
from msedge.quantization.graph import ModelGraph, Unit
from msedge.quantization.observers import MinMax, Observer, make_observer
from msedge.quantization.plan import TensorPlan
from msedge.quantization.scheme import Scheme, best_range

WEIGHT_METHODS = ("mse", "minmax")
_LARGEST_BIAS = 2**30  # int32 with room for the sum that it starts


def activation_plans(
    graph: ModelGraph,
    images: np.ndarray,
    units: Sequence[Unit],
    observer: str,
    scheme: Scheme,
    say: Say = silent,
    progress: Progress = no_progress,
) -> dict[str, TensorPlan]:
    """How to store what these units read and write, learned by an observer of this name in one pass over the images."""
    names = dict.fromkeys(t for u in units for t in (*u.roots, u.output))
    observers: dict[str, Observer] = {t: make_observer(observer, scheme, function_of(graph, t)) for t in names}
    calibrate(graph, images, {t: o.observe for t, o in observers.items()}, progress)
    ends = {t: o.ends() for t, o in observers.items()}
    for name, (low, high) in ends.items():
        if not low.any() and not high.any():
            say(f"the tensor {name!r} is 0 for every calibration image: it gets the range -1 to 1")
    return {t: scheme.plan(*e) for t, e in ends.items()}


def channel_ranges(
    graph: ModelGraph, images: np.ndarray, axes: Mapping[str, int], progress: Progress = no_progress
) -> dict[str, np.ndarray]:
    """The largest absolute value of each channel of tensors; `axes` has their channel axis."""
    observers = {t: MinMax(Scheme(axis=axis)) for t, axis in axes.items()}
    calibrate(graph, images, {t: o.observe for t, o in observers.items()}, progress)
    return {t: np.maximum(-o.low, o.high) for t, o in observers.items()}


def weight_plans(graph: ModelGraph, units: Sequence[Unit], method: str, per_channel: bool = True) -> dict[str, TensorPlan]:
    """How to store the weights of these units in symmetric int8."""
    return {
        u.weight: weight_plan(graph.weights[u.weight], Scheme("weight", 8, True, u.axis if per_channel else None), method)
        for u in units
        if u.weight is not None
    }


def weight_plan(weight: np.ndarray, scheme: Scheme, method: str = "mse") -> TensorPlan:
    """The plan of a weight of any shape, with the least mean square error or everything inside; `scheme.axis` is its axis of
    output channels or None."""
    rows = np.moveaxis(weight, scheme.axis or 0, 0).reshape(1 if scheme.axis is None else weight.shape[scheme.axis], -1)
    ends = best_range(rows.astype(np.float64), None, scheme) if method == "mse" else (rows.min(1), rows.max(1))
    return scheme.plan(*ends)


def with_room_for_biases(graph: ModelGraph, units: Sequence[Unit], tensors: Mapping[str, TensorPlan]) -> dict[str, TensorPlan]:
    """The tensors; weights whose scale is too small for an int32 bias (a channel of next to nothing) get one that is not."""
    wider = dict(tensors)
    for unit in units:
        if unit.weight is None or unit.bias is None:
            continue
        t = wider[unit.weight]
        needed = np.abs(graph.weights[unit.bias].astype(np.float64)) / _LARGEST_BIAS / tensors[unit.roots[0]].scale[0]
        scale = np.maximum(t.scale, needed if len(t.scale) > 1 else needed.max())
        wider[unit.weight] = replace(t, scale=tuple(np.float32(scale).astype(np.float64).tolist()))
    return wider
