"""The mean over all channels and pixels of a map becomes GlobalAveragePool and a 1x1 convolution with equal weights.

Lite brings a map into another order before it flattens it or reduces it; those two read it as it lies, and what is added to
the mean (an epsilon) becomes the convolution's bias.
"""

from __future__ import annotations

import numpy as np

from msedge.exporter.graph import Graph, Node


def mean_of_images(graph: Graph) -> bool:
    changed = False
    producers, uses = graph.producers(), graph.uses()
    for node in [n for n in graph.nodes if n.op == "ReduceMean"]:
        flat = producers.get(node.inputs[0]) if uses[node.inputs[0]] == 1 else None
        source = _map(graph, node, flat)
        if source is not None:
            _rewrite(graph, node, source)
            changed = True
    return changed


def _map(graph: Graph, node: Node, flat: Node | None) -> str | None:
    """The tensor [N, C, H, W] of which `node` takes the mean over all but N, directly or through `flat`, else None."""
    shape = graph.shape(node.inputs[0])
    axes = sorted(a % len(shape) for a in node.attrs.get("axes", range(len(shape))))
    if axes != list(range(1, len(shape))):
        return None
    if len(shape) == 4:
        return node.inputs[0]
    if flat is None or flat.op != "Reshape" or len(shape) != 2:
        return None
    outer = graph.shape(flat.inputs[0])
    return flat.inputs[0] if len(outer) == 4 and outer[0] == shape[0] else None


def _rewrite(graph: Graph, node: Node, source: str) -> None:
    batch, channels = graph.shape(source)[:2]
    dtype = graph.types[source][1]
    weight = graph.add_constant(np.full((1, channels, 1, 1), 1 / channels, dtype), f"{node.layer}/share")
    pooled = graph.new_node("GlobalAveragePool", node.layer, [source], [((batch, channels, 1, 1), dtype)])
    mean = graph.new_node(
        "Conv",
        node.layer,
        [pooled.output, weight],
        [((batch, 1, 1, 1), dtype)],
        kernel_shape=[1, 1],
        strides=[1, 1],
        pads=[0, 0, 0, 0],
        dilations=[1, 1],
        group=1,
    )
    after = graph.new_reshape(node.layer, mean.output, graph.shape(node.output))
    graph.insert(node, [pooled, mean, after])
    graph.replace(node.output, after.output)
