"""MindIR's encodings of attributes, constants, tensors and scopes as Python values."""

from __future__ import annotations

from typing import Any

import numpy as np

from msedge.errors import ArtifactError, ExportError
from msedge.mindspore_setup import load_mindspore

load_mindspore()
from mindspore.train import mind_ir_pb2 as pb  # noqa: E402

_A = pb.AttributeProto
_T = pb.TensorProto

DTYPES = {
    _T.FLOAT: np.dtype(np.float32),
    _T.FLOAT16: np.dtype(np.float16),
    _T.DOUBLE: np.dtype(np.float64),
    _T.FLOAT64: np.dtype(np.float64),
    _T.INT8: np.dtype(np.int8),
    _T.INT16: np.dtype(np.int16),
    _T.INT32: np.dtype(np.int32),
    _T.INT64: np.dtype(np.int64),
    _T.UINT8: np.dtype(np.uint8),
    _T.UINT16: np.dtype(np.uint16),
    _T.UINT32: np.dtype(np.uint32),
    _T.UINT64: np.dtype(np.uint64),
    _T.BOOL: np.dtype(np.bool_),
}
_INTEGERS = {_A.UINT8, _A.INT8, _A.UINT16, _A.INT16, _A.INT32, _A.INT64, _A.UINT32, _A.UINT64}
# Type ids of MindSpore's own enumeration, as Cast's second argument and `dtype` arguments carry them.
TYPE_IDS = {
    30: np.dtype(np.bool_),
    32: np.dtype(np.int8),
    33: np.dtype(np.int16),
    34: np.dtype(np.int32),
    35: np.dtype(np.int64),
    37: np.dtype(np.uint8),
    42: np.dtype(np.float16),
    43: np.dtype(np.float32),
    44: np.dtype(np.float64),
}


class Unknown:
    """A constant of a kind that no rule reads (a monad, a function, a type)."""

    def __init__(self, kind: str):
        self.kind = kind

    def __repr__(self) -> str:
        return self.kind


def element_type(code: int) -> np.dtype:
    if code not in DTYPES:
        name = _T.DataType.Name(code) if code in _T.DataType.values() else str(code)
        raise ExportError(f"a tensor has the element type {name}, which ONNX export does not know", "cast it to float32")
    return DTYPES[code]


def array(tensor: Any) -> np.ndarray:
    """A TensorProto's values. Raises ArtifactError where they are missing or cut off."""
    dtype, shape = element_type(tensor.data_type), tuple(tensor.dims)
    if tensor.HasField("external_data"):
        raise ExportError(
            f"the parameter {tensor.name} lies in a file of its own", "models over 1 GB cannot be exported: use a smaller one"
        )
    expected = int(np.prod(shape, dtype=np.int64)) * dtype.itemsize
    if len(tensor.raw_data) != expected:
        raise ArtifactError(
            f"the MindIR is damaged: {tensor.name or 'a constant'} has {len(tensor.raw_data)} bytes, {expected} are needed"
        )
    return np.frombuffer(tensor.raw_data, dtype).reshape(shape)


def attribute(a: Any) -> Any:
    """An attribute's value: int, float, bool, str, None, array, or a tuple of such."""
    kind = a.type
    if kind in (_A.TUPLE, _A.LIST):
        return tuple(attribute(v) for v in a.values)
    if kind in _INTEGERS:
        return _one_or_tuple([int(v) for v in a.ints], int(a.i))
    if kind == _A.BOOL:
        return _one_or_tuple([bool(v) for v in a.ints], bool(a.i))
    if kind == _A.FLOAT:
        return _one_or_tuple([float(v) for v in a.floats], float(a.f))
    if kind == _A.DOUBLE:
        return _one_or_tuple([float(v) for v in a.doubles], float(a.d))
    if kind == _A.STRING:
        return _one_or_tuple([v.decode() for v in a.strings], a.s.decode())
    if kind in (_A.TENSOR, _A.TENSORS):
        found = [array(t) for t in a.tensors] or [array(a.t)]
        return found[0] if len(found) == 1 else tuple(found)
    if kind == _A.NONE:
        return None
    return Unknown(_A.AttributeType.Name(kind))


def _one_or_tuple(many: list, one: Any) -> Any:
    if not many:
        return one
    return many[0] if len(many) == 1 else tuple(many)


def output_types(node: Any) -> tuple[list[tuple[tuple[int, ...], np.dtype]], bool]:
    """(shape, dtype) of each output of a NodeProto, and whether it returns a tuple."""
    shape = next((a for a in node.attribute if a.name == "shape"), None)
    if shape is None:
        return [], False
    if shape.type in (_A.TUPLE, _A.LIST):
        return [tensor_type(v) for v in shape.values if v.tensors], True
    return ([tensor_type(shape)] if shape.tensors else []), False


def tensor_type(a: Any) -> tuple[tuple[int, ...], np.dtype]:
    t = a.tensors[0]
    return tuple(t.dims), element_type(t.data_type)


def scope(domain: str) -> tuple[tuple[str, str], ...]:
    """The layer path in `Default/stem-Stem/conv-Conv2d/Conv2D-op3`: ((stem, Stem), (conv, Conv2d))."""
    parts = [p for p in domain.split("/") if p]
    return tuple((name, cls) for name, _, cls in (p.rpartition("-") for p in parts[:-1]) if name)
