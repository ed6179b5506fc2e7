"""The simplest plan there is: the smallest and largest number seen, all nodes int8. For tests of what judges plans."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from msedge.quantization.graph import ModelGraph
from msedge.quantization.onnx_simulation import Simulation
from msedge.quantization.plan import NodePlan, Plan, TensorPlan


def naive_plan(graph: ModelGraph, images: np.ndarray, only: tuple[str, ...] | None = None) -> Plan:
    """Affine activations from float32 [N, 3, H, W], symmetric weights per channel; the nodes of `only` int8, or all."""
    units = graph.units.values()
    names = list(dict.fromkeys(t for u in units for t in (*u.roots, u.output)))
    simulation = Simulation(graph)
    seen = [simulation.tensors(image[None], names) for image in images]
    tensors = {n: affine(min(s[n].min() for s in seen), max(s[n].max() for s in seen)) for n in names}
    for unit in units:
        if unit.weight:
            tensors[unit.weight] = per_channel(graph.weights[unit.weight], unit.axis)
    nodes = {u.name: NodePlan("int8" if only is None or u.name in only else "float") for u in units}
    return Plan(graph.fingerprint, tensors, nodes, {"method": "naive"})


def affine(low: float, high: float, bits: int = 8) -> TensorPlan:
    low, high = min(float(low), 0.0), max(float(high), 1e-6)
    scale = (high - low) / (2**bits - 1)
    return TensorPlan("activation", (scale,), (round(-(2 ** (bits - 1)) - low / scale),), bits)


def per_channel(weight: np.ndarray, axis: int, bits: int = 8) -> TensorPlan:
    others = tuple(i for i in range(weight.ndim) if i != axis)
    scale = np.maximum(np.abs(weight).max(axis=others), 1e-8) / (2 ** (bits - 1) - 1)
    return TensorPlan("weight", tuple(map(float, scale)), (0,) * len(scale), bits, True, axis)


def coarsened(plan: Plan, tensor: str, factor: float) -> Plan:
    """The plan with a scale of this tensor that is `factor` times too large."""
    t = plan.tensors[tensor]
    worse = replace(t, scale=tuple(s * factor for s in t.scale), zero_point=tuple(round(z / factor) for z in t.zero_point))
    return replace(plan, tensors={**plan.tensors, tensor: worse})
