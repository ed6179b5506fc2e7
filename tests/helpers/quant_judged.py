"""A tiny classifier whose decisions differ from image to image, and ways to spoil its plan: for tests of what judges plans."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from quant_tiny import SIZE, extremes, tiny_transformer

from msedge.quantization.graph import ModelGraph
from msedge.quantization.onnx_simulation import Simulation
from msedge.quantization.plan import Plan


def judged_images(n: int, seed: int = 0) -> np.ndarray:
    """Images that differ in light and colour as well as in their details."""
    rng = np.random.default_rng((7, seed))
    return (rng.normal(size=(n, 3, SIZE, SIZE)) + 2 * rng.normal(size=(n, 3, 1, 1))).astype(np.float32)


def judged_model() -> tuple[ModelGraph, Plan]:
    """A tiny transformer that gives each of its three classes to about as many images, and its plan by the extremes."""
    graph, images = tiny_transformer(), judged_images(64, 9)
    logits = Simulation(graph).logits(images)
    mean, spread = logits.mean(axis=0), logits.std(axis=0)
    weight, bias = graph.weights["head.weight"], graph.weights["head.bias"]
    graph = graph.with_weights({"head.weight": weight / spread[:, None], "head.bias": (bias - mean) / spread})
    return graph, extremes(graph, images[:16])


def coarsened(plan: Plan, tensor: str, factor: float) -> Plan:
    """The plan with a scale of this tensor that is `factor` times too large."""
    t = plan.tensors[tensor]
    worse = replace(t, scale=tuple(s * factor for s in t.scale), zero_point=tuple(round(z / factor) for z in t.zero_point))
    return replace(plan, tensors={**plan.tensors, tensor: worse})
