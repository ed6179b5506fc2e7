"""What is inside an ONNX file, read without running it."""

from __future__ import annotations

import math
from collections import Counter
from pathlib import Path
from typing import Any

import onnx
from onnx import ModelProto, NodeProto, TensorProto

from msedge.errors import ArtifactError

_WEIGHTS = {
    TensorProto.FLOAT,
    TensorProto.FLOAT16,
    TensorProto.BFLOAT16,
    TensorProto.DOUBLE,
    TensorProto.INT8,
    TensorProto.UINT8,
}
_QUANTISED_OPS = ("QLinear", "QuantizeLinear", "DequantizeLinear", "DynamicQuantizeLinear")
_INTEGER_OPS = ("ConvInteger", "MatMulInteger", "QGemm", "QAttention")


def load_graph(file: Path) -> ModelProto:
    """Parse the file without its external data. Raises ArtifactError where it is damaged or no ONNX."""
    try:
        model = onnx.load(str(file), load_external_data=False)
    except OSError as e:
        raise ArtifactError(f"{file} cannot be read: {e.strerror}") from None
    except Exception:  # protobuf's DecodeError is no public name of onnx
        raise ArtifactError(f"{file} is not an ONNX file, or damaged or cut off", "write it again") from None
    if not model.graph.node:
        raise ArtifactError(f"{file} is not an ONNX file: it has no graph", "write it again")
    return model


def summary(file: Path) -> dict[str, Any]:
    """The keys of `msedge inspect`: format, producer, inputs, outputs, nodes, op_counts, params, bytes_by_dtype,
    quantised_nodes, and here also opset, macs (None where a shape is open) and metadata."""
    model = load_graph(file)
    graph = model.graph
    weights = {i.name for i in graph.initializer}
    counts = Counter(node.op_type for node in graph.node)
    return {
        "format": "onnx",
        "producer": " ".join(p for p in (model.producer_name, model.producer_version) if p),
        "inputs": [_value(i) for i in graph.input if i.name not in weights],
        "outputs": [_value(o) for o in graph.output],
        "nodes": len(graph.node),
        "op_counts": dict(counts.most_common()),
        "params": count_params(model),
        "bytes_by_dtype": _bytes_by_dtype(model),
        "quantised_nodes": sum(n for op, n in counts.items() if op.startswith(_QUANTISED_OPS) or op in _INTEGER_OPS),
        "opset": {o.domain or "ai.onnx": o.version for o in model.opset_import},
        "macs": count_macs(model),
        "metadata": {p.key: p.value for p in model.metadata_props},
    }


def count_params(model: ModelProto) -> int:
    """Elements of the constant tensors that carry weights: floating point or 8 bits, and more than a single number."""
    return sum(n for tensor in _constants(model) if (n := math.prod(tensor.dims)) > 1 and tensor.data_type in _WEIGHTS)


def count_macs(model: ModelProto) -> int | None:
    """Multiply-accumulates of all convolutions and matrix products for the declared input shape (open batch: 1).

    None where shape inference leaves a dimension open.
    """
    fixed = ModelProto()
    fixed.CopyFrom(model)
    weights = {i.name for i in fixed.graph.initializer}
    for value in fixed.graph.input:
        dims = value.type.tensor_type.shape.dim
        if value.name not in weights and dims and not dims[0].dim_value:
            dims[0].ClearField("dim_param")
            dims[0].dim_value = 1
    try:
        inferred = onnx.shape_inference.infer_shapes(fixed, data_prop=True)
    except Exception:  # onnx raises a bare C++ exception class; the count is a courtesy and not worth failing for
        return None
    shapes = {v.name: _dims(v) for v in (*inferred.graph.value_info, *inferred.graph.input, *inferred.graph.output)}
    shapes |= {i.name: tuple(i.dims) for i in inferred.graph.initializer}
    counted = [node_macs(node, shapes) for node in inferred.graph.node]
    return None if any(n is None for n in counted) else sum(counted)


def node_macs(node: NodeProto, shapes: dict[str, tuple[int, ...]]) -> int | None:
    """0 for nodes that multiply no matrices, None where a shape is not known."""
    op = node.op_type
    if op not in ("Conv", "ConvTranspose", "Gemm", "MatMul", "QLinearConv", "QLinearMatMul"):
        return 0
    first, second = (node.input[0], node.input[3]) if op.startswith("QLinear") else (node.input[0], node.input[1])
    a, b, out = (shapes.get(name, (0,)) for name in (first, second, node.output[0]))
    if not all((*a, *b, *out)):
        return None
    if op in ("Conv", "QLinearConv"):
        return math.prod(out) * math.prod(b[1:])  # weights are [out, in / groups, kernel...]
    if op == "ConvTranspose":
        return math.prod(a) * math.prod(b[1:])  # weights are [in, out / groups, kernel...]
    transposed = op == "Gemm" and any(x.name == "transA" and x.i for x in node.attribute)
    return math.prod(out) * (a[0] if transposed else a[-1])


def _constants(model: ModelProto) -> list[TensorProto]:
    inside = [a.t for node in model.graph.node if node.op_type == "Constant" for a in node.attribute if a.name == "value"]
    return [*model.graph.initializer, *inside]


def _bytes_by_dtype(model: ModelProto) -> dict[str, int]:
    sizes: Counter[str] = Counter()
    for tensor in _constants(model):
        dtype = onnx.helper.tensor_dtype_to_np_dtype(tensor.data_type)
        sizes[str(dtype)] += math.prod(tensor.dims) * dtype.itemsize
    return dict(sizes.most_common())


def _value(value: onnx.ValueInfoProto) -> dict[str, Any]:
    tensor = value.type.tensor_type
    dims = [d.dim_value if d.HasField("dim_value") else d.dim_param or None for d in tensor.shape.dim]
    dtype = str(onnx.helper.tensor_dtype_to_np_dtype(tensor.elem_type)) if tensor.elem_type else "unknown"
    return {"name": value.name, "shape": dims, "dtype": dtype}


def _dims(value: onnx.ValueInfoProto) -> tuple[int, ...]:
    """0 for an open dimension; (0,) where the rank is not known."""
    tensor = value.type.tensor_type
    if not tensor.HasField("shape"):
        return (0,)
    return tuple(d.dim_value for d in tensor.shape.dim)
