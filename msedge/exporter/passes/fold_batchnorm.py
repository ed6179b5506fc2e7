"""Take BatchNormalization into the convolution or matrix product before it.

With s = scale / sqrt(variance + epsilon): weights * s and (bias - mean) * s + shift (Jacob et al. 2018, arXiv:1712.05877,
section 3.2), computed in float64. What stays without such a partner remains a BatchNormalization, or becomes Mul and Add
where the input has rank 2.
"""

from __future__ import annotations

import numpy as np

from msedge.exporter.graph import Graph, Node
from msedge.exporter.passes.channels import output_weight, rescale


def fold_batchnorm(graph: Graph) -> bool:
    producers = graph.producers()
    changed = False
    for node in [n for n in graph.nodes if n.op == "BatchNormalization"]:
        if _moved_before_reshape(graph, node, producers):
            changed = True
            continue
        source = producers.get(node.inputs[0])
        if any(i not in graph.constants for i in node.inputs[1:]):
            continue
        scale, shift = _affine(graph, node)
        if source is not None and graph.uses()[source.output] == 1 and output_weight(graph, source):
            rescale(graph, source, scale, shift)
            graph.replace(node.output, source.output)
            graph.remove([node])
        elif len(graph.shape(node.inputs[0])) == 2:
            _as_arithmetic(graph, node, scale, shift)
        else:
            continue
        changed = True
    return changed


def _moved_before_reshape(graph: Graph, node: Node, producers: dict[str, Node]) -> bool:
    """Exchange the node with a Reshape before it that only adds axes of length one after the channels."""
    reshape = producers.get(node.inputs[0])
    if reshape is None or reshape.op != "Reshape" or graph.uses()[reshape.output] != 1:
        return False
    data = reshape.inputs[0]
    inner, outer = graph.shape(data), graph.shape(reshape.output)
    if len(inner) < 2 or inner[:2] != outer[:2] or {*inner[2:], *outer[2:]} - {1}:
        return False
    moved = graph.new_node(node.op, node.layer, [data, *node.inputs[1:]], [graph.types[data]], **node.attrs)
    after = graph.new_node("Reshape", node.layer, [moved.output, reshape.inputs[1]], [graph.types[node.output]])
    graph.insert(node, [moved, after])
    graph.replace(node.output, after.output)
    graph.remove([reshape])
    return True


def _affine(graph: Graph, node: Node) -> tuple[np.ndarray, np.ndarray]:
    weight, bias, mean, variance = (graph.constants[i].astype(np.float64) for i in node.inputs[1:5])
    scale = weight / np.sqrt(variance + node.attrs["epsilon"])
    return scale, bias - mean * scale


def _as_arithmetic(graph: Graph, node: Node, scale: np.ndarray, shift: np.ndarray) -> None:
    dtype = graph.types[node.output][1]
    factor = graph.add_constant(scale.astype(dtype), f"{node.layer}/scale", graph.origin.get(node.inputs[1]))
    offset = graph.add_constant(shift.astype(dtype), f"{node.layer}/shift", graph.origin.get(node.inputs[2]))
    kind = [graph.types[node.output]]
    mul = graph.new_node("Mul", node.layer, [node.inputs[0], factor], kind)
    add = graph.new_node("Add", node.layer, [mul.output, offset], kind)
    graph.insert(node, [mul, add])
    graph.replace(node.output, add.output)
