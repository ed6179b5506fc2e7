"""Take a factor and a shift for each channel into the convolution that reads them: what is left of a norm before it.

With zero padding around the map a shift would not reach the border, so it is taken only where there is none. A single
number stays where it is: it may be the last part of an activation.
"""

from __future__ import annotations

import numpy as np

from msedge.exporter.graph import Graph, Node
from msedge.exporter.passes.channels import output_weight, rescale


def fold_affine(graph: Graph) -> bool:
    changed = False
    for conv in [n for n in graph.nodes if n.op == "Conv" and n.attrs.get("group", 1) == 1]:
        before = graph.producers().get(conv.inputs[0])
        if before is None or before.op not in ("Mul", "Add") or graph.uses()[before.output] != 1:
            continue
        values = _per_channel(graph, before)
        if values is None or not output_weight(graph, conv) or (before.op == "Add" and any(conv.attrs["pads"])):
            continue
        constant, values = values
        if before.op == "Mul":
            _scale_inputs(graph, conv, values)
        else:
            weight = graph.constants[conv.inputs[1]].astype(np.float64)
            rescale(graph, conv, None, weight.reshape(*weight.shape[:2], -1).sum(-1) @ values)
        conv.inputs[0] = next(i for i in before.inputs if i != constant)
        graph.remove([before])
        changed = True
    return changed


def _per_channel(graph: Graph, node: Node) -> tuple[str, np.ndarray] | None:
    """The constant operand of a Mul or Add on a map, with its value for each channel."""
    shape = graph.shape(node.output)
    for name in node.inputs:
        value = graph.constants.get(name)
        if value is not None and value.size > 1 and value.ndim <= len(shape) and node.inputs[0] != node.inputs[1]:
            aligned = value.reshape((1,) * (len(shape) - value.ndim) + value.shape)
            if all(n == 1 or axis == 1 for axis, n in enumerate(aligned.shape)):
                return name, np.broadcast_to(aligned.reshape(-1), shape[1]).astype(np.float64)
    return None


def _scale_inputs(graph: Graph, conv: Node, factors: np.ndarray) -> None:
    weight = graph.constants[conv.inputs[1]]
    scaled = (weight * factors.reshape(1, -1, *[1] * (weight.ndim - 2))).astype(weight.dtype)
    conv.inputs[1] = graph.add_constant(scaled, f"{conv.name}.weight", graph.origin.get(conv.inputs[1]))
