"""A Transpose of a Transpose is one Transpose."""

from __future__ import annotations

from msedge.exporter.graph import Graph


def merge_transposes(graph: Graph) -> bool:
    changed = False
    producers = graph.producers()
    for node in graph.nodes:
        source = producers.get(node.inputs[0]) if node.op == "Transpose" else None
        if source is not None and source.op == "Transpose":
            node.attrs["perm"] = [source.attrs["perm"][p] for p in node.attrs["perm"]]
            node.inputs[0] = source.inputs[0]
            changed = True
    return changed
