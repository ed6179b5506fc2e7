"""Difficulty moved from activations to weights: the outliers of a normalisation's output, divided out of gamma and beta and
multiplied into the weights that read it (Xiao et al., "SmoothQuant", 2022). Exact: only where all readers are such weights.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from msedge.quantization.channels import Channels, Flow, Ranges, column_changes, scaled
from msedge.quantization.equalise import LIMIT, largest_columns
from msedge.quantization.graph import ModelGraph

STRENGTH = 0.5  # 0 leaves the activations as they are, 1 makes their channels equal


@dataclass(frozen=True)
class Affine:
    """The end of a normalisation: `output` = something * gamma + beta; the channels lie along `axis` of the output."""

    output: str
    gamma: str
    beta: str
    axis: int
    flow: Flow


def affines(graph: ModelGraph) -> list[Affine]:
    """Normalisations whose output only weights read."""
    channels, found = Channels(graph), []
    for add in graph.nodes:
        beta = next((i for i in add.input if i in graph.weights), None)
        if add.op_type != "Add" or beta is None:
            continue
        scaled_by = graph.maker(next(i for i in add.input if i != beta))
        gamma = None if scaled_by is None else next((i for i in scaled_by.input if i in graph.weights), None)
        if gamma is None or scaled_by.op_type != "Mul" or len(graph.consumers[scaled_by.output[0]]) > 1:
            continue
        if any(len(graph.consumers[w]) > 1 for w in (gamma, beta)) or graph.weights[gamma].shape != graph.weights[beta].shape:
            continue
        axis = _channel_axis(graph.weights[gamma].shape)
        if axis is None:
            continue
        flow = channels.flow(add.output[0], axis)
        if flow.free().all():
            found.append(Affine(add.output[0], gamma, beta, axis, flow))
    return found


def migrate_tensors(graph: ModelGraph) -> dict[str, int]:
    """The tensors whose channel ranges `migrate` wants to know, with their channel axis."""
    return {a.output: a.axis for a in affines(graph)}


def migrate(graph: ModelGraph, ranges: Ranges, strength: float = STRENGTH) -> ModelGraph:
    """The same function with evener normalised activations. `ranges` as in `equalise`."""
    changes = []
    for affine in affines(graph):
        seen = np.maximum(ranges[affine.output], 1e-6)
        divisor = seen**strength / np.maximum(largest_columns(graph, affine.flow), 1e-6) ** (1 - strength)
        divisor = np.clip(divisor / np.exp(np.log(divisor).mean()), 1 / LIMIT, LIMIT)
        changes += [(affine.gamma, affine.axis, 1 / divisor), (affine.beta, affine.axis, 1 / divisor)]
        changes += column_changes(affine.flow, 1 / divisor)
    return scaled(graph, changes)


def _channel_axis(shape: tuple[int, ...]) -> int | None:
    """The one axis with more than one entry, counted from the end; None where there is no such axis."""
    long = [i - len(shape) for i, n in enumerate(shape) if n > 1]
    return long[0] if len(long) == 1 else None
