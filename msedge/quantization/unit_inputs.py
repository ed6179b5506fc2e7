"""What the weights of a unit are multiplied with: rows of its input, one for each output position."""

from __future__ import annotations

import numpy as np
import onnx
from numpy.lib.stride_tricks import sliding_window_view

from msedge.quantization.graph import ModelGraph, Unit


def weight_rows(graph: ModelGraph, unit: Unit, weight: np.ndarray | None = None) -> np.ndarray:
    """The unit's weight, or one in its place, as [groups, outputs of a group, k], float64; groups is 1 but for grouped
    convolutions."""
    w = graph.weights[unit.weight] if weight is None else weight
    w = np.moveaxis(w.astype(np.float64), unit.axis, 0)
    return w.reshape(_attributes(graph, unit).get("group", 1), -1, int(np.prod(w.shape[1:])))


def weight_from_rows(graph: ModelGraph, unit: Unit, rows: np.ndarray) -> np.ndarray:
    """The inverse of `weight_rows`."""
    shape = np.moveaxis(graph.weights[unit.weight], unit.axis, 0).shape
    return np.moveaxis(rows.reshape(shape), 0, unit.axis)


def input_rows(graph: ModelGraph, unit: Unit, x: np.ndarray, fill: float = 0.0) -> np.ndarray:
    """The unit's input as [groups, positions, k]; convolutions are padded with `fill`."""
    if unit.op != "Conv":
        return x.reshape(1, -1, x.shape[-1])
    a = _attributes(graph, unit)
    kernel = graph.weights[unit.weight].shape[2:]
    top, left, bottom, right = a.get("pads", [0, 0, 0, 0])
    (sy, sx), (dy, dx) = a.get("strides", [1, 1]), a.get("dilations", [1, 1])
    x = np.pad(x, ((0, 0), (0, 0), (top, bottom), (left, right)), constant_values=fill)
    window = (dy * (kernel[0] - 1) + 1, dx * (kernel[1] - 1) + 1)
    patches = sliding_window_view(x, window, (2, 3))[:, :, ::sy, ::sx, ::dy, ::dx]  # [N, C, H, W, kh, kw]
    groups = a.get("group", 1)
    patches = patches.reshape(len(x), groups, -1, *patches.shape[2:])
    return patches.transpose(1, 0, 3, 4, 2, 5, 6).reshape(groups, -1, patches.shape[2] * kernel[0] * kernel[1])


def _attributes(graph: ModelGraph, unit: Unit) -> dict:
    return {a.name: onnx.helper.get_attribute_value(a) for a in graph.maker(unit.output).attribute}
