"""Biases that take back the mean error of a layer's rounded weights and inputs (Nagel et al., 2019, measured on images).

Each unit corrects what it adds itself: mean of W x less mean of its stored W times stored x, over calibration images.
So one pass serves all units, and no shift is corrected twice.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from msedge.progress import Progress, no_progress
from msedge.quantization.calibration import activations
from msedge.quantization.graph import ModelGraph, Unit
from msedge.quantization.plan import Plan, fake_quantize
from msedge.quantization.unit_inputs import input_rows, weight_rows


def mean_errors(
    graph: ModelGraph, plan: Plan, images: np.ndarray, stored: ModelGraph | None = None, progress: Progress = no_progress
) -> dict[str, np.ndarray]:
    """float64 [out]: how much a unit's output is too small on average, for each int8 unit with a weight and a bias.

    `stored` is the model whose weights are stored, where they differ from those of `graph` (rounding).
    """
    units = [u for n in plan.of("int8") if (u := graph.units[n]).weight and u.bias]
    sums: dict[str, list[np.ndarray]] = {u.name: [0.0, 0.0] for u in units}
    for tensors in activations(graph, images, tuple(dict.fromkeys(u.inputs[0] for u in units)), progress):
        for u in units:
            x = tensors[u.inputs[0]]
            kept = fake_quantize(x, plan.tensors[u.roots[0]])
            for i, values in enumerate((x, kept)):
                sums[u.name][i] = sums[u.name][i] + input_rows(graph, u, values).mean(1, dtype=np.float64) / len(images)
    return {u.name: _difference(graph, stored or graph, plan, u, *sums[u.name]) for u in units}


def _difference(
    graph: ModelGraph, stored: ModelGraph, plan: Plan, unit: Unit, mean: np.ndarray, mean_kept: np.ndarray
) -> np.ndarray:
    w = weight_rows(graph, unit)
    kept = weight_rows(graph, unit, fake_quantize(stored.weights[unit.weight], plan.tensors[unit.weight]))
    return (np.einsum("gok,gk->go", w, mean) - np.einsum("gok,gk->go", kept, mean_kept)).ravel()


def correct_biases(graph: ModelGraph, errors: dict[str, np.ndarray], names: Sequence[str] | None = None) -> ModelGraph:
    """The model with these means added to the biases of the named units (default: all)."""
    changed = {}
    for name in errors if names is None else names:
        bias = graph.units[name].bias
        if len(graph.consumers[bias]) == 1:
            changed[bias] = graph.weights[bias] + errors[name]
    return graph.with_weights(changed)
