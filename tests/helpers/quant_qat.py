"""What the suites of quantisation-aware training share: exports of narrow models, and plans from the extremes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from families import SMALL, small

from msedge.quantization.graph import ModelGraph
from msedge.quantization.onnx_simulation import Simulation
from msedge.quantization.plan import NodePlan, Plan, TensorPlan


def export_small(name: str, folder: Path, batch: int = 2) -> ModelGraph:
    """A narrow model of the family as an exported graph."""
    from msedge.exporter.stage import export_cell
    from msedge.models import spec_of

    export_cell(small(name), spec_of(small(name), ("a", "b", "c")), folder, batch=batch, golden=2)
    return ModelGraph.load(folder / "model.onnx")


def small_images(name: str, count: int, seed: int = 0) -> np.ndarray:
    size = SMALL[name][0]
    return np.random.default_rng(seed).standard_normal((count, 3, size, size)).astype(np.float32)


def weight_tensor(value: np.ndarray, axis: int, bits: int = 8, group: int = 0) -> TensorPlan:
    """Symmetric, from the largest magnitude of each index of the axis, or of each group."""
    rows = np.abs(np.moveaxis(value, axis, 0).reshape(value.shape[axis], -1))
    if group:
        rows = np.pad(rows, ((0, 0), (0, -rows.shape[1] % group))).reshape(-1, group)
    scale = np.maximum(rows.max(1), 1e-6) / (2 ** (bits - 1) - 1)
    return TensorPlan("weight", tuple(map(float, scale)), (0,) * len(scale), bits, True, axis, group)


def activation_tensor(values: np.ndarray) -> TensorPlan:
    """Affine, from the extremes."""
    low, high = min(0.0, float(values.min())), max(1e-6, float(values.max()))
    scale = (high - low) / 255
    return TensorPlan("activation", (scale,), (int(np.clip(np.rint(-128 - low / scale), -128, 127)),))


def extremes_plan(graph: ModelGraph, images: np.ndarray, leave: tuple[str, ...] = ()) -> Plan:
    """Everything int8 but the nodes of `leave`, with the extremes of one batch of images."""
    units = [u for u in graph.units.values() if u.name not in leave]
    names = {t for u in units for t in (*u.roots, u.output)}
    found = Simulation(graph).tensors(images, sorted(names))
    tensors = {name: activation_tensor(value) for name, value in found.items()}
    tensors |= {u.weight: weight_tensor(graph.weights[u.weight], u.axis) for u in units if u.weight}
    nodes = {u.name: NodePlan("float" if u.name in leave else "int8") for u in graph.units.values()}
    return Plan(graph.fingerprint, tensors, nodes)


def weight_plan(graph: ModelGraph, bits: int, group: int) -> Plan:
    """Weights alone."""
    units = [u for u in graph.units.values() if u.weight]
    tensors = {u.weight: weight_tensor(graph.weights[u.weight], u.axis, bits, group) for u in units}
    return Plan(graph.fingerprint, tensors, {u.name: NodePlan("weight") for u in units})
