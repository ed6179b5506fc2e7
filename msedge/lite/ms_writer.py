"""Changing `.ms` files: a model as lists of nodes and tensors that may be edited, and back into bytes."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from msedge.errors import ArtifactError
from msedge.lite.flat import DamagedBuffer, Tree, decode
from msedge.lite.flat_encode import encode
from msedge.lite.ms_file import ms_schema

_CONSTANT, _COMPUTED = 0, 2  # Tensor.nodeType
QUANT_NONE, QUANT_ALL = 0, 5  # CNode.quantType


class MsEditor:
    """A `.ms` opened for changes: `nodes` in the order of execution and `tensors`, both as the tables of the format
    (dicts, see `ms_schema.json`); `inputs` and `outputs` are indices of the model's own tensors.

    Raises ArtifactError for bytes that are no `.ms` or hold more than one graph (control flow).
    """

    def __init__(self, ms: bytes):
        self._schema = ms_schema()
        try:
            self._tree = decode(self._schema, ms)
        except DamagedBuffer as e:
            raise ArtifactError(f"the .ms model is damaged or no .ms file: {e}", "convert the model again") from None
        self.nodes: list[Tree] = self._tree["nodes"] or []
        self.tensors: list[Tree] = self._tree["allTensors"] or []
        self.inputs, self.outputs = _indices(self._tree["inputIndex"]), _indices(self._tree["outputIndex"])
        self._codes = {name: code for code, name in self._schema.data_types.items()}
        self._check()

    def _check(self) -> None:
        if len(self._tree["subGraph"] or ()) != 1:
            raise ArtifactError("the .ms model has control flow (several graphs)", "such models can be run, not rewritten")
        used = [*self.inputs, *self.outputs, *(i for n in self.nodes for i in (*inputs(n), *outputs(n)))]
        if any(i >= len(self.tensors) for i in used) or not all(n["primitive"] and n["primitive"]["value"] for n in self.nodes):
            raise ArtifactError("the .ms model is damaged: its nodes and tensors do not fit", "convert the model again")

    def find(self, name: str) -> Tree | None:
        """The node of this name."""
        return next((n for n in self.nodes if n["name"] == name), None)

    def dtype(self, tensor: int) -> str:
        return self._schema.data_types.get(self.tensors[tensor]["dataType"], "unknown")

    def is_constant(self, tensor: int) -> bool:
        data = self.tensors[tensor]["data"]
        return data is not None and data.size > 0

    def constant(self, tensor: int) -> np.ndarray:
        """A constant's values. Raises ArtifactError where it holds none, or not as plain numbers."""
        t = self.tensors[tensor]
        try:
            if t["weightQuantCompressType"]:
                raise ValueError
            return t["data"].view(self.dtype(tensor)).reshape(t["dims"] if t["dims"] is not None else ())
        except (AttributeError, TypeError, ValueError):
            raise ArtifactError(f"the tensor {t['name']!r} of the .ms holds no plain values") from None

    def add_tensor(self, name: str, dtype: str, dims: Sequence[int], quant: Sequence[Tree] = (), format: int = 1) -> int:
        """A new computed tensor (`format` 1 is NHWC); returns its index."""
        tensor = {"nodeType": _COMPUTED, "dataType": self._codes[dtype], "dims": np.array(dims, np.int32), "name": name}
        self.tensors.append(_whole(self._schema, "Tensor", tensor | {"format": format, "quantParams": list(quant) or None}))
        return len(self.tensors) - 1

    def add_constant(self, name: str, values: np.ndarray, quant: Sequence[Tree] = ()) -> int:
        """A new constant; returns its index."""
        index = self.add_tensor(name, values.dtype.name, values.shape, quant)
        self.tensors[index]["nodeType"] = _CONSTANT
        self.set_constant(index, values)
        return index

    def set_constant(self, tensor: int, values: np.ndarray) -> None:
        """Give a constant other values; their shape and type become its own."""
        data = np.frombuffer(np.ascontiguousarray(values).tobytes(), np.uint8)
        dims = np.array(values.shape, np.int32)
        self.tensors[tensor] |= {"dataType": self._codes[values.dtype.name], "dims": dims, "data": data}

    def to_bytes(self) -> bytes:
        """The file. Tensors that nothing uses any more are left out."""
        used = {*self.inputs, *self.outputs, *(i for n in self.nodes for i in (*inputs(n), *outputs(n)))}
        order = sorted(used)
        place = {old: new for new, old in enumerate(order)}

        def moved(indices: Iterable[int]) -> np.ndarray:
            return np.array([place[int(i)] for i in indices], np.uint32)

        nodes = [n | {"inputIndex": moved(inputs(n)), "outputIndex": moved(outputs(n))} for n in self.nodes]
        ends = {"inputIndex": moved(self.inputs), "outputIndex": moved(self.outputs)}
        graph = self._tree["subGraph"][0] | {
            "inputIndices": ends["inputIndex"],
            "outputIndices": ends["outputIndex"],
            "nodeIndices": np.arange(len(nodes), dtype=np.uint32),
            "tensorIndices": np.arange(len(order), dtype=np.uint32),
        }
        parts = {"nodes": nodes, "allTensors": [self.tensors[i] for i in order], "subGraph": [graph]}
        return encode(self._schema, self._tree | ends | parts)


def new_node(op: str, name: str, inputs: Sequence[int], outputs: Sequence[int], **attributes: Any) -> Tree:
    """A node of operator `op` (a table of the schema's PrimitiveType) that computes in float."""
    schema = ms_schema()
    primitive = {"value": (op, _whole(schema, op, attributes))}
    ends = {"inputIndex": np.array(inputs, np.uint32), "outputIndex": np.array(outputs, np.uint32)}
    return _whole(schema, "CNode", {"name": name, "primitive": primitive, **ends})


def quant_param(scale: float, zero_point: int = 0) -> Tree:
    """real = scale * (stored - zero_point), 8 bits; all that the runtime reads (docs/lite.md)."""
    return {"scale": float(scale), "zeroPoint": int(zero_point)}


def op(node: Tree) -> str:
    return node["primitive"]["value"][0]


def attributes(node: Tree) -> Tree:
    return node["primitive"]["value"][1]


def inputs(node: Tree) -> tuple[int, ...]:
    return _indices(node["inputIndex"])


def outputs(node: Tree) -> tuple[int, ...]:
    return _indices(node["outputIndex"])


def _indices(values: np.ndarray | None) -> tuple[int, ...]:
    return () if values is None else tuple(int(v) for v in values)


def _whole(schema, table: str, given: Tree) -> Tree:
    """A table with every field, those not given at their defaults."""
    fields = {f.name: f.default for f in schema.tables[table]}
    if unknown := given.keys() - fields.keys():
        raise ValueError(f"a {table} has no field {min(unknown)!r}")
    return fields | given
