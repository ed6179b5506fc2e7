"""Files changed by the writer: what was not touched stays, and the real runtime computes what was asked for."""

from __future__ import annotations

import numpy as np
import pytest

from msedge.errors import ArtifactError
from msedge.lite import read_ms
from msedge.lite.flat import decode
from msedge.lite.flat_encode import encode
from msedge.lite.ms_file import ms_schema
from msedge.lite.ms_writer import MsEditor, attributes, inputs, new_node, op, outputs, quant_param

pytestmark = pytest.mark.lite


@pytest.fixture(scope="module")
def small_bytes(small_ms) -> bytes:
    return small_ms.read_bytes()


def run(toolchain, data: bytes, images: np.ndarray, folder) -> np.ndarray:
    file = folder / "changed.ms"
    file.write_bytes(data)
    with toolchain.load(file) as session:
        return session.predict(images)


@pytest.fixture
def pictures() -> np.ndarray:
    return np.random.default_rng(0).standard_normal((2, 3, 16, 16)).astype(np.float32)


@pytest.mark.parametrize("kind", ["small_ms", "int8_ms"])
def test_an_untouched_model_is_the_same_model(kind, request, toolchain, pictures, tmp_path):
    source = request.getfixturevalue(kind).read_bytes()
    data = MsEditor(source).to_bytes()
    before, after = read_ms(source), read_ms(data)
    assert [(n.name, n.op, n.attributes) for n in before.nodes] == [(n.name, n.op, n.attributes) for n in after.nodes]
    assert len(data) < len(source)
    np.testing.assert_array_equal(run(toolchain, data, pictures, tmp_path), run(toolchain, source, pictures, tmp_path))


def test_constants_can_be_read_and_replaced(small_bytes, toolchain, pictures, tmp_path):
    editor = MsEditor(small_bytes)
    head = editor.find("head/gemm")
    assert (op(head), attributes(head)["transpose_b"]) == ("MatMulFusion", True)
    _, weight, bias = inputs(head)
    assert editor.dtype(weight) == "float32"
    assert editor.constant(weight).shape == (5, 8)
    np.testing.assert_array_equal(editor.constant(bias), read_ms(small_bytes).tensors[bias].array())
    editor.set_constant(bias, editor.constant(bias) + np.float32(1))
    out = run(toolchain, editor.to_bytes(), pictures, tmp_path)
    np.testing.assert_allclose(out, run(toolchain, small_bytes, pictures, tmp_path) + 1, atol=1e-6)


def test_a_new_node_and_its_tensors_are_computed(small_bytes, toolchain, pictures, tmp_path):
    editor = MsEditor(small_bytes)
    head = editor.find("head/gemm")
    (result,) = outputs(head)
    inner = editor.add_tensor("inner", "float32", (1, 5))
    factor = editor.add_constant("factor", np.array([1, 2, 3, 4, 5], np.float32))
    head["outputIndex"] = np.array([inner], np.uint32)
    editor.nodes.append(new_node("MulFusion", "scaled", [inner, factor], [result]))
    out = run(toolchain, editor.to_bytes(), pictures, tmp_path)
    np.testing.assert_allclose(out, run(toolchain, small_bytes, pictures, tmp_path) * [1, 2, 3, 4, 5], rtol=1e-6)


def test_casts_with_quant_params_round_to_the_grid(small_bytes, toolchain, pictures, tmp_path):
    editor = MsEditor(small_bytes)
    head = editor.find("head/gemm")
    (result,) = outputs(head)
    inner = editor.add_tensor("inner", "float32", (1, 5))
    stored = editor.add_tensor("stored", "int8", (1, 5), [quant_param(0.25, -3)])
    head["outputIndex"] = np.array([inner], np.uint32)
    editor.nodes += [new_node("QuantDTypeCast", "q", [inner], [stored], src_t=43, dst_t=32),
                     new_node("QuantDTypeCast", "f", [stored], [result], src_t=32, dst_t=43)]  # fmt: skip
    out = run(toolchain, editor.to_bytes(), pictures, tmp_path)
    np.testing.assert_array_equal(out, np.rint(run(toolchain, small_bytes, pictures, tmp_path) * 4) / 4)


def test_float16_constants_are_widened_by_the_runtime(small_bytes, toolchain, pictures, tmp_path):
    editor = MsEditor(small_bytes)
    bias = inputs(editor.find("head/gemm"))[2]
    editor.set_constant(bias, editor.constant(bias).astype(np.float16))
    out = run(toolchain, editor.to_bytes(), pictures, tmp_path)
    np.testing.assert_allclose(out, run(toolchain, small_bytes, pictures, tmp_path), atol=2e-3)


def test_unused_tensors_are_left_out_and_the_rest_renumbered(small_bytes):
    editor = MsEditor(small_bytes)
    count = len(editor.tensors)
    editor.add_constant("unused", np.zeros(100_000, np.float32))
    data = editor.to_bytes()
    assert len(data) < 50_000
    model = read_ms(data)
    assert len(model.tensors) == count
    (graph,) = decode(ms_schema(), data)["subGraph"]
    assert graph["tensorIndices"].tolist() == list(range(count))
    assert graph["nodeIndices"].tolist() == list(range(len(model.nodes)))
    assert tuple(graph["outputIndices"]) == model.outputs


def test_unknown_attributes_and_tensors_without_values_are_refused(small_bytes):
    editor = MsEditor(small_bytes)
    with pytest.raises(ValueError, match="Transpose has no field 'perm'"):
        new_node("Transpose", "t", [0], [1], perm=[0, 1])
    with pytest.raises(ArtifactError, match=r"'x' of the [.]ms holds no plain values"):
        editor.constant(editor.inputs[0])
    assert editor.find("nobody") is None


@pytest.mark.parametrize("data", [b"", b"no model at all", b"\x08\x00\x00\x00MSL2" + bytes(100)])
def test_damaged_bytes_are_refused(data):
    with pytest.raises(ArtifactError, match="damaged"):
        MsEditor(data)


def test_models_that_cannot_be_edited_are_refused(small_bytes):
    schema = ms_schema()
    tree = decode(schema, small_bytes)
    with pytest.raises(ArtifactError, match="several graphs"):
        MsEditor(encode(schema, tree | {"subGraph": tree["subGraph"] * 2}))
    tree["nodes"][0]["inputIndex"] = np.array([10_000], np.uint32)
    with pytest.raises(ArtifactError, match="do not fit"):
        MsEditor(encode(schema, tree))
