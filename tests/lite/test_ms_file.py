"""The `.ms` reader on real files, and on files damaged in every way that hypothesis finds."""

from __future__ import annotations

import contextlib
import json
import struct
import time
import tracemalloc

import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from onnx import numpy_helper

from msedge.errors import ArtifactError
from msedge.lite import ConvertRequest, read_ms, summary
from msedge.lite.flat import DamagedBuffer, decode
from msedge.lite.ms_file import MsModel, ms_schema

pytestmark = pytest.mark.lite

FUZZ = settings(
    max_examples=400, deadline=2000, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)


@pytest.fixture(scope="module")
def small_bytes(small_ms) -> bytes:
    return small_ms.read_bytes()


@pytest.fixture(scope="module")
def int8_bytes(int8_ms) -> bytes:
    return int8_ms.read_bytes()


def test_nodes_tensors_and_attributes_of_a_real_file(small_ms):
    model = read_ms(small_ms)
    assert model.version == "MindSpore Lite 2.0.0"
    assert [(n.name, n.op) for n in model.nodes] == [
        ("stem/conv", "Conv2DFusion"),
        ("pool", "AvgPoolFusion"),
        ("pool_post", "Transpose"),
        ("flat", "Flatten"),
        ("layer_norm_norm/shift", "LayerNormFusion"),
        ("head/gemm", "MatMulFusion"),
    ]
    conv, *_, norm, head = model.nodes
    expected = {"kernel_size": (3, 3), "stride": (2, 2), "pad_list": (1, 1, 1, 1), "group": 1, "in_channel": 3}
    assert expected.items() <= conv.attributes.items()
    assert (conv.attributes["activation_type"], conv.attributes["format"]) == ("RELU", "NHWC")
    assert norm.attributes["epsilon"] == pytest.approx(1e-5)
    assert head.attributes["transpose_b"] is True
    image, result = model.tensors[model.inputs[0]], model.tensors[model.outputs[0]]
    assert (image.name, image.dims, image.dtype, image.nbytes, image.data) == ("x", (1, 16, 16, 3), "float32", 0, None)
    assert (result.name, result.dims) == ("y", (1, 5))
    assert conv.inputs[0] == model.inputs[0]


def test_constants_are_those_of_the_source(small_ms, network):
    source = {i.name: numpy_helper.to_array(i) for i in network().graph.initializer}
    constants = {t.name: t for t in read_ms(small_ms).tensors if t.data is not None}
    np.testing.assert_array_equal(constants["w"].array(), source["w"].transpose(0, 2, 3, 1))
    for name in ("b", "gamma", "beta", "fw", "fb"):
        np.testing.assert_array_equal(constants[name].array(), source[name])
        assert constants[name].nbytes == source[name].nbytes


def test_quantised_weights_with_their_scales_are_the_source_again(int8_ms, network):
    source = {i.name: numpy_helper.to_array(i) for i in network().graph.initializer}
    weights = next(t for t in read_ms(int8_ms).tensors if t.name == "w")
    assert (weights.dtype, len(weights.quant)) == ("int8", 8)
    scales = np.array([q.scale for q in weights.quant]).reshape(-1, 1, 1, 1)
    assert {(q.zero_point, q.bits) for q in weights.quant} == {(0, 8)}
    restored = weights.array() * scales
    np.testing.assert_allclose(restored, source["w"].transpose(0, 2, 3, 1), atol=scales.max() / 2 + 1e-6)


def test_summary_has_exactly_the_promised_keys(small_ms, network):
    told = summary(read_ms(small_ms))
    assert told == json.loads(json.dumps(told))
    params = sum(numpy_helper.to_array(i).size for i in network().graph.initializer) - 2  # the norm's 2 and eps are gone
    assert told == {
        "format": "ms",
        "producer": "MindSpore Lite 2.0.0",
        "inputs": [{"name": "x", "shape": [1, 16, 16, 3], "dtype": "float32"}],
        "outputs": [{"name": "y", "shape": [1, 5], "dtype": "float32"}],
        "nodes": 6,
        "op_counts": {
            "AvgPoolFusion": 1,
            "Conv2DFusion": 1,
            "Flatten": 1,
            "LayerNormFusion": 1,
            "MatMulFusion": 1,
            "Transpose": 1,
        },
        "params": params,
        "bytes_by_dtype": {"float32": 4 * params, "int32": 16},
        "quantised_nodes": 0,
    }


def test_summary_of_an_int8_file(small_ms, int8_ms):
    plain, quantised = summary(read_ms(small_ms)), summary(read_ms(int8_ms))
    assert quantised["params"] == plain["params"]
    assert quantised["quantised_nodes"] >= 2
    assert quantised["bytes_by_dtype"]["int8"] == 8 * 27 + 40


def test_fp16_weights_are_seen(toolchain, small_onnx, tmp_path):
    toolchain.convert(ConvertRequest(small_onnx, tmp_path / "half.ms", "ONNX", fp16_weights=True))
    assert "float16" in summary(read_ms(tmp_path / "half.ms"))["bytes_by_dtype"]


def test_array_refuses_what_holds_no_plain_values(small_ms):
    model = read_ms(small_ms)
    with pytest.raises(ArtifactError, match="no plain values"):
        model.tensors[model.inputs[0]].array()


def test_missing_and_unreadable_files_are_named(tmp_path):
    with pytest.raises(ArtifactError, match=r"no\.ms"):
        read_ms(tmp_path / "no.ms")
    with pytest.raises(ArtifactError, match="cannot be read"):
        read_ms(tmp_path)


def test_another_format_is_refused_by_name(small_onnx):
    with pytest.raises(ArtifactError, match="MSL2"):
        read_ms(small_onnx)


