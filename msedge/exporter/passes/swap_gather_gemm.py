"""A Gather of rows and a Gemm can change places: done where the Gather then meets another one and they become one.

So the windows of an attention cost nothing: its heads are gathered from, and to, the rows of the whole image.
"""

from __future__ import annotations

from msedge.exporter.graph import Graph, Node
from msedge.exporter.movement import moves


def swap_gather_gemm(graph: Graph) -> bool:
    changed = False
    while _swap_one(graph):
        changed = True
    return changed


def _swap_one(graph: Graph) -> bool:
    producers, consumers, uses = graph.producers(), graph.consumers(), graph.uses()
    for gemm in [n for n in graph.nodes if n.op == "Gemm" and not n.attrs.get("transA", 0)]:
        before = producers.get(gemm.inputs[0])
        readers = consumers.get(gemm.output, [])
        if before is None or not moves(graph, before) or gemm.output in graph.outputs or not readers:
            continue
        if _permutes_rows(graph, before) and uses[before.output] == 1 and all(moves(graph, r) for r in readers):
            _to_the_end(graph, before, gemm)
            return True
        after = readers[0]
        at_rest = not all(moves(graph, r) for r in consumers.get(after.output, []))
        if len(readers) == 1 and _permutes_rows(graph, after) and at_rest and _gathered(graph, before, producers):
            _to_the_front(graph, gemm, after)
            return True
    return False


def _permutes_rows(graph: Graph, node: Node) -> bool:
    """Whether a Gather gives the rows of a matrix in another order."""
    if node.op != "Gather" or node.attrs.get("axis", 0) != 0:
        return False
    before, after = graph.shape(node.inputs[0]), graph.shape(node.output)
    return len(before) == 2 and before == after


def _gathered(graph: Graph, node: Node | None, producers: dict[str, Node]) -> bool:
    """Whether nothing but reshapes lies between `node` and a Gather above it."""
    while node is not None and node.op == "Reshape":
        node = producers.get(node.inputs[0])
    return node is not None and node.op == "Gather"


def _to_the_end(graph: Graph, gather: Node, gemm: Node) -> None:
    gemm.inputs[0] = gather.inputs[0]
    moved = graph.new_node("Gather", gather.layer, [gemm.output, gather.inputs[1]], [graph.types[gemm.output]], axis=0)
    graph.replace(gemm.output, moved.output)
    moved.inputs[0] = gemm.output
    graph.insert(gemm, [gemm, moved])
    graph.remove([gather])


def _to_the_front(graph: Graph, gemm: Node, gather: Node) -> None:
    kind = graph.types[gemm.inputs[0]]
    moved = graph.new_node("Gather", gather.layer, [gemm.inputs[0], gather.inputs[1]], [kind], axis=0)
    gemm.inputs[0] = moved.output
    graph.insert(gemm, [moved, gemm])
    graph.replace(gather.output, gemm.output)
    graph.remove([gather])
