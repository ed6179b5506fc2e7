"""Weights rounded column by column, each column's error made good in those that are still to come.

After Frantar et al., "GPTQ: Accurate Post-Training Quantization" (2022): with the second moment of a layer's inputs, the
mean square error of its outputs is lower than with every weight rounded to its nearest.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from msedge.progress import Progress, no_progress
from msedge.quantization.calibration import activations
from msedge.quantization.graph import ModelGraph, Unit
from msedge.quantization.plan import Plan, TensorPlan
from msedge.quantization.unit_inputs import input_rows, weight_from_rows, weight_rows

DAMPING = 0.01  # of the mean second moment, added to each: inputs that were hardly seen do not take on errors
LARGEST = 1536  # inputs of a unit; the moment is a square of it


def round_weight(weight: np.ndarray, moment: np.ndarray, t: TensorPlan) -> np.ndarray:
    """A weight [out, in] on the grid of its plan (axis 0, per channel or in groups, or one scale), float32.

    `moment` [in, in] is the mean of x x^T over the inputs. Columns are taken in order of falling moment.
    """
    w = weight.astype(np.float64).copy()
    scale, zero = _grids(t, w.shape)
    diagonal = np.diag(moment).copy()
    h = moment + np.eye(len(moment)) * max(DAMPING * diagonal.mean(), 1e-12)
    order = np.argsort(-diagonal, kind="stable")
    w, scale, zero = w[:, order], scale[:, order], zero[:, order]
    upper = np.linalg.cholesky(np.linalg.inv(h[np.ix_(order, order)])).T
    out = np.empty_like(w)
    for j in range(w.shape[1]):
        stored = np.clip(np.rint(w[:, j] / scale[:, j]) + zero[:, j], t.low, t.high)
        out[:, j] = (stored - zero[:, j]) * scale[:, j]
        w[:, j + 1 :] -= np.outer((w[:, j] - out[:, j]) / upper[j, j], upper[j, j + 1 :])
    back = np.empty_like(out)
    back[:, order] = out
    return back.astype(np.float32)


def _grids(t: TensorPlan, shape: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """Scale and zero point of each weight, [out, in]."""
    values = []
    for v in (np.asarray(t.scale), np.asarray(t.zero_point, np.float64)):
        rows = v.reshape(-1, 1) if len(v) in (1, shape[0]) and not t.group else v.reshape(shape[0], -1)
        wide = np.repeat(rows, t.group, 1)[:, : shape[1]] if t.group else rows
        values.append(np.broadcast_to(wide, shape))
    return values[0], values[1]


def second_moments(
    graph: ModelGraph, images: np.ndarray, units: Sequence[Unit], progress: Progress = no_progress
) -> dict[str, np.ndarray]:
    """The mean of x x^T, [k, k] float64, over the inputs of each unit that has a weight without groups of channels and at
    most LARGEST inputs; by node name. One pass."""
    wanted = [u for u in units if u.weight and (r := weight_rows(graph, u).shape)[0] == 1 and r[2] <= LARGEST]
    sums: dict[str, np.ndarray] = {}
    for tensors in activations(graph, images, tuple(dict.fromkeys(u.inputs[0] for u in wanted)), progress):
        for u in wanted:
            rows = input_rows(graph, u, tensors[u.inputs[0]])[0]
            moment = (rows.T @ rows).astype(np.float64) / (len(rows) * len(images))
            sums[u.name] = sums[u.name] + moment if u.name in sums else moment
    return sums


def round_weights(graph: ModelGraph, plan: Plan, moments: dict[str, np.ndarray]) -> ModelGraph:
    """The model with the weights of these units on the grid of the plan, errors made good; the others as they are."""
    values = {}
    for name, moment in moments.items():
        unit = graph.units[name]
        t = plan.tensors[unit.weight]
        if t.axis in (None, unit.axis) and len(graph.consumers[unit.weight]) == 1:
            rows = weight_rows(graph, unit)[0]
            values[unit.weight] = weight_from_rows(graph, unit, round_weight(rows, moment, t))
    return graph.with_weights(values)
