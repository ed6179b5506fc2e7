"""Between `Graph` and ONNX's protobuf."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper

from msedge.artifact import tool_versions
from msedge.errors import ExportError
from msedge.exporter.graph import Graph, Node

OPSET = 13
IR_VERSION = 7  # the one of opset 13: older runtimes and the Lite 2.0.0 converter take it
_LARGE = 1024  # elements; shape inference never needs the values of larger constants


def node_proto(node: Node) -> onnx.NodeProto:
    return helper.make_node(node.op, node.inputs, node.outputs, name=node.name, **node.attrs)


def _value_info(graph: Graph, tensor: str) -> onnx.ValueInfoProto:
    shape, dtype = graph.types[tensor]
    return helper.make_tensor_value_info(tensor, helper.np_dtype_to_tensor_dtype(dtype), shape)


def infer_types(graph: Graph) -> None:
    """Fill `graph.types` for every tensor. Raises ExportError where ONNX finds shapes that do not fit together."""
    small = {n: c for n, c in graph.constants.items() if c.size <= _LARGE}
    large = [n for n in graph.constants if n not in small]
    proto = helper.make_graph(
        [node_proto(n) for n in graph.nodes],
        "types",
        [_value_info(graph, i) for i in (*graph.inputs, *large)],
        [helper.make_empty_tensor_value_info(o) for n in graph.nodes for o in n.outputs],
        [numpy_helper.from_array(c, n) for n, c in small.items()],
    )
    inferred = _inferred(helper.make_model(proto, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION))
    for info in inferred.graph.output:
        t = info.type.tensor_type
        shape = tuple(d.dim_value if d.HasField("dim_value") else -1 for d in t.shape.dim)
        if t.elem_type and -1 not in shape:
            graph.types[info.name] = (shape, helper.tensor_dtype_to_np_dtype(t.elem_type))
    if unknown := [o for n in graph.nodes for o in n.outputs if o not in graph.types]:
        raise ExportError(f"the shape of {unknown[0]} is not known before the model runs", "only static shapes are exported")


def _inferred(model: onnx.ModelProto) -> onnx.ModelProto:
    try:
        return onnx.shape_inference.infer_shapes(model, check_type=True, strict_mode=True, data_prop=True)
    except onnx.shape_inference.InferenceError as e:
        raise ExportError(
            f"the emitted graph does not fit together: {e}", "this is an error of msedge: report the model"
        ) from e


def to_model(graph: Graph, name: str, metadata: dict[str, str] | None = None) -> onnx.ModelProto:
    """The whole graph as a ModelProto with the types of all tensors."""
    used = {i for n in graph.nodes for i in n.inputs}
    inner = [o for n in graph.nodes for o in n.outputs if o not in graph.outputs and o in used]
    proto = helper.make_graph(
        [node_proto(n) for n in graph.nodes],
        name,
        [_value_info(graph, i) for i in graph.inputs],
        [_value_info(graph, o) for o in graph.outputs],
        [numpy_helper.from_array(c, n) for n, c in graph.constants.items()],
        value_info=[_value_info(graph, t) for t in inner],
    )
    model = helper.make_model(
        proto,
        opset_imports=[helper.make_opsetid("", OPSET)],
        ir_version=IR_VERSION,
        producer_name="msedge",
        producer_version=tool_versions().get("msedge", ""),
    )
    helper.set_model_props(model, metadata or {})
    return model


def evaluate(node: Node, values: list[np.ndarray | None]) -> list[np.ndarray]:
    """What a node gives for constant inputs, computed by NumPy through ONNX's reference implementation."""
    from onnx.reference import ReferenceEvaluator

    names = [f"i{k}" if v is not None else "" for k, v in enumerate(values)]
    inner = helper.make_node(node.op, names, [f"o{k}" for k in range(len(node.outputs))], **node.attrs)
    feeds: dict[str, Any] = {n: v for n, v in zip(names, values, strict=True) if n}
    proto = helper.make_graph(
        [inner],
        "node",
        [helper.make_tensor_value_info(n, helper.np_dtype_to_tensor_dtype(v.dtype), v.shape) for n, v in feeds.items()],
        [helper.make_empty_tensor_value_info(o) for o in inner.output],
    )
    model = helper.make_model(proto, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION)
    with np.errstate(all="ignore"):
        results = ReferenceEvaluator(model).run(None, feeds)
    return [np.asarray(r) for r in results]
