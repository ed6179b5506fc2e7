"""Remove what no output needs: nodes, and parameters that were loaded but never used."""

from __future__ import annotations

from msedge.exporter.graph import Graph


def drop_dead(graph: Graph) -> bool:
    wanted = set(graph.outputs)
    kept = []
    for node in reversed(graph.nodes):
        if any(o in wanted for o in node.outputs):
            kept.append(node)
            wanted.update(node.inputs)
    dead = len(graph.nodes) - len(kept)
    graph.nodes = kept[::-1]
    unused = [c for c in graph.constants if c not in wanted]
    for name in unused:
        del graph.constants[name]
        graph.types.pop(name)
        graph.origin.pop(name, None)
    return bool(dead or unused)
