"""Slices that cut one tensor into consecutive pieces become one Split."""

from __future__ import annotations

import numpy as np

from msedge.exporter.graph import Graph, Node


def _window(graph: Graph, node: Node) -> tuple[int, int, int] | None:
    """(axis, start, end) of a Slice over one axis with step one, else None."""
    if node.op != "Slice" or len(node.inputs) < 4 or any(i not in graph.constants for i in node.inputs[1:]):
        return None
    start, end, axis = (graph.constants[i].reshape(-1) for i in node.inputs[1:4])
    step = graph.constants[node.inputs[4]].reshape(-1) if len(node.inputs) > 4 else np.ones(1)
    if len(axis) != 1 or step[0] != 1:
        return None
    a = int(axis[0]) % len(graph.shape(node.inputs[0]))
    low, high, _ = slice(int(start[0]), int(end[0])).indices(graph.shape(node.inputs[0])[a])
    return a, low, high


def split_slices(graph: Graph) -> bool:
    changed = False
    for tensor, readers in graph.consumers().items():
        windows = [_window(graph, n) for n in readers]
        if len(readers) < 2 or None in windows or tensor in graph.outputs:
            continue
        ordered = sorted(zip(windows, readers, strict=True), key=lambda pair: pair[0])
        axes = {w[0] for w, _ in ordered}
        edges = [0] + [w[2] for w, _ in ordered]
        if len(axes) != 1 or edges[-1] != graph.shape(tensor)[min(axes)] or [w[1] for w, _ in ordered] != edges[:-1]:
            continue
        _replace(graph, tensor, [n for _, n in ordered], min(axes), np.diff(edges))
        changed = True
    return changed


def _replace(graph: Graph, tensor: str, slices: list[Node], axis: int, sizes: np.ndarray) -> None:
    layer = slices[0].layer
    counts = graph.add_constant(sizes.astype(np.int64), f"{layer}/sizes")
    types = [graph.types[n.output] for n in slices]
    node = graph.new_node("Split", layer, [tensor, counts], types, len(slices), axis=axis)
    first = next(n for n in graph.nodes if any(n is s for s in slices))
    graph.insert(first, [node])
    for old, new in zip(slices, node.outputs, strict=True):
        graph.replace(old.output, new)
    graph.remove(slices)
