"""Where only some rows of a matrix are read at last, compute only those: a class token's last MLP and projection.

What works row by row (Gemm, LayerNorm, activations, residual sums) gives the same for one row as for all.
"""

from __future__ import annotations

import numpy as np

from msedge.exporter.graph import Graph, Node
from msedge.exporter.movement import moves, origins, sources

_ELEMENTWISE = {
    "Add", "Sub", "Mul", "Div", "Pow", "Sqrt", "Erf", "Sigmoid", "Tanh", "Relu", "Clip", "Exp", "Neg", "Max", "Min",
}  # fmt: skip


def take_rows_early(graph: Graph) -> bool:
    return any(_early(graph, sink) for node in graph.nodes if moves(graph, node) for sink in node.outputs)


def _early(graph: Graph, sink: str) -> bool:
    producers, consumers = graph.producers(), graph.consumers()
    if all(moves(graph, n) for n in consumers.get(sink, [])) and sink not in graph.outputs:
        return False
    for source, between in sources(graph, sink, producers):
        rows = _rows(graph, source, sink, between, producers)
        if rows is None or _read_elsewhere(graph, source, sink, between, consumers):
            continue
        narrow = _narrow(graph, source, between, consumers)
        if any(n.op == "Gemm" for n in narrow):
            _take(graph, narrow, rows)
            _finish(graph, source, sink, between)
            return True
    return False


def _rows(graph: Graph, source: str, sink: str, between: list[Node], producers: dict[str, Node]) -> np.ndarray | None:
    """Which rows of the matrix `source` the sink consists of: fewer than half of them, whole, each once."""
    shape = graph.shape(source)
    if len(shape) != 2 or source not in producers or 2 * int(np.prod(graph.shape(sink))) >= shape[0] * shape[1]:
        return None
    places = origins(graph, source, sink, between).reshape(-1)
    if places.size % shape[1]:
        return None
    whole = places.reshape(-1, shape[1])
    rows = whole[:, 0] // shape[1]
    fits = (whole == rows[:, None] * shape[1] + np.arange(shape[1])).all() and len(set(rows.tolist())) == len(rows)
    return rows.astype(np.int32) if fits else None


def _read_elsewhere(graph: Graph, source: str, sink: str, between: list[Node], consumers: dict[str, list[Node]]) -> bool:
    inside = {id(n) for n in between}
    tensors = [source, *(o for n in between for o in n.outputs if o != sink)]
    return any(t in graph.outputs or any(id(n) not in inside for n in consumers.get(t, [])) for t in tensors)


def _narrow(graph: Graph, source: str, between: list[Node], consumers: dict[str, list[Node]]) -> list[Node]:
    """The nodes above `source` whose results are read by nobody but each other, in their order."""
    count = graph.shape(source)[0]
    readers, found = {id(n) for n in between}, []
    for node in reversed(graph.nodes):
        output = node.outputs[0]
        read = consumers.get(output, [])
        if not read or output in graph.outputs or not all(id(n) in readers for n in read):
            continue
        if graph.shape(output)[:1] == (count,) and _by_rows(graph, node, count):
            readers.add(id(node))
            found.insert(0, node)
    return found


def _by_rows(graph: Graph, node: Node, count: int) -> bool:
    def constant(i: str) -> bool:
        return i in graph.constants and (graph.constants[i].ndim < 2 or graph.constants[i].shape[0] == 1)

    def rows(i: str) -> bool:
        return i not in graph.constants and len(graph.shape(i)) == 2 and graph.shape(i)[0] == count

    if node.op == "Gemm":
        return rows(node.inputs[0]) and not node.attrs.get("transA", 0) and all(i in graph.constants for i in node.inputs[1:])
    if node.op == "ReduceMean":
        return rows(node.inputs[0]) and node.attrs.get("axes") in ([-1], [1]) and bool(node.attrs.get("keepdims", 1))
    return node.op in _ELEMENTWISE and all(rows(i) or constant(i) for i in node.inputs if i)


def _take(graph: Graph, narrow: list[Node], rows: np.ndarray) -> None:
    inside = {o for n in narrow for o in n.outputs}
    index = graph.add_constant(rows, f"{narrow[0].layer}/rows")
    taken: dict[str, str] = {}
    for node in narrow:
        for k, name in enumerate(node.inputs[:1] if node.op == "Gemm" else node.inputs):
            if not name or name in inside or name in graph.constants:
                continue
            if name not in taken:
                shape, dtype = graph.types[name]
                gather = graph.new_node("Gather", node.layer, [name, index], [((len(rows), *shape[1:]), dtype)], axis=0)
                graph.insert(node, [gather, node])
                taken[name] = gather.output
            node.inputs[k] = taken[name]
        shape, dtype = graph.types[node.output]
        graph.types[node.output] = ((len(rows), *shape[1:]), dtype)


def _finish(graph: Graph, source: str, sink: str, between: list[Node]) -> None:
    new = graph.new_reshape(between[-1].layer, source, graph.shape(sink))
    graph.insert(between[-1], [new, between[-1]])
    graph.replace(sink, new.output)
    graph.remove(between)
