"""Plans of the plainest kind, for tests of what reads plans: the range of each tensor over a few images."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from msedge.quantization.graph import ModelGraph, Unit
from msedge.quantization.onnx_simulation import Simulation
from msedge.quantization.plan import NodePlan, Plan, TensorPlan


def min_max_plan(graph: ModelGraph, images: np.ndarray, only: Iterable[str] | None = None) -> Plan:
    """Every node (or `only` these) in int8; activations by their range with 0 in it, weights per output channel."""
    simulation, units = Simulation(graph), [u for n, u in graph.units.items() if only is None or n in only]
    names = sorted({t for u in units for t in (*u.roots, u.output)})
    seen = [simulation.tensors(image[None], names) for image in images]
    tensors = {n: activation([s[n] for s in seen]) for n in names}
    tensors |= {u.weight: weight(graph, u) for u in units if u.weight}
    return Plan(graph.fingerprint, tensors, {u.name: NodePlan("int8") for u in units})


def activation(values: list[np.ndarray]) -> TensorPlan:
    low, high = min(0.0, *(float(v.min()) for v in values)), max(0.0, *(float(v.max()) for v in values))
    scale = max(float(np.float32((high - low) / 255)), 1e-8)
    return TensorPlan("activation", (scale,), (int(np.clip(np.rint(-128 - low / scale), -128, 127)),))


def weight(graph: ModelGraph, unit: Unit) -> TensorPlan:
    rows = np.moveaxis(graph.weights[unit.weight], unit.axis, 0)
    most = np.abs(rows.reshape(len(rows), -1)).max(1)
    scale = np.maximum(most.astype(np.float64) / 127, 1e-8)
    return TensorPlan("weight", tuple(scale.tolist()), (0,) * len(scale), symmetric=True, axis=unit.axis)
