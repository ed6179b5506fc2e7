"""Chains of Transpose, Split, Concat and Slice that move whole rows become one Gather.

Lite 2.0.0 transposes one number at a time, in a generic loop, but gathers rows by copying: head splitting, window
partition, rolls, patch merging and their inverses take a quarter of the time, and any chain of them is one Gather. Rows
of the channels-last view of an image count as well: Lite keeps images so, and its transposition to it costs nothing.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from msedge.exporter.graph import Graph, Node
from msedge.exporter.movement import moves, origins, sources

_SHORTEST = 8  # numbers in a row: below this a copy is no faster
_TO_LAST, _TO_FIRST = (0, 2, 3, 1), (0, 3, 1, 2)  # channels


@dataclass(frozen=True)
class Plan:
    """sink = Transpose[after](Gather of rows of Transpose[before](source)); either transposition may be missing."""

    before: tuple[int, ...] | None
    rows: np.ndarray  # of the sink before `after`, all axes but those inside a row
    length: int
    shape: tuple[int, ...]  # of the sink before `after`
    after: tuple[int, ...] | None
    in_order: bool  # all rows of the source, as they are: no Gather is needed


def gather_rows(graph: Graph) -> bool:
    changed = False
    for sink in _sinks(graph):
        producers = graph.producers()
        best = None
        for source, between in sources(graph, sink, producers):
            plan = _plan(graph, source, origins(graph, source, sink, between))
            if plan is not None and _gains(plan, between):
                best = (source, plan)
        if best:
            _emit(graph, producers[sink], sink, *best)
            changed = True
    return changed


def _sinks(graph: Graph) -> list[str]:
    """Results of movement that something else reads; not the transposition of a MatMul's right side, which is part of it."""
    producers, consumers, found = graph.producers(), graph.consumers(), []
    for node in graph.nodes:
        if not moves(graph, node):
            continue
        for output in node.outputs:
            readers = consumers.get(output, [])
            if not graph.shape(output) or 0 in graph.shape(output):
                continue
            if output in graph.outputs or any(not moves(graph, r) or _part_of_matmul(graph, r, consumers) for r in readers):
                if _part_of_matmul(graph, node, consumers) and producers.get(node.inputs[0]) is not None:
                    continue
                found.append(output)
    return found


def _part_of_matmul(graph: Graph, node: Node, consumers: dict[str, list[Node]]) -> bool:
    rank = len(graph.shape(node.output))
    if node.op != "Transpose" or rank < 3 or list(node.attrs["perm"]) != [*range(rank - 2), rank - 1, rank - 2]:
        return False
    readers = consumers.get(node.output, [])
    return bool(readers) and all(r.op == "MatMul" and r.inputs[1] == node.output for r in readers)


def _plan(graph: Graph, source: str, places: np.ndarray) -> Plan | None:
    """The Gather that gives the sink, where rows are long enough; with as few transpositions around as there can be."""
    shape = graph.shape(source)
    if not shape:
        return None
    befores = [None] + ([_TO_LAST] if len(shape) == 4 else [])
    afters: list[tuple[int, ...] | None] = [None]
    if places.ndim == 4:
        afters.append(_TO_FIRST)
    if places.ndim > 2:
        afters.append((*range(places.ndim - 2), places.ndim - 1, places.ndim - 2))
    for before in befores:
        seen = _through(places, shape, before)
        for after in afters:
            value = seen if after is None else seen.transpose(np.argsort(after))
            width = shape[before[-1]] if before else shape[-1]
            length = _row_length(value, width)
            if length >= _SHORTEST:
                rows = value.reshape(-1, length)[:, 0] // length
                in_order = value.size == math.prod(shape) and bool((rows == np.arange(rows.size)).all())
                return Plan(before, rows, length, value.shape, after, in_order)
    return None


def _through(places: np.ndarray, shape: tuple[int, ...], perm: tuple[int, ...] | None) -> np.ndarray:
    """Places in the transposed source instead of the source."""
    if perm is None:
        return places
    where = np.empty(math.prod(shape), np.int64)
    where[np.arange(where.size).reshape(shape).transpose(perm).reshape(-1)] = np.arange(where.size)
    return where[places]


def _row_length(places: np.ndarray, width: int) -> int:
    """The longest row that moves as a whole: it divides the last axes of the sink and the source's row."""
    flat = places.reshape(-1)
    breaks = np.flatnonzero(np.diff(flat) != 1) + 1
    return int(np.gcd.reduce(np.concatenate((breaks, flat[breaks], flat[:1], [places.shape[-1], width]))))


def _gains(plan: Plan, between: list[Node]) -> bool:
    kinds = [n.op for n in between]
    if not {"Transpose", "Concat"} & set(kinds) and kinds.count("Gather") < 2:
        return False
    costly = [n for n in between if n.op not in ("Reshape", "Identity", "Squeeze", "Unsqueeze", "Flatten")]
    transposed = sum(p is not None for p in (plan.before, plan.after))
    new = transposed + (not plan.in_order)
    kept = [tuple(n.attrs["perm"]) for n in costly if n.op == "Transpose"]
    free = sum(kept.count(p) > 0 for p in (plan.before, plan.after) if p is not None)
    only_gather = len(costly) - free == 1 and any(n.op == "Gather" for n in costly)
    return len(costly) > new or (len(costly) == new and len(costly) > free and not only_gather)


def _emit(graph: Graph, last: Node, sink: str, source: str, plan: Plan) -> None:
    layer, dtype, new = last.layer, graph.types[source][1], []

    def add(op: str, inputs: list[str], shape: tuple[int, ...], **attrs) -> str:
        new.append(graph.new_node(op, layer, inputs, [(shape, dtype)], **attrs))
        return new[-1].output

    def reshape(tensor: str, shape: tuple[int, ...]) -> str:
        if graph.shape(tensor) == shape:
            return tensor
        new.append(graph.new_reshape(layer, tensor, shape))
        return new[-1].output

    tensor = source
    if plan.before:
        tensor = add("Transpose", [tensor], tuple(graph.shape(source)[p] for p in plan.before), perm=list(plan.before))
    if not plan.in_order:
        tensor = reshape(tensor, (math.prod(graph.shape(tensor)) // plan.length, plan.length))
        whole = plan.shape[-1] == plan.length
        rows = plan.rows.reshape(plan.shape[:-1] if whole else -1).astype(np.int32)
        index = graph.add_constant(rows, f"{layer}/rows")
        tensor = add("Gather", [tensor, index], (*rows.shape, plan.length), axis=0)
    tensor = reshape(tensor, plan.shape)
    if plan.after:
        tensor = add("Transpose", [tensor], graph.shape(sink), perm=list(plan.after))
    graph.insert(last, [*new, last])
    graph.replace(sink, tensor)
