"""Take a multiplication by one number into those columns of the matrix product before that it concerns: the scale of an
attention goes into the query's part of the projection."""

from __future__ import annotations

import numpy as np

from msedge.exporter.graph import Graph, Node
from msedge.exporter.movement import moves, origins, sources
from msedge.exporter.passes.channels import channels, output_weight, rescale


def fold_query_scale(graph: Graph) -> bool:
    changed = False
    for node in [n for n in graph.nodes if n.op == "Mul"]:
        factor = next((graph.scalar(i) for i in node.inputs if i in graph.constants), None)
        data = next((i for i in node.inputs if i not in graph.constants), None)
        if factor is None or data is None or graph.uses()[data] != 1:
            continue
        producers = graph.producers()
        for source, between in sources(graph, data, producers):
            gemm = producers.get(source)
            if gemm is not None and gemm.op == "Gemm" and output_weight(graph, gemm):
                columns = _columns(graph, source, data, between)
                if not columns & _other_columns(graph, source, data, producers):
                    _scale(graph, gemm, columns, factor)
                    graph.replace(node.output, data)
                    graph.remove([node])
                    changed = True
                break
    return changed


def _columns(graph: Graph, source: str, sink: str, between: list[Node]) -> set[int]:
    return set(np.unique(origins(graph, source, sink, between) % graph.shape(source)[-1]).tolist())


def _other_columns(graph: Graph, source: str, sink: str, producers: dict[str, Node]) -> set[int]:
    """Columns of `source` that anything but `sink` is made of, all of them where that is not known."""
    consumers, found, todo, seen = graph.consumers(), set(), [source], set()
    everything = set(range(graph.shape(source)[-1]))
    while todo:
        tensor = todo.pop()
        if tensor in graph.outputs:
            return everything
        if tensor == sink or tensor in seen:
            continue
        seen.add(tensor)
        for reader in consumers.get(tensor, []):
            if moves(graph, reader):
                todo += reader.outputs
                continue
            chain = next((b for s, b in sources(graph, tensor, producers) if s == source), None)
            if tensor == source or chain is None:
                return everything
            found |= _columns(graph, source, tensor, chain)
    return found


def _scale(graph: Graph, gemm: Node, columns: set[int], factor: float) -> None:
    scale = np.ones(channels(graph, gemm))
    scale[sorted(columns)] = factor
    had_bias = len(gemm.inputs) > 2
    rescale(graph, gemm, scale, np.float64(0))
    if not had_bias:
        del gemm.inputs[2:]
