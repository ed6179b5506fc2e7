"""Reading `.ms` files: what a MindSpore Lite model consists of, without running it.

The layout is data (`ms_schema.json`: the published schema of Lite 2.7, which reads files of 2.0.0 too); `flat.py` decodes
it. A damaged file gives ArtifactError, whatever is wrong with it.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from msedge.errors import ArtifactError
from msedge.lite.flat import DamagedBuffer, Schema, Tree, decode

SCHEMA_FILE = Path(__file__).with_name("ms_schema.json")
_NOT_PARAMETERS = {"int32", "int64", "uint32", "uint64", "bool", "string", "unknown"}


@dataclass(frozen=True)
class QuantParam:
    """real = scale * (stored - zero_point); one for a whole tensor or one per output channel."""

    scale: float
    zero_point: int
    bits: int


@dataclass(frozen=True)
class MsTensor:
    """A tensor; a constant where `data` (a uint8 view of the file) is there. `compression` is NONE for plain values."""

    name: str
    dims: tuple[int, ...]
    dtype: str
    format: str
    data: np.ndarray | None
    quant: tuple[QuantParam, ...]
    compression: str

    @property
    def nbytes(self) -> int:
        """Bytes stored in the file (0 unless constant)."""
        return 0 if self.data is None else self.data.size

    def array(self) -> np.ndarray:
        """The constant's stored values with its own dtype and shape; quantised ones as integers.

        Raises ArtifactError where the tensor is no constant, is compressed, or holds another number of bytes than its
        shape needs.
        """
        if self.data is None or self.compression != "NONE":
            raise ArtifactError(f"tensor {self.name!r} holds no plain values")
        try:
            return self.data.view(self.dtype).reshape(self.dims)
        except (TypeError, ValueError):
            raise ArtifactError(f"tensor {self.name!r} of {self.dtype} {list(self.dims)} holds {self.nbytes} bytes") from None


@dataclass(frozen=True)
class MsNode:
    """A node: its operator with attributes (enums by name), and indices into `MsModel.tensors`."""

    name: str
    op: str
    attributes: dict[str, Any]
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    quant_type: str


@dataclass(frozen=True)
class MsModel:
    """A whole model; `inputs` and `outputs` are indices into `tensors`, `version` is the producer's own text."""

    version: str
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    nodes: tuple[MsNode, ...]
    tensors: tuple[MsTensor, ...]


def ms_schema() -> Schema:
    """The schema of `.ms` files."""
    return Schema.load(SCHEMA_FILE)


def read_ms(source: Path | str | bytes) -> MsModel:
    """Read a `.ms` file, or its bytes. Raises ArtifactError where it is missing, unreadable or damaged."""
    if isinstance(source, bytes):
        return _parse(source, "the .ms model")
    try:
        data = Path(source).read_bytes()
    except FileNotFoundError:
        raise ArtifactError(f"the model is missing: {source}") from None
    except OSError as e:
        raise ArtifactError(f"the model cannot be read: {source}: {e.strerror}") from e
    return _parse(data, str(source))


def _parse(data: bytes, where: str) -> MsModel:
    schema = ms_schema()
    try:
        return _model(schema, decode(schema, data))
    except DamagedBuffer as e:
        raise ArtifactError(f"{where} is damaged or no .ms file: {e}", "convert the model again") from None


def _model(schema: Schema, graph: Tree) -> MsModel:
    tensors = tuple(_tensor(schema, t) for t in graph["allTensors"] or ())
    nodes = tuple(_node(schema, n, len(tensors)) for n in graph["nodes"] or ())
    inputs, outputs = _indices(graph["inputIndex"], len(tensors)), _indices(graph["outputIndex"], len(tensors))
    return MsModel(graph["version"] or "", inputs, outputs, nodes, tensors)


def _indices(values: np.ndarray | None, count: int) -> tuple[int, ...]:
    if values is None:
        return ()
    if values.size and int(values.max()) >= count:
        raise DamagedBuffer(f"tensor {int(values.max())} is used, but there are only {count}")
    return tuple(values.tolist())


def _tensor(schema: Schema, tensor: Tree) -> MsTensor:
    quant = tuple(QuantParam(q["scale"], q["zeroPoint"], q["numBits"]) for q in tensor["quantParams"] or ())
    data = tensor["data"]
    return MsTensor(
        tensor["name"] or "",
        tuple(tensor["dims"].tolist()) if tensor["dims"] is not None else (),
        schema.data_types.get(tensor["dataType"], f"type{tensor['dataType']}"),
        schema.enum_name("Format", tensor["format"]),
        data if data is not None and data.size else None,
        quant,
        schema.enum_name("WeightQuantCompressType", tensor["weightQuantCompressType"]),
    )


def _node(schema: Schema, node: Tree, tensors: int) -> MsNode:
    op, values = (node["primitive"] or {}).get("value") or ("NONE", {})
    attributes = {field.name: _attribute(schema, field.enum, values[field.name]) for field in schema.tables.get(op, ())}
    quant_type = schema.enum_name("QuantType", node["quantType"])
    inputs, outputs = _indices(node["inputIndex"], tensors), _indices(node["outputIndex"], tensors)
    return MsNode(node["name"] or "", op, attributes, inputs, outputs, quant_type)


def _attribute(schema: Schema, enum: str, value: Any) -> Any:
    if enum:
        return schema.enum_name(enum, value)
    return tuple(value.tolist()) if isinstance(value, np.ndarray) else value


def summary(model: MsModel) -> dict[str, Any]:
    """What `msedge inspect` tells of a `.ms`: format, producer, inputs, outputs, nodes, op_counts, params,
    bytes_by_dtype, quantised_nodes.

    `params` counts the stored values of constants, without the integers that only steer shapes.
    """
    constants = [t for t in model.tensors if t.data is not None]
    by_dtype: Counter[str] = Counter()
    for tensor in constants:
        by_dtype[tensor.dtype] += tensor.nbytes
    counts = Counter(node.op for node in model.nodes)
    return {
        "format": "ms",
        "producer": model.version,
        "inputs": [_describe(model.tensors[i]) for i in model.inputs],
        "outputs": [_describe(model.tensors[i]) for i in model.outputs],
        "nodes": len(model.nodes),
        "op_counts": dict(sorted(counts.items(), key=lambda item: (-item[1], item[0]))),
        "params": sum(_count(t) for t in constants if t.dtype not in _NOT_PARAMETERS or t.quant),
        "bytes_by_dtype": dict(sorted(by_dtype.items())),
        "quantised_nodes": sum(node.quant_type != "QUANT_NONE" for node in model.nodes),
    }


def _describe(tensor: MsTensor) -> dict[str, Any]:
    return {"name": tensor.name, "shape": list(tensor.dims), "dtype": tensor.dtype}


def _count(tensor: MsTensor) -> int:
    """Values in a constant; a compressed one is counted by its shape."""
    if tensor.compression == "NONE" and tensor.dtype not in ("unknown", "string") and not tensor.dtype.startswith("type"):
        return tensor.nbytes // np.dtype(tensor.dtype).itemsize
    count = 1
    for d in tensor.dims:
        count *= max(d, 0)
    return count
