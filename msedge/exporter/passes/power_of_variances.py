"""One over the root of a number per image becomes a power of -0.5, and the division by such a root a multiplication.

Lite has Pow in every layout of a map, but Sqrt and Reciprocal in one: it would transpose before and after them.
"""

from __future__ import annotations

import numpy as np

from msedge.exporter.graph import Graph, Node


def power_of_variances(graph: Graph) -> bool:
    changed = False
    for root in [n for n in graph.nodes if n.op == "Sqrt"]:
        shape = graph.shape(root.output)
        readers = [n for n in graph.nodes if root.output in n.inputs]
        if len(shape) != 4 or set(shape[1:]) != {1} or root.output in graph.outputs:
            continue
        if readers and all(_divides(n, root.output) for n in readers):
            _rewrite(graph, root, readers)
            changed = True
    return changed


def _divides(node: Node, root: str) -> bool:
    return node.op == "Reciprocal" or (node.op == "Div" and node.inputs[1] == root and node.inputs[0] != root)


def _rewrite(graph: Graph, root: Node, readers: list[Node]) -> None:
    kind = graph.types[root.output]
    exponent = graph.add_constant(np.asarray(-0.5, kind[1]), f"{root.layer}/exponent")
    power = graph.new_node("Pow", root.layer, [root.inputs[0], exponent], [kind])
    graph.insert(root, [power])
    for node in readers:
        if node.op == "Reciprocal":
            graph.replace(node.output, power.output)
            graph.remove([node])
        else:
            product = graph.new_node("Mul", node.layer, [node.inputs[0], power.output], [graph.types[node.output]])
            graph.insert(node, [product])
            graph.replace(node.output, product.output)
