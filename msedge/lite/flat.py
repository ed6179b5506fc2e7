"""FlatBuffers driven by a schema in JSON: a whole file decoded into plain dicts, every offset checked.

A table becomes a dict of its fields (defaults filled in), a vector of numbers a NumPy view of the file, a vector of
tables a list, an enum its number, and a union `(type name, table)`. The format is described in the FlatBuffers project's
"FlatBuffer Internals"; numbers are read with the flatbuffers package.
"""

from __future__ import annotations

import functools
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from flatbuffers import encode, number_types, packer

Tree = dict[str, Any]

SCALARS = {
    "bool": (number_types.BoolFlags, packer.boolean, np.dtype("bool")),
    "byte": (number_types.Int8Flags, packer.int8, np.dtype("int8")),
    "ubyte": (number_types.Uint8Flags, packer.uint8, np.dtype("uint8")),
    "int": (number_types.Int32Flags, packer.int32, np.dtype("<i4")),
    "uint": (number_types.Uint32Flags, packer.uint32, np.dtype("<u4")),
    "long": (number_types.Int64Flags, packer.int64, np.dtype("<i8")),
    "int64": (number_types.Int64Flags, packer.int64, np.dtype("<i8")),
    "float": (number_types.Float32Flags, packer.float32, np.dtype("<f4")),
    "double": (number_types.Float64Flags, packer.float64, np.dtype("<f8")),
}
_OFFSET = 4
_MAX_BYTES = (1 << 31) - 1  # offsets are signed in places


class DamagedBuffer(ValueError):
    """The bytes are no FlatBuffer of this schema."""


@dataclass(frozen=True)
class Field:
    """One field of a table: its place in the vtable, what it is (`scalar`, `string`, `table`, `vector`, `union`), the
    scalar's or table's or union's type, the default of a scalar, and the enum that its numbers belong to."""

    name: str
    slot: int
    kind: str
    type: str
    default: Any = None
    enum: str = ""


class Schema:
    """The tables, enums and unions of a schema file, ready for decoding (and for a writer)."""

    def __init__(self, document: Tree):
        self.identifier = document["identifier"].encode()
        self.root = document["root"]
        self.data_types = {int(k): v for k, v in document["data_types"].items()}
        self.unions = {name: ("NONE", *tables) for name, tables in document["unions"].items()}
        self._enums = {name: (e["type"], {v: n for n, v in e["items"]}) for name, e in document["enums"].items()}
        self.tables = {name: self._fields(fields) for name, fields in document["tables"].items()}

    @classmethod
    @functools.cache
    def load(cls, path: Path) -> Schema:
        return cls(json.loads(path.read_text()))

    def enum_name(self, enum: str, value: int) -> str:
        """A value's name, or "enum(value)" for one that the schema does not know."""
        return self._enums[enum][1].get(value, f"{enum}({value})")

    def _fields(self, rows: list[list[Any]]) -> tuple[Field, ...]:
        fields, slot = [], 0
        for name, kind, *rest in rows:
            if kind in self.unions:
                fields.append(Field(name, slot, "union", kind))
                slot += 2  # a union's type has a slot of its own, before its value
                continue
            fields.append(self._field(name, slot, kind, rest[0] if rest else None))
            slot += 1
        return tuple(fields)

    def _field(self, name: str, slot: int, kind: str, default: str | None) -> Field:
        if kind.startswith("["):
            return Field(name, slot, "vector", self._scalar(kind[1:-1]) or kind[1:-1])
        if kind == "string":
            return Field(name, slot, "string", kind)
        scalar = self._scalar(kind)
        if scalar:
            return Field(
                name, slot, "scalar", scalar, self._default(kind, scalar, default), kind if kind in self._enums else ""
            )
        return Field(name, slot, "table", kind)

    def _scalar(self, kind: str) -> str | None:
        return self._enums[kind][0] if kind in self._enums else kind if kind in SCALARS else None

    def _default(self, kind: str, scalar: str, text: str | None) -> Any:
        if kind in self._enums:
            by_name = {n: v for v, n in self._enums[kind][1].items()}
            return by_name[text] if text in by_name else int(text or 0)
        if scalar == "bool":
            return text == "true"
        return float(text or 0) if scalar in ("float", "double") else int(text or 0)


