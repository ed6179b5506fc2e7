"""The FlatBuffer writer: the inverse of the reader over the whole schema, and nothing new for the real runtime."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from msedge.lite import ConvertRequest
from msedge.lite.flat import SCALARS, Field, decode
from msedge.lite.flat_encode import encode
from msedge.lite.ms_file import ms_schema

SCHEMA = ms_schema()
_NUMBERS = {
    "bool": st.booleans(),
    "float": st.floats(width=32),
    "double": st.floats(),
    **{
        kind: st.integers(int(np.iinfo(SCALARS[kind][2]).min), int(np.iinfo(SCALARS[kind][2]).max))
        for kind in ("byte", "ubyte", "int", "uint", "long", "int64")
    },
}


def values(field: Field, depth: int) -> st.SearchStrategy:
    if field.kind == "scalar":
        return st.just(field.default) | _NUMBERS[field.type]
    if field.kind == "string":
        return st.none() | st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
    if field.kind == "vector" and field.type in SCALARS:
        numbers = st.lists(_NUMBERS[field.type], max_size=6)
        return st.none() | numbers.map(lambda v: np.array(v, SCALARS[field.type][2]))
    if not depth:
        return st.none()
    if field.kind == "union":
        names = st.sampled_from(SCHEMA.unions[field.type][1:])
        return st.none() | names.flatmap(lambda name: st.tuples(st.just(name), trees(name, depth - 1)))
    table = trees(field.type, depth - 1)
    return st.none() | (table if field.kind == "table" else st.lists(table, max_size=3))


def trees(name: str, depth: int) -> st.SearchStrategy:
    return st.fixed_dictionaries({f.name: values(f, depth) for f in SCHEMA.tables[name]})


def same(a, b) -> bool:
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(a[k], b[k]) for k in a)
    if isinstance(a, np.ndarray):
        return isinstance(b, np.ndarray) and a.dtype == b.dtype and a.shape == b.shape and a.tobytes() == b.tobytes()
    if isinstance(a, list | tuple):
        return type(a) is type(b) and len(a) == len(b) and all(map(same, a, b))
    if isinstance(a, float):
        return isinstance(b, float) and ((a == b and math.copysign(1, a) == math.copysign(1, b)) or (a != a and b != b))
    return type(a) is type(b) and a == b


@settings(max_examples=400, deadline=None, suppress_health_check=list(HealthCheck))
@given(trees("MetaGraph", 4))
def test_decoding_what_was_encoded_gives_it_back(tree):
    assert same(decode(SCHEMA, encode(SCHEMA, tree)), tree)


@pytest.mark.parametrize("table", SCHEMA.unions["PrimitiveType"][1:])
@settings(max_examples=5, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_every_operator_comes_back(table, data):
    primitive = {"value": (table, data.draw(trees(table, 2)))}
    tree = decode(SCHEMA, encode(SCHEMA, {"nodes": [{"name": "n", "primitive": primitive}]}))
    assert same(tree["nodes"][0]["primitive"], primitive)


def test_missing_fields_are_defaults_and_unknown_ones_are_refused():
    (node,) = decode(SCHEMA, encode(SCHEMA, {"nodes": [{"inputIndex": [1, 2]}]}))["nodes"]
    assert (node["deviceType"], node["name"], node["inputIndex"].tolist()) == (-1, None, [1, 2])
    with pytest.raises(ValueError, match="CNode has no field 'inputs'"):
        encode(SCHEMA, {"nodes": [{"inputs": [1]}]})


def test_equal_parts_are_stored_once():
    def size(scales: list[float], name: str = "") -> int:
        quant = [{"scale": s} for s in scales]
        return len(encode(SCHEMA, {"allTensors": [{"quantParams": quant, "data": np.zeros(100, np.uint8), "name": name}]}))

    assert size([0.5] * 101) - size([0.5]) == 400, "an equal table costs one offset"
    assert size([0.5, 0.25]) - size([0.5]) >= 16
    two = {"allTensors": [{"data": np.arange(100, dtype=np.uint8), "name": n} for n in "ab"]}
    one = {"allTensors": two["allTensors"][:1]}
    assert len(encode(SCHEMA, two)) - len(encode(SCHEMA, one)) < 40, "equal data are stored once"
    assert len(encode(SCHEMA, {"fmkType": 0, "mempoolSize": 0})) == len(encode(SCHEMA, {}))


@pytest.mark.parametrize("kind, dtype", [("long", np.int64), ("uint", np.uint32), ("ubyte", np.uint8), ("float", np.float32)])
def test_numbers_lie_at_multiples_of_their_size(kind, dtype):
    fields = {"long": ("Squeeze", "axis"), "uint": ("CNode", "inputIndex"), "ubyte": ("Tensor", "data")}
    table, name = fields.get(kind, ("Tensor", "quantClusters"))
    marked = np.frombuffer(b"\x5a\xa5\x5b\xb5" * 2, dtype)
    part = {name: marked}
    node = {"primitive": {"value": (table, part)}} if table == "Squeeze" else part
    tree = {"allTensors": [part]} if table == "Tensor" else {"nodes": [node]}
    for padding in range(9):
        buffer = encode(SCHEMA, {**tree, "name": "x" * padding, "version": "y" * padding})
        place = buffer.find(marked.tobytes())
        assert place > 0
        assert place % max(4, marked.itemsize) == 0


@pytest.fixture(scope="module")
def half_ms(toolchain, small_onnx, tmp_path_factory):
    path = tmp_path_factory.mktemp("half") / "half.ms"
    toolchain.convert(ConvertRequest(small_onnx, path, "ONNX", fp16_weights=True))
    return path


@pytest.mark.lite
@pytest.mark.parametrize("kind", ["small_ms", "half_ms", "int8_ms"])
def test_the_runtime_computes_the_same_bits_after_a_round_trip(kind, request, toolchain, tmp_path):
    source = request.getfixturevalue(kind)
    tree = decode(SCHEMA, source.read_bytes())
    copy = tmp_path / "copy.ms"
    copy.write_bytes(encode(SCHEMA, tree))
    assert same(decode(SCHEMA, copy.read_bytes()), tree)
    assert copy.stat().st_size <= source.stat().st_size
    images = np.random.default_rng(0).standard_normal((3, 3, 16, 16)).astype(np.float32)
    with toolchain.load(source) as before, toolchain.load(copy) as after:
        np.testing.assert_array_equal(after.predict(images), before.predict(images))
