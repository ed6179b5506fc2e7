"""Operators that only move numbers, and where each number of their result comes from."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from msedge.exporter.graph import Graph, Node

MOVES = {"Reshape", "Transpose", "Split", "Concat", "Slice", "Gather", "Identity", "Squeeze", "Unsqueeze", "Flatten"}


def moves(graph: Graph, node: Node) -> bool:
    """Whether `node` only moves the numbers of tensors that are not constant, by constant rules."""
    data = data_inputs(node)
    rules = [i for i in node.inputs if i not in data]
    return node.op in MOVES and all(r in graph.constants for r in rules) and not any(d in graph.constants for d in data)


def data_inputs(node: Node) -> list[str]:
    return node.inputs if node.op == "Concat" else node.inputs[:1]


def sources(graph: Graph, sink: str, producers: dict[str, Node]) -> Iterator[tuple[str, list[Node]]]:
    """Tensors that hold every number of `sink`, nearest first, each with the nodes between in their order."""
    order = {id(n): i for i, n in enumerate(graph.nodes)}
    frontier, between = {sink}, []
    while True:
        made = [(order[id(producers[t])], t) for t in frontier if t in producers]
        if not made:
            return
        node = producers[max(made)[1]]
        if not moves(graph, node):
            return
        frontier = (frontier - set(node.outputs)) | set(data_inputs(node))
        between.insert(0, node)
        if len(frontier) == 1:
            yield next(iter(frontier)), list(between)


def origins(graph: Graph, source: str, sink: str, between: list[Node]) -> np.ndarray:
    """For every number of `sink` its place in the flattened `source`: int64 of the sink's shape."""
    shape = graph.shape(source)
    values = {source: np.arange(int(np.prod(shape, dtype=np.int64))).reshape(shape)}
    for node in between:
        results = _moved(graph, node, [values[i] for i in data_inputs(node)])
        values.update(zip(node.outputs, results, strict=True))
    return values[sink]


def _moved(graph: Graph, node: Node, data: list[np.ndarray]) -> list[np.ndarray]:
    x = data[0]
    if node.op == "Concat":
        return [np.concatenate(data, node.attrs["axis"])]
    if node.op == "Transpose":
        return [x.transpose(node.attrs["perm"])]
    if node.op == "Gather":
        return [np.take(x, graph.constants[node.inputs[1]], node.attrs.get("axis", 0))]
    if node.op == "Split":
        axis = node.attrs.get("axis", 0)
        ends = np.cumsum([graph.shape(o)[axis] for o in node.outputs])
        return np.split(x, ends[:-1], axis)
    if node.op == "Slice":
        start, end, *rest = (graph.constants[i].reshape(-1).tolist() for i in node.inputs[1:])
        axes = rest[0] if rest else range(len(start))
        steps = rest[1] if len(rest) > 1 else [1] * len(start)
        cut = [slice(None)] * x.ndim
        for axis, *window in zip(axes, start, end, steps, strict=True):
            cut[axis] = slice(*window)
        return [x[tuple(cut)]]
    return [x.reshape(graph.shape(node.output))]
