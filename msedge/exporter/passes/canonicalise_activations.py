"""Bring hand-written GELU and SiLU into the order of nodes that Lite fuses."""

from __future__ import annotations

import math

import numpy as np

from msedge.exporter.graph import Graph, Node


def canonicalise_activations(graph: Graph) -> bool:
    changed = False
    for node in list(graph.nodes):
        if node.op == "Erf":
            changed |= _gelu(graph, node)
        elif node.op == "Sigmoid":
            changed |= _silu(graph, node)
    return changed


def _silu(graph: Graph, sigmoid: Node) -> bool:
    """Mul(Sigmoid(x), x) becomes Mul(x, Sigmoid(x))."""
    x = sigmoid.inputs[0]
    swapped = [n for n in graph.nodes if n.op == "Mul" and n.inputs == [sigmoid.output, x]]
    for n in swapped:
        n.inputs.reverse()
    return bool(swapped)


def _only_reader(graph: Graph, tensor: str) -> Node | None:
    readers = [n for n in graph.nodes if tensor in n.inputs]
    return readers[0] if len(readers) == 1 and tensor not in graph.outputs else None


def _factor(graph: Graph, node: Node | None, x: str) -> float | None:
    """f if `node` computes x * f."""
    if node is None or x not in node.inputs:
        return None
    other = node.inputs[1] if node.inputs[0] == x else node.inputs[0]
    value = graph.scalar(other)
    if value is None:
        return None
    if node.op == "Mul":
        return value
    return 1 / value if node.op == "Div" and node.inputs[0] == x and value else None


def _gelu(graph: Graph, erf: Node) -> bool:
    """Any order of x / sqrt(2), erf, + 1, * x and * 0.5 becomes Div, Erf, Add, Mul, Mul."""
    inner = graph.producers().get(erf.inputs[0])
    x = None if inner is None else next((i for i in inner.inputs if graph.scalar(i) is None), None)
    factor = _factor(graph, inner, x) if x else None
    if factor is None or not math.isclose(factor, math.sqrt(0.5), rel_tol=1e-5):
        return False
    add = _only_reader(graph, erf.output)
    if add is None or add.op != "Add" or not any(graph.scalar(i) == 1.0 for i in add.inputs):
        return False
    found = _tail(graph, add, x)
    if found is None:
        return False
    last, between = found
    chain = [inner, erf, add, *between, last]
    if [n.op for n in chain] == ["Div", "Erf", "Add", "Mul", "Mul"] and between[0].inputs == [x, add.output]:
        return False
    _rewrite(graph, erf.layer, x, last, chain)
    return True


def _tail(graph: Graph, add: Node, x: str) -> tuple[Node, list[Node]] | None:
    """The last node of the GELU and those between it and `add`: (x * s) * 0.5, x * (s * 0.5) or (x * 0.5) * s."""
    first = _only_reader(graph, add.output)
    if first is None:
        return None
    producers = graph.producers()
    half = next((producers[i] for i in first.inputs if i in producers and producers[i] is not add), None)
    if first.op == "Mul" and half is not None and _factor(graph, half, x) == 0.5:
        return first, [half] if _only_reader(graph, half.output) is first else []
    second = _only_reader(graph, first.output)
    if first.op == "Mul" and x in first.inputs and second is not None and _factor(graph, second, first.output) == 0.5:
        return second, [first]
    if _factor(graph, first, add.output) == 0.5 and second is not None and second.op == "Mul" and x in second.inputs:
        return second, [first]
    return None


def _rewrite(graph: Graph, layer: str, x: str, last: Node, chain: list[Node]) -> None:
    kind = graph.types[last.output]
    numbers = {}
    for role, value in (("root", math.sqrt(2)), ("one", 1.0), ("half", 0.5)):
        numbers[role] = graph.add_constant(np.asarray(value, kind[1]), f"{layer}/{role}")
    new: list[Node] = []
    for op, a, b in (("Div", x, "root"), ("Erf", None, None), ("Add", None, "one")):
        inputs = [a or new[-1].output] + ([numbers[b]] if b else [])
        new.append(graph.new_node(op, layer, inputs, [kind]))
    new.append(graph.new_node("Mul", layer, [x, new[-1].output], [kind]))
    new.append(graph.new_node("Mul", layer, [new[-1].output, numbers["half"]], [kind]))
    graph.insert(last, new)
    graph.replace(last.output, new[-1].output)
    readers = graph.consumers()
    for node in reversed(chain[:-1]):
        if not readers.get(node.output):
            graph.remove([node])
            readers = graph.consumers()
