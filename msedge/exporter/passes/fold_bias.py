"""Take an addition of one number per channel into the Conv or Gemm before it."""

from __future__ import annotations

import numpy as np

from msedge.exporter.graph import Graph, Node
from msedge.exporter.passes.channels import channels, output_weight, rescale


def per_channel(graph: Graph, node: Node, source: Node) -> str | None:
    """The constant operand of a two-sided `node` that has one value per output channel of `source`, else None."""
    other = next((i for i in node.inputs if i != source.output), None)
    if other not in graph.constants or node.inputs.count(source.output) != 1:
        return None
    rank, shape = len(graph.shape(source.output)), graph.constants[other].shape
    axis = 1 if source.op == "Conv" else rank - 1
    aligned = (1,) * (rank - len(shape)) + shape
    wanted = tuple(channels(graph, source) if a == axis else 1 for a in range(rank))
    return other if len(shape) <= rank and aligned == wanted else None


def fold_bias(graph: Graph) -> bool:
    producers = graph.producers()
    changed = False
    for node in [n for n in graph.nodes if n.op == "Add"]:
        for source in (producers.get(i) for i in node.inputs):
            if source is None or not output_weight(graph, source) or graph.uses()[source.output] != 1:
                continue
            bias = per_channel(graph, node, source)
            if bias is None:
                continue
            values = graph.constants[bias].reshape(-1)
            if len(source.inputs) > 2:
                rescale(graph, source, None, values.astype(np.float64))
            else:
                name = graph.add_constant(values, f"{source.name}.bias", graph.origin.get(bias))
                source.inputs.append(name)
            graph.replace(node.output, source.output)
            graph.remove([node])
            changed = True
            break
    return changed
