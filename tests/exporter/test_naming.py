"""Names and order do not depend on how the graph came about."""

from __future__ import annotations

import numpy as np

from msedge.exporter.build import infer_types, to_model
from msedge.exporter.graph import Graph
from msedge.exporter.naming import finalise_names


def written(order: list[int]) -> bytes:
    graph = Graph(["x"], [])
    graph.types["x"] = ((2, 3), np.dtype("float32"))
    made = {i: graph.add_constant(np.full((3,), i, np.float32), f"c{i}") for i in order}
    last = "x"
    for i in range(4):
        node = graph.new_node("Add", "layer", [last, made[i]])
        graph.nodes.append(node)
        last = node.output
    graph.outputs = [last]
    infer_types(graph)
    finalise_names(graph, ["image"], ["logits"])
    return to_model(graph, "m").SerializeToString(deterministic=True)


def test_the_same_graph_gives_the_same_file():
    assert written([0, 1, 2, 3]) == written([3, 1, 0, 2])