def survive(data: bytes) -> None:
    """Reading ends in a model whose parts are consistent, or in ArtifactError."""
    try:
        model = read_ms(data)
    except ArtifactError as e:
        assert "damaged" in e.message
        return
    assert isinstance(model, MsModel)
    for node in model.nodes:
        for index in (*node.inputs, *node.outputs):
            model.tensors[index]
    summary(model)
    for tensor in model.tensors:
        if tensor.data is not None and tensor.dtype == "float32":
            with contextlib.suppress(ArtifactError):
                tensor.array()


@FUZZ
@given(data=st.data())
def test_flipped_bytes(small_bytes, int8_bytes, data):
    whole = data.draw(st.sampled_from([small_bytes, int8_bytes]))
    places = st.tuples(st.integers(0, len(whole) - 1), st.integers(0, 255))
    damaged = bytearray(whole)
    for place, value in data.draw(st.lists(places, min_size=1, max_size=20)):
        damaged[place] = value
    survive(bytes(damaged))


@FUZZ
@given(data=st.data())
def test_overwritten_words(small_bytes, int8_bytes, data):
    whole = data.draw(st.sampled_from([small_bytes, int8_bytes]))
    damaged = bytearray(whole)
    words = st.sampled_from([0, 1, 4, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF, 0xFFFFFFFC, len(whole), len(whole) - 4])
    for place, word in data.draw(st.lists(st.tuples(st.integers(0, len(whole) // 4 - 1), words), min_size=1, max_size=5)):
        damaged[4 * place : 4 * place + 4] = struct.pack("<I", word)
    survive(bytes(damaged))


@FUZZ
@given(data=st.data())
def test_truncated_files(small_bytes, int8_bytes, data):
    whole = data.draw(st.sampled_from([small_bytes, int8_bytes]))
    survive(whole[: data.draw(st.integers(0, len(whole) - 1))])


@FUZZ
@given(st.binary(max_size=400))
@example(b"")
@example(b"\x00" * 8)
def test_random_bytes(noise):
    survive(noise)
    survive(b"\x08\x00\x00\x00MSL2" + noise)


@pytest.mark.parametrize("position", range(0, 64, 4))
def test_every_extreme_offset_near_the_root_is_survived(small_bytes, position):
    for word in (0, 1, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF):
        survive(small_bytes[:position] + struct.pack("<I", word) + small_bytes[position + 4 :])


def bomb(items: int) -> bytes:
    """A file whose list of tensors names one tensor `items` times, whose list of quantisation parameters names one
    parameter `items` times: read naively, items * items tables."""
    schema = ms_schema()
    slot = {t: {f.name: f.slot for f in schema.tables[t]} for t in ("MetaGraph", "Tensor")}

    def table(at: int, index: int, target_list: int) -> bytes:
        """A vtable of index + 1 slots, then a table of one offset in that slot."""
        size = 4 + 2 * (index + 1)
        size += size % 4
        entries = [0] * ((size - 4) // 2)
        entries[index] = 4
        start = at + size
        return struct.pack(f"<HH{len(entries)}HiI", size, 8, *entries, size, target_list - (start + 4))

    out = bytearray(b"\x00" * 4 + b"MSL2")
    root_vtable = len(out)
    root_size = len(table(root_vtable, slot["MetaGraph"]["allTensors"], 0xFFFF))
    tensors_at = root_vtable + root_size
    tensor_at = tensors_at + 4 + 4 * items
    tensor_size = len(table(tensor_at, slot["Tensor"]["quantParams"], tensor_at + 0xFFFF))
    quants_at = tensor_at + tensor_size
    quant_at = quants_at + 4 + 4 * items
    out += table(root_vtable, slot["MetaGraph"]["allTensors"], tensors_at)
    tensor_start, quant_start = quants_at - 8, quant_at + 4
    out += struct.pack("<I", items) + b"".join(struct.pack("<I", tensor_start - (tensors_at + 4 + 4 * i)) for i in range(items))
    out += table(tensor_at, slot["Tensor"]["quantParams"], quants_at)
    out += struct.pack("<I", items) + b"".join(struct.pack("<I", quant_start - (quants_at + 4 + 4 * i)) for i in range(items))
    out += struct.pack("<HHi", 4, 4, 4)
    out[0:4] = struct.pack("<I", tensors_at - 8)
    return bytes(out)


def test_a_small_bomb_unfolds():
    graph = decode(ms_schema(), bomb(8))
    assert [len(t["quantParams"]) for t in graph["allTensors"]] == [8] * 8


def test_a_large_bomb_is_refused_quickly_and_without_much_memory():
    data = bomb(20_000)
    tracemalloc.start()
    started = time.monotonic()
    try:
        with pytest.raises(ArtifactError, match="point at each other"):
            read_ms(data)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert time.monotonic() - started < 10
    assert peak < 200e6


def test_the_schema_is_whole():
    schema = ms_schema()
    assert schema is ms_schema()
    assert set(schema.unions["PrimitiveType"][1:]) <= set(schema.tables)
    for fields in schema.tables.values():
        for field in fields:
            if field.kind == "table" or (field.kind == "vector" and field.type[0].isupper()):
                assert field.type in schema.tables


def test_an_unknown_enum_value_keeps_its_number():
    assert ms_schema().enum_name("Format", 1) == "NHWC"
    assert ms_schema().enum_name("Format", 99) == "Format(99)"


def test_decode_says_what_is_wrong():
    with pytest.raises(DamagedBuffer, match="identifier"):
        decode(ms_schema(), b"\x00" * 100)
