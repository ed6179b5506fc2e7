"""Remove nodes that give what they get: identities, reshapes to the same shape, casts to the same type, and the like."""

from __future__ import annotations

from msedge.exporter.graph import Graph, Node


def drop_no_ops(graph: Graph) -> bool:
    made = {o for n in graph.nodes for o in n.outputs}
    gone = []
    for node in graph.nodes:
        if _is_no_op(graph, node) and (node.output not in graph.outputs or node.inputs[0] in made):
            graph.replace(node.output, node.inputs[0])
            gone.append(node)
    graph.remove(gone)
    return bool(gone)


def _is_no_op(graph: Graph, n: Node) -> bool:
    if n.op == "Identity":
        return True
    if n.op in ("Reshape", "Expand", "Tile", "Slice", "Pad", "Cast", "Resize"):
        same = graph.types[n.output] == graph.types[n.inputs[0]]
        return same and (n.op != "Slice" or _forward(graph, n))
    if n.op == "Transpose":
        return n.attrs["perm"] == sorted(n.attrs["perm"])
    if n.op in ("Concat", "Max", "Min"):
        return len(n.inputs) == 1
    if graph.types[n.output] == graph.types[n.inputs[0]]:
        if n.op in ("Mul", "Div"):
            return graph.scalar(n.inputs[1]) == 1
        if n.op in ("Add", "Sub"):
            return graph.scalar(n.inputs[1]) == 0
    return False


def _forward(graph: Graph, n: Node) -> bool:
    steps = graph.constants.get(n.inputs[4]) if len(n.inputs) > 4 else None
    return steps is None or bool((steps > 0).all())
