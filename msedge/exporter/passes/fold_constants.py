"""Compute nodes whose inputs are all constant: transposed weights, gathered position biases, masks, reshaped biases."""

from __future__ import annotations

from collections import Counter

from msedge.exporter.build import evaluate
from msedge.exporter.graph import Graph, Node

# A result may be this many times as large as the inputs that nothing else needs, or so many bytes. What grows more
# (position biases gathered for each pair of many tokens, attention masks added to them) stays a node, so that a file is
# as large as what was learned.
_GROWTH, _SMALL = 1.5, 1 << 18


def fold_constants(graph: Graph) -> bool:
    gone, uses = [], graph.uses()
    for node in graph.nodes:
        constant = node.inputs and all(i in graph.constants or not i for i in node.inputs)
        if constant and not set(node.outputs) & set(graph.outputs) and _fold(graph, node, uses):
            gone.append(node)
    graph.remove(gone)
    return bool(gone)


def _fold(graph: Graph, node: Node, uses: Counter[str]) -> bool:
    values = [graph.constants[i] if i else None for i in node.inputs]
    results = evaluate(node, values)
    freed = sum(graph.constants[i].nbytes for i in set(node.inputs) if i and uses[i] == 1)
    if sum(r.nbytes for r in results) > max(_SMALL, _GROWTH * freed):
        return False
    origins = {graph.origin[i] for i in node.inputs if i in graph.origin}
    for output, result in zip(node.outputs, results, strict=True):
        expected = graph.types[output][1]
        graph.constants[output] = result.astype(expected, copy=False)
        graph.types[output] = (result.shape, expected)
        if len(origins) == 1:
            graph.origin[output] = next(iter(origins))
    return True
