"""Compute what does not depend on the input: transposed weights, gathered position biases, masks, reshaped biases.

Some of it is larger than what it is computed from: position biases gathered for each pair of tokens, attention masks
added to them. All such growth together stays within `graph.room`, the least first, so that a file is about as large as
what was learned; what finds no room stays in the graph.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from msedge.exporter.build import evaluate
from msedge.exporter.graph import Graph, Node

_LIMIT = 1.025  # of the parameters' bytes: what a file may hold with all growth
_LEAST = 1 << 15  # bytes that folding may add to any model
_NODE = 230  # bytes of a node with its names and types


def parameter_bytes(graph: Graph) -> int:
    """What the parameters of a graph take that nothing was folded in yet."""
    return sum(value.nbytes for name, value in graph.constants.items() if name in graph.origin)


def room_to_grow(graph: Graph, parameters: int) -> int:
    """How many bytes folding may add to a graph that is otherwise as it will be."""
    held = sum(value.nbytes for value in graph.constants.values()) + _NODE * len(graph.nodes)
    return max(_LEAST, int(_LIMIT * parameters) - held)


def fold_constants(graph: Graph) -> bool:
    fixed = _fixed_nodes(graph)
    readers = graph.consumers()
    inside = {id(n) for n in fixed.values()}
    wanted = {t for t in fixed if any(id(n) not in inside for n in readers.get(t, []))}
    folded: set[str] = set()
    while wanted:
        refused = []
        growth = {t: _growth(graph, t, fixed, readers) for t in wanted}
        for tensor in sorted(wanted, key=lambda t: (growth[t], t)):
            if growth[tensor] <= graph.room:
                graph.room -= max(0, growth[tensor])
                folded.update(fixed[tensor].outputs)
            else:
                refused.append(tensor)
        wanted = {i for t in refused for i in fixed[t].inputs if i in fixed and i not in folded}
    _replace(graph, fixed, folded)
    return bool(folded)


def _fixed_nodes(graph: Graph) -> dict[str, Node]:
    """The tensors that follow from constants alone, but outputs of the graph, with the nodes that give them."""
    found: dict[str, Node] = {}
    for node in graph.nodes:
        known = all(i in graph.constants or i in found or not i for i in node.inputs)
        if node.inputs and known and not set(node.outputs) & set(graph.outputs):
            found.update(dict.fromkeys(node.outputs, node))
    return found


def _cone(tensor: str, fixed: dict[str, Node]) -> list[Node]:
    """The nodes that `tensor` is computed by, the last one first."""
    order, waiting = {}, [tensor]
    while waiting:
        node = fixed.get(waiting.pop())
        if node is not None:
            order.pop(id(node), None)  # behind all that read it
            order[id(node)] = node
            waiting.extend(node.inputs)
    return list(order.values())


def _growth(graph: Graph, tensor: str, fixed: dict[str, Node], readers: dict[str, list[Node]]) -> int:
    """Bytes of the results less those of the constants that nothing else needs."""
    cone = _cone(tensor, fixed)
    gone = {id(cone[0])}
    for node in cone[1:]:
        if all(id(r) in gone for o in node.outputs for r in readers.get(o, [])):
            gone.add(id(node))
    leaves = {i for n in cone for i in n.inputs if i in graph.constants and i not in graph.outputs}
    freed = sum(graph.constants[i].nbytes for i in leaves if all(id(r) in gone for r in readers[i]))
    return sum(_nbytes(graph, o) for o in cone[0].outputs) - freed


def _nbytes(graph: Graph, tensor: str) -> int:
    shape, dtype = graph.types[tensor]
    return int(np.prod(shape, dtype=np.int64)) * dtype.itemsize


def _replace(graph: Graph, fixed: dict[str, Node], folded: Iterable[str]) -> None:
    values: dict[str, np.ndarray] = {}
    origins = {t: _origins(graph, t, fixed) for t in folded}
    for tensor in folded:
        for node in reversed(_cone(tensor, fixed)):
            if node.output not in values:
                inputs = [values.get(i, graph.constants.get(i)) if i else None for i in node.inputs]
                values.update(zip(node.outputs, evaluate(node, inputs), strict=True))
    graph.remove(n for t in folded for n in [fixed[t]])
    for tensor in folded:
        expected = graph.types[tensor][1]
        graph.constants[tensor] = values[tensor].astype(expected, copy=False)
        graph.types[tensor] = (values[tensor].shape, expected)
        if len(origins[tensor]) == 1:
            graph.origin[tensor] = next(iter(origins[tensor]))


def _origins(graph: Graph, tensor: str, fixed: dict[str, Node]) -> set[str]:
    """The parameters that went in; of several (a kernel and its scales) the only one with as many elements, if there is one."""
    found = {i for n in _cone(tensor, fixed) for i in n.inputs if i in graph.origin}
    alike = {i for i in found if graph.constants[i].size == np.prod(graph.shape(tensor))}
    return {graph.origin[i] for i in (alike if len(alike) == 1 else found)}
