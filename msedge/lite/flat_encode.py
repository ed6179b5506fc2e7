"""FlatBuffers driven by a schema in JSON, the way back: plain dicts, as `flat.decode` gives them, into a buffer.

Nothing is written twice. Fields equal to their default are left out, and equal strings, vectors, tables and vtables are
stored once, with several offsets leading to them (the format allows it: offsets only have to lead forwards).
"""

from __future__ import annotations

from typing import Any

import numpy as np
from flatbuffers import Builder

from msedge.lite.flat import SCALARS, Field, Schema, Tree

_OFFSET = 4


class _Encoder:
    """Writes one buffer, children before parents. `_written` maps what was written to its place."""

    def __init__(self, schema: Schema):
        self._schema = schema
        self._builder = Builder(1 << 16)
        self._written: dict[Any, int] = {}

    def whole(self, tree: Tree) -> bytes:
        self._builder.Finish(self._table(self._schema.root, tree), file_identifier=self._schema.identifier)
        return bytes(self._builder.Output())

    def _table(self, name: str, tree: Tree) -> int:
        fields = self._schema.tables[name]
        if unknown := tree.keys() - {f.name for f in fields}:
            raise ValueError(f"a {name} has no field {min(unknown)!r}")
        cells = [cell for f in fields if f.name in tree for cell in self._cells(f, tree[f.name])]
        key = tuple(cells)
        if key not in self._written:
            self._written[key] = self._new_table(key)
        return self._written[key]

    def _new_table(self, cells: tuple[tuple[int, str, bytes], ...]) -> int:
        builder = self._builder
        builder.StartObject(1 + max((slot for slot, *_ in cells), default=-1))
        for slot, kind, value in sorted(cells, key=lambda cell: -len(cell[2])):  # widest first: the least padding
            if kind == "offset":
                builder.PrependUOffsetTRelative(int.from_bytes(value, "little"))
            else:
                builder.Prepend(SCALARS[kind][0], np.frombuffer(value, SCALARS[kind][2])[0].item())
            builder.Slot(slot)
        return builder.EndObject()

    def _cells(self, field: Field, value: Any) -> list[tuple[int, str, bytes]]:
        """What a field puts into its table: (slot, scalar type or "offset", value as bytes); two cells for a union."""
        if field.kind == "scalar":
            number, default = (np.asarray(v, SCALARS[field.type][2]).tobytes() for v in (value, field.default))
            is_default = value == field.default and number == default  # -0.0 is not 0.0, float32(1e-5) not 1e-5
            return [] if is_default else [(field.slot, field.type, number)]
        if value is None:
            return []
        if field.kind == "union":
            name, table = value
            number = bytes([self._schema.unions[field.type].index(name)])
            return [(field.slot, "ubyte", number), _offset(field.slot + 1, self._table(name, table))]
        if field.kind == "string":
            return [_offset(field.slot, self._builder.CreateSharedString(value))]
        if field.kind == "table":
            return [_offset(field.slot, self._table(field.type, value))]
        return [_offset(field.slot, self._vector(field.type, value))]

    def _vector(self, kind: str, values: Any) -> int:
        if kind in SCALARS:
            numbers = np.ascontiguousarray(values, SCALARS[kind][2])
            key = (numbers.itemsize, numbers.tobytes())
            if key not in self._written:
                self._written[key] = self._builder.CreateNumpyVector(numbers.reshape(-1))
            return self._written[key]
        places = tuple(self._table(kind, table) for table in values)
        key = ("tables", places)
        if key not in self._written:
            self._written[key] = self._new_vector(places)
        return self._written[key]

    def _new_vector(self, places: tuple[int, ...]) -> int:
        self._builder.StartVector(_OFFSET, len(places), _OFFSET)
        for place in reversed(places):
            self._builder.PrependUOffsetTRelative(place)
        return self._builder.EndVector()


def _offset(slot: int, place: int) -> tuple[int, str, bytes]:
    return slot, "offset", place.to_bytes(_OFFSET, "little")


def encode(schema: Schema, tree: Tree) -> bytes:
    """The buffer whose `flat.decode` is `tree`: a dict for the root table; fields that it lacks are left out.

    Vectors of numbers are arrays or lists, vectors of tables lists of dicts, unions `(type name, table)`. Their data begin at
    multiples of 4 bytes (8 for 8-byte numbers). Raises ValueError for a field that the schema does not have.
    """
    return _Encoder(schema).whole(tree)
