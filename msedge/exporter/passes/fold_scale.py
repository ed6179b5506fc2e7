"""Take a multiplication by one number per channel (LayerScale) into the Conv or Gemm before it."""

from __future__ import annotations

import numpy as np

from msedge.exporter.graph import Graph
from msedge.exporter.passes.channels import output_weight, rescale
from msedge.exporter.passes.fold_bias import per_channel


def fold_scale(graph: Graph) -> bool:
    producers = graph.producers()
    changed = False
    for node in [n for n in graph.nodes if n.op == "Mul"]:
        for source in (producers.get(i) for i in node.inputs):
            if source is None or not output_weight(graph, source) or graph.uses()[source.output] != 1:
                continue
            factor = per_channel(graph, node, source)
            if factor is None:
                continue
            had_bias = len(source.inputs) > 2
            rescale(graph, source, graph.constants[factor].reshape(-1).astype(np.float64), np.float64(0))
            if not had_bias:
                del source.inputs[2:]
            graph.replace(node.output, source.output)
            graph.remove([node])
            changed = True
            break
    return changed
