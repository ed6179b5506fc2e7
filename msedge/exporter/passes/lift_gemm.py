"""Reshape to rows, Gemm, Reshape back becomes a MatMul (and an Add) on the tensor as it is.

MindSpore's Dense flattens the leading axes around its matrix product; runtimes do that by themselves without copies.
"""

from __future__ import annotations

import numpy as np

from msedge.exporter.graph import Graph, Node


def lift_gemm(graph: Graph) -> bool:
    changed = False
    producers, consumers, uses = graph.producers(), graph.consumers(), graph.uses()
    for gemm in [n for n in graph.nodes if n.op == "Gemm"]:
        before = producers.get(gemm.inputs[0])
        readers = consumers.get(gemm.output, [])
        if before is None or before.op != "Reshape" or uses[gemm.output] != 1 or not readers:
            continue
        after = readers[0]
        if after.op == "Reshape" and _rows_only(graph, before, gemm, after):
            _lift(graph, before, gemm, after)
            changed = True
            producers, consumers, uses = graph.producers(), graph.consumers(), graph.uses()
    return changed


def _rows_only(graph: Graph, before: Node, gemm: Node, after: Node) -> bool:
    """Whether the reshapes do nothing but flatten and restore the leading axes."""
    outer, inner = graph.shape(before.inputs[0]), graph.shape(after.output)
    plain = not gemm.attrs.get("transA", 0) and gemm.inputs[1] in graph.constants
    same_rows = outer[:-1] == inner[:-1] and outer[-1] == graph.shape(gemm.inputs[0])[1]
    return plain and len(outer) > 2 and same_rows and inner[-1] == graph.shape(gemm.output)[1]


def _lift(graph: Graph, before: Node, gemm: Node, after: Node) -> None:
    weight = gemm.inputs[1]
    if gemm.attrs.get("transB", 0):
        flipped = np.ascontiguousarray(graph.constants[weight].T)
        weight = graph.add_constant(flipped, f"{gemm.name}.weight", graph.origin.get(weight))
    kind = [graph.types[after.output]]
    new = [graph.new_node("MatMul", gemm.layer, [before.inputs[0], weight], kind)]
    if len(gemm.inputs) > 2:
        new.append(graph.new_node("Add", gemm.layer, [new[0].output, gemm.inputs[2]], kind))
    graph.insert(gemm, new)
    graph.remove([after])
    graph.replace(after.output, new[-1].output)
