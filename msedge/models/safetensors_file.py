"""`.safetensors` files, mapped into memory and checked before anything in them is used.

The format (github.com/huggingface/safetensors): the header's length in 8 bytes, the header in JSON (for each name its type,
shape and place), then the tensors without gaps. A wrong header can only lead to an error: no place outside the file is
read, and no tensor shares bytes with another.
"""

from __future__ import annotations

import json
import math
import mmap
from pathlib import Path
from typing import Any

import numpy as np

from msedge.errors import ArtifactError, ModelError

LONGEST_HEADER = 100_000_000  # bytes, as the format has it
_LONGEST_NAME = 1000
_TYPES = {
    "F64": np.dtype("<f8"),
    "F32": np.dtype("<f4"),
    "F16": np.dtype("<f2"),
    "BF16": np.dtype("<u2"),  # the upper half of an F32
    "I64": np.dtype("<i8"),
    "I32": np.dtype("<i4"),
    "I16": np.dtype("<i2"),
    "I8": np.dtype("i1"),
    "U64": np.dtype("<u8"),
    "U32": np.dtype("<u4"),
    "U16": np.dtype("<u2"),
    "U8": np.dtype("u1"),
    "BOOL": np.dtype("?"),
}


class _Damaged(Exception):
    """What is wrong with a file, in few words."""


def read_safetensors(path: Path) -> dict[str, np.ndarray]:
    """The named arrays of a file, in its order: read-only views of the mapped file (BF16 as new float32 arrays).

    Only what is used of them is read from the disk. Raises ArtifactError for a file that cannot be opened, ModelError
    for one that is cut off, damaged or of another format, and for numbers of a type that NumPy does not have.
    """
    try:
        with path.open("rb") as f:
            size = f.seek(0, 2)
            content = mmap.mmap(f.fileno(), 0, access=mmap.ACCESS_READ) if size else b""
    except OSError as e:
        raise ArtifactError(f"{path} cannot be read: {e.strerror}") from None
    try:
        start, entries = _entries(content)
        return {name: _array(content, start, *entry) for name, entry in entries.items()}
    except _Damaged as e:
        hint = "fetch it again; if it is new from its source, it is no safetensors file"
        raise ModelError(f"{path} is damaged or no safetensors file: {e}", hint) from None


def _entries(content: bytes | mmap.mmap) -> tuple[int, dict[str, tuple[str, tuple[int, ...], int]]]:
    """Where the tensors begin in the file, and of each the type, the shape and its first byte counted from there."""
    size = len(content)
    length = int.from_bytes(content[:8], "little")
    if size < 8 or length > size - 8:
        wanted = f"a header of {length:,} bytes is announced" if size >= 8 else "the header is missing"
        raise _Damaged(f"{wanted}, the file has {size:,} bytes")
    if length > LONGEST_HEADER:
        raise _Damaged(f"a header of {length:,} bytes is announced, {LONGEST_HEADER:,} are the most")
    entries, ends = {}, []
    for name, entry in _header(content[8 : 8 + length]).items():
        if name == "__metadata__":
            continue
        if len(name) > _LONGEST_NAME or not name.isprintable():
            raise _Damaged(f"a tensor is called {name[:40]!a}")
        kind, shape, begin, end = _checked(name, entry)
        entries[name] = kind, shape, begin
        ends.append((begin, end, name))
    place = 0
    for begin, end, name in sorted(ends):
        if begin != place:
            raise _Damaged(
                f"{name} {'overlaps with another tensor' if begin < place else 'does not follow the tensor before it'}"
            )
        place = end
    held = size - 8 - length
    if place != held:
        cut = " (it is cut off)" if held < place else ""
        raise _Damaged(f"its tensors take {place:,} bytes, it holds {held:,}{cut}")
    return 8 + length, entries


def _header(text: bytes) -> dict[str, Any]:
    try:
        header = json.loads(text.decode(), object_pairs_hook=_without_doubles)
    except (ValueError, RecursionError):
        raise _Damaged("its header is not readable") from None
    if not isinstance(header, dict):
        raise _Damaged("its header is not readable")
    return header


def _without_doubles(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise _Damaged("its header has a name twice")
    return found


def _checked(name: str, entry: Any) -> tuple[str, tuple[int, ...], int, int]:
    """Type, shape, first byte and end of a tensor that the header describes."""
    if not isinstance(entry, dict):
        raise _Damaged(f"its header does not describe {name}")
    kind, shape, place = entry.get("dtype"), entry.get("shape"), entry.get("data_offsets")
    if not (isinstance(kind, str) and _whole_numbers(shape) and _whole_numbers(place) and len(place) == 2):
        raise _Damaged(f"its header does not describe {name}")
    if kind not in _TYPES:
        raise _Damaged(f"{name} has the type {kind[:20]!a}, which is not read here")
    begin, end = place
    if end - begin != math.prod(shape) * _TYPES[kind].itemsize:
        raise _Damaged(f"{name} has {end - begin:,} bytes for {kind} of shape {shape}"[:300])
    return kind, tuple(shape), begin, end


def _whole_numbers(value: Any) -> bool:
    return isinstance(value, list) and all(type(n) is int and 0 <= n < 1 << 63 for n in value)


def _array(content: bytes | mmap.mmap, start: int, kind: str, shape: tuple[int, ...], begin: int) -> np.ndarray:
    count = math.prod(shape)
    array = np.frombuffer(content, _TYPES[kind], count, start + begin) if count else np.empty(0, _TYPES[kind])
    if kind == "BF16":
        array = (array.astype(np.uint32) << 16).view(np.float32)
    try:
        return array.reshape(shape)
    except ValueError:  # more dimensions than NumPy has, or huge ones beside a zero
        raise _Damaged(f"a tensor of shape {list(shape)}"[:300]) from None