class _Decoder:
    """Decodes one buffer. Each field and character costs a unit of a budget proportional to the buffer's size, so that a
    small file whose parts point at each other cannot unfold without end."""

    def __init__(self, schema: Schema, data: bytes):
        self._schema = schema
        self._data = data
        self._budget = 4 * len(data) + 4096

    def _spend(self, units: int) -> None:
        self._budget -= units
        if self._budget < 0:
            raise DamagedBuffer("its parts point at each other")

    def _read(self, scalar: str, position: int) -> Any:
        flags, pack, _ = SCALARS[scalar]
        if position < 0 or position + flags.bytewidth > len(self._data):
            raise DamagedBuffer(f"an offset leads outside the file (byte {position} of {len(self._data)})")
        return encode.Get(pack, self._data, position)

    def _follow(self, position: int) -> int:
        """The target of the (always forward) offset at `position`."""
        offset = self._read("uint", position)
        if offset < _OFFSET or position + offset > len(self._data) - _OFFSET:
            raise DamagedBuffer(f"an offset leads outside the file (byte {position + offset} of {len(self._data)})")
        return position + offset

    def root(self) -> Tree:
        return self._table(self._schema.root, self._follow(0))

    def _table(self, name: str, position: int) -> Tree:
        vtable = position - self._read("int", position)
        vtable_size = self._read_u16(vtable)
        table_size = self._read_u16(vtable + 2)
        if vtable_size < 4 or vtable_size % 2 or vtable + vtable_size > len(self._data):
            raise DamagedBuffer(f"a table's index has an impossible size ({vtable_size} bytes)")
        if table_size < 4 or position + table_size > len(self._data):
            raise DamagedBuffer(f"a table has an impossible size ({table_size} bytes)")
        fields = self._schema.tables[name]
        self._spend(1 + len(fields))

        def place(slot: int, width: int) -> int:
            """The position of a field's content, 0 where the table has none."""
            entry = 4 + 2 * slot
            offset = self._read_u16(vtable + entry) if entry + 2 <= vtable_size else 0
            if offset and (offset < 4 or offset + width > table_size):
                raise DamagedBuffer(f"a field of a table lies outside the table ({offset} of {table_size} bytes)")
            return position + offset if offset else 0

        return {field.name: self._field(field, place) for field in fields}

    def _read_u16(self, position: int) -> int:
        if position < 0 or position + 2 > len(self._data):
            raise DamagedBuffer(f"an offset leads outside the file (byte {position} of {len(self._data)})")
        return encode.Get(packer.uint16, self._data, position)

    def _field(self, field: Field, place) -> Any:
        if field.kind == "scalar":
            at = place(field.slot, SCALARS[field.type][0].bytewidth)
            return self._read(field.type, at) if at else field.default
        if field.kind == "union":
            return self._union(field, place)
        at = place(field.slot, _OFFSET)
        if not at:
            return None
        target = self._follow(at)
        if field.kind == "string":
            return self._string(target)
        return self._table(field.type, target) if field.kind == "table" else self._vector(field.type, target)

    def _union(self, field: Field, place) -> tuple[str, Tree] | None:
        names = self._schema.unions[field.type]
        type_at, value_at = place(field.slot, 1), place(field.slot + 1, _OFFSET)
        number = self._read("ubyte", type_at) if type_at else 0
        if not number:
            return None
        if number >= len(names):
            raise DamagedBuffer(f"it has a {field.type} of number {number}; this reader knows {len(names) - 1}")
        return names[number], self._table(names[number], self._follow(value_at)) if value_at else {}

    def _length(self, position: int, width: int) -> int:
        count = self._read("uint", position)
        if position + _OFFSET + count * width > len(self._data):
            raise DamagedBuffer(f"a list of {count} items reaches beyond the end of the file")
        return count

    def _string(self, position: int) -> str:
        count = self._length(position, 1)
        self._spend(count)
        start = position + _OFFSET
        return self._data[start : start + count].decode(errors="replace")

    def _vector(self, kind: str, position: int) -> np.ndarray | list[Tree]:
        if kind in SCALARS:
            dtype = SCALARS[kind][2]
            count = self._length(position, dtype.itemsize)
            return np.frombuffer(self._data, dtype, count, position + _OFFSET)
        count = self._length(position, _OFFSET)
        starts = range(position + _OFFSET, position + _OFFSET + count * _OFFSET, _OFFSET)
        return [self._table(kind, self._follow(start)) for start in starts]


def decode(schema: Schema, data: bytes) -> Tree:
    """The root table of a buffer as a dict. Raises DamagedBuffer for anything that is no whole buffer of the schema."""
    if len(data) > _MAX_BYTES:
        raise DamagedBuffer("it is larger than the format allows (2 GB)")
    if len(data) < 12 or data[4:8] != schema.identifier:
        raise DamagedBuffer(f"it does not carry the identifier {schema.identifier.decode()}")
    return _Decoder(schema, data).root()
