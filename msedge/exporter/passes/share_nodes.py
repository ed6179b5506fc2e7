"""Equal Reshapes and Transposes of one tensor are computed once."""

from __future__ import annotations

from msedge.exporter.graph import Graph, Node


def share_nodes(graph: Graph) -> bool:
    first: dict[tuple, Node] = {}
    twins = []
    for node in graph.nodes:
        if node.op not in ("Reshape", "Transpose") or node.output in graph.outputs:
            continue
        key = (node.op, node.inputs[0], graph.shape(node.output), str(node.attrs))
        kept = first.setdefault(key, node)
        if kept is not node:
            graph.replace(node.output, kept.output)
            twins.append(node)
    graph.remove(twins)
    return bool(twins)
