"""The output channels of convolutions and matrix products: their weights, scaled and shifted."""

from __future__ import annotations

import numpy as np

from msedge.exporter.graph import Graph, Node


def channel_axis(graph: Graph, node: Node) -> int:
    """Which axis of a Conv's or Gemm's weights runs over the output channels."""
    return 0 if node.op == "Conv" or node.attrs.get("transB", 0) else 1


def output_weight(graph: Graph, node: Node) -> str | None:
    """The constant weights of a Conv or a plain Gemm with constant bias (or none), else None."""
    if node.op not in ("Conv", "Gemm") or node.inputs[1] not in graph.constants:
        return None
    if node.attrs.get("alpha", 1.0) != 1.0 or node.attrs.get("beta", 1.0) != 1.0:
        return None
    if len(node.inputs) > 2 and graph.constants.get(node.inputs[2], np.empty((0, 0))).ndim != 1:
        return None
    return node.inputs[1]


def channels(graph: Graph, node: Node) -> int:
    return graph.constants[node.inputs[1]].shape[channel_axis(graph, node)]


def rescale(graph: Graph, node: Node, scale: np.ndarray | None, shift: np.ndarray) -> None:
    """Let `node` give scale * y + shift per output channel. The weights keep the name of their parameter, a new bias is
    named after it."""
    weight = graph.constants[node.inputs[1]]
    axis = channel_axis(graph, node)
    bias = graph.constants[node.inputs[2]].astype(np.float64) if len(node.inputs) > 2 else 0.0
    origin = graph.origin.get(node.inputs[1])
    if scale is not None:
        shape = [1] * weight.ndim
        shape[axis] = -1
        scaled = (weight.astype(np.float64) * scale.reshape(shape)).astype(weight.dtype)
        node.inputs[1] = graph.add_constant(scaled, f"{node.name}.weight", origin)
        bias = bias * scale
    new_bias = np.broadcast_to(bias + shift, weight.shape[axis]).astype(weight.dtype)
    if len(node.inputs) > 2:
        source = graph.origin.get(node.inputs[2])
    else:
        source = f"{origin.rpartition('.')[0]}.bias".lstrip(".") if origin else None
    node.inputs[2:] = [graph.add_constant(new_bias, f"{node.name}.bias", source)]
