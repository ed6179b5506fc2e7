"""MindSpore's `.ckpt` files: a protobuf of named tensors, read strictly and written atomically. Nothing is unpickled."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from msedge.artifact import atomic_path
from msedge.errors import ArtifactError, ModelError
from msedge.mindspore_setup import load_mindspore

if TYPE_CHECKING:
    from mindspore import nn

    Values = nn.Cell | Mapping[str, np.ndarray]

_TYPES = {
    "Float64": np.float64,
    "Float32": np.float32,
    "Float16": np.float16,
    "Int64": np.int64,
    "Int32": np.int32,
    "Int16": np.int16,
    "Int8": np.int8,
    "UInt8": np.uint8,
    "Bool": np.bool_,
}
_NAMES = {np.dtype(t): name for name, t in _TYPES.items()}
_CHECKSUM = b"crc_num"  # MindSpore's optional end mark; ten bytes follow


def _checkpoint_message():
    load_mindspore()
    from mindspore.train.checkpoint_pb2 import Checkpoint

    return Checkpoint


def save_checkpoint(values: Values, path: Path) -> None:
    """Write a cell's state, or named arrays, as a `.ckpt` that MindSpore's own loader reads as well.

    Raises ArtifactError where the disk refuses; the file appears under its name only when it is whole.
    """
    message = _checkpoint_message()()
    for name, array in _arrays(values).items():
        entry = message.value.add()
        entry.tag = name
        entry.tensor.dims.extend(array.shape)
        entry.tensor.tensor_type = _NAMES[array.dtype]
        entry.tensor.tensor_content = array.tobytes()
    with atomic_path(Path(path)) as temporary:
        temporary.write_bytes(message.SerializeToString())


def _arrays(values: Values) -> Mapping[str, np.ndarray]:
    if isinstance(values, Mapping):
        return {name: np.asarray(v) for name, v in values.items()}
    from msedge.models.layers import state

    return {name: p.asnumpy() for name, p in state(values).items()}


def read_checkpoint(path: Path) -> dict[str, np.ndarray]:
    """Named arrays of a `.ckpt`. Raises ArtifactError if there is no such file, ModelError if it is damaged."""
    path = Path(path)
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        raise ArtifactError(f"there is no {path}") from None
    except OSError as e:
        raise ArtifactError(f"{path} cannot be read: {e.strerror}") from None
    if content[-17:-10] == _CHECKSUM:
        content = content[:-17]
    from google.protobuf.message import DecodeError

    message = _checkpoint_message()()
    try:
        message.ParseFromString(content)
        del content  # the message has its own copy
        tensors = _tensors(message)
    except (DecodeError, ValueError, KeyError) as e:
        raise ModelError(f"{path} is damaged or no MindSpore checkpoint", str(e).strip("'")) from None
    if not tensors:
        raise ModelError(f"{path} holds no parameters", "the file may have been cut off")
    return tensors


def _tensors(message) -> dict[str, np.ndarray]:
    pieces: dict[str, list[bytes]] = {}  # MindSpore cuts large tensors into entries of one name
    kinds: dict[str, tuple[str, tuple[int, ...]]] = {}
    for entry in message.value:
        pieces.setdefault(entry.tag, []).append(entry.tensor.tensor_content)
        kinds[entry.tag] = (entry.tensor.tensor_type, tuple(entry.tensor.dims))
    tensors = {}
    for name, (kind, shape) in kinds.items():
        if not isinstance(name, str) or not name.isprintable():  # bytes, where they are no UTF-8
            raise ValueError(f"a parameter is called {name[:40]!a}")
        if kind not in _TYPES:
            raise ValueError(f"{name} has the type {kind or 'of nothing'}")
        data = b"".join(pieces[name])
        wanted = math.prod(shape) * np.dtype(_TYPES[kind]).itemsize
        if len(data) != wanted or any(d < 0 for d in shape):
            raise ValueError(f"{name} has {len(data)} bytes for shape {list(shape)}")
        tensors[name] = np.frombuffer(data, _TYPES[kind]).reshape(shape)
    return tensors
