"""Cross-layer equalisation: the channels of one tensor brought to like ranges, undone exactly in what reads them.

After Nagel et al., "Data-Free Quantization Through Weight Equalization and Bias Correction" (2019), with measured ranges
of activations in the place of weight ranges, and for attention too: a channel of q times r and its channel of k over r give
equal products; a channel of v times r is undone in the projection behind it. SiLU and GELU let no factor through.
"""

from __future__ import annotations

import numpy as np

from msedge.quantization.channels import Channels, Flow, Ranges, column_changes, scaled
from msedge.quantization.graph import ModelGraph, Unit

LIMIT = 16.0  # of a factor, either way
_TINY = 1e-6


def equalise_tensors(graph: ModelGraph) -> dict[str, int]:
    """The tensors whose channel ranges `equalise` wants to know, with their channel axis."""
    found = {}
    for unit, flow in _producers(graph, Channels(graph)):
        if flow.free().any() or len(flow.matched()[0]):
            found[unit.output] = _axis(unit)
    return found


def equalise(graph: ModelGraph, ranges: Ranges) -> ModelGraph:
    """The same function with evener channels. `ranges` holds the largest absolute value per channel of the tensors
    that `equalise_tensors` names."""
    changes = []
    for unit, flow in _producers(graph, Channels(graph)):
        if unit.output not in ranges:
            continue
        factors = _factors(graph, flow, np.maximum(ranges[unit.output], _TINY * ranges[unit.output].max() + 1e-30))
        if (factors != 1).any():
            changes += [(unit.weight, unit.axis, factors), *column_changes(flow, factors)]
            changes += [(unit.bias, 0, factors)] if unit.bias else []
    return scaled(graph, changes)


def _producers(graph: ModelGraph, channels: Channels) -> list[tuple[Unit, Flow]]:
    """Units whose output channels are rows of a weight (and a bias) that nothing else reads."""
    found = []
    for unit in graph.units.values():
        own = [w for w in (unit.weight, unit.bias) if w]
        if unit.weight and all(len(graph.consumers[w]) == 1 for w in own):
            found.append((unit, channels.flow(unit.output, _axis(unit))))
    return found


def _axis(unit: Unit) -> int:
    return 1 if unit.op == "Conv" else -1


def _factors(graph: ModelGraph, flow: Flow, ranges: np.ndarray) -> np.ndarray:
    """Matched channels meet at their geometric mean. Free channels go half the way (in logarithms) to the range that all of
    the tensor then has, weighed against the columns that must undo it."""
    factors, free = np.ones(len(ranges)), flow.free()
    left, right = flow.matched()
    factors[left] = np.sqrt(ranges[right] / ranges[left])
    factors[right] = 1 / factors[left]
    if free.any():
        columns = np.maximum(largest_columns(graph, flow), 1e-12)
        wanted = np.sqrt(columns / ranges)
        others = (ranges * factors)[~free]
        level = others.max() if len(others) else ranges[free].max()
        factors[free] = wanted[free] * (level / (wanted * ranges)[free].max())
    return np.clip(factors, 1 / LIMIT, LIMIT)


def largest_columns(graph: ModelGraph, flow: Flow) -> np.ndarray:
    """Largest absolute weight that reads each channel."""
    largest = np.zeros(flow.channels + 1)
    for c in flow.columns:
        w = np.abs(np.moveaxis(graph.weights[c.weight], c.axis, 0)).reshape(len(c.ids), -1).max(1)
        np.maximum.at(largest, c.ids, w)
    return largest[:-1]
