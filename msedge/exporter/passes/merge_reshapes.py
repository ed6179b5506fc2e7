"""A Reshape of a Reshape is one Reshape; so is a Transpose that only moves axes of length one."""

from __future__ import annotations

import numpy as np

from msedge.exporter.graph import Graph, Node


def merge_reshapes(graph: Graph) -> bool:
    changed = False
    producers = graph.producers()
    for node in list(graph.nodes):
        if node.op == "Transpose" and _keeps_order(graph, node):
            shape = np.asarray(graph.shape(node.output), np.int64)
            node.op, node.attrs = "Reshape", {}
            node.inputs.append(graph.add_constant(shape, f"{node.layer}/shape"))
            changed = True
        source = producers.get(node.inputs[0]) if node.inputs else None
        if node.op == "Reshape" and source is not None and source.op == "Reshape":
            node.inputs[0] = source.inputs[0]
            changed = True
    return changed


def _keeps_order(graph: Graph, node: Node) -> bool:
    shape = graph.shape(node.inputs[0])
    long = [p for p in node.attrs["perm"] if shape[p] != 1]
    return long == sorted(long) and node.inputs[0] not in graph.constants
