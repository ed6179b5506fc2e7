"""Facts read out of model files, against numbers worked out by hand."""

from __future__ import annotations

import onnx
import pytest
from onnx import TensorProto, helper
from small_models import small_onnx, spec

from msedge.errors import ArtifactError
from msedge.runtime.inside import describe
from msedge.runtime.onnx_graph import count_macs, load_graph

KEYS = {"format", "producer", "inputs", "outputs", "nodes", "op_counts", "params", "bytes_by_dtype", "quantised_nodes"}
PARAMS = 8 * 3 * 9 + 8 + 16 * 8 * 9 + 16 + 16 * 3 + 3
MACS = 16 * 16 * 8 * 27 + 8 * 8 * 16 * 72 + 16 * 3


def test_onnx(tmp_path):
    spec().save(tmp_path)
    found = describe(small_onnx(tmp_path / "model.onnx"))
    assert set(found) >= KEYS
    assert (found["format"], found["producer"], found["nodes"], found["quantised_nodes"]) == ("onnx", "test", 7, 0)
    assert found["op_counts"] == {"Conv": 2, "Relu": 2, "GlobalAveragePool": 1, "Flatten": 1, "Gemm": 1}
    assert found["inputs"] == [{"name": "x", "shape": [1, 3, 32, 32], "dtype": "float32"}]
    assert found["outputs"] == [{"name": "logits", "shape": [1, 3], "dtype": "float32"}]
    assert (found["params"], found["macs"], found["bytes_by_dtype"]) == (PARAMS, MACS, {"float32": 4 * PARAMS})
    assert found["model"]["classes"] == ["cat", "dog", "fox"]


@pytest.mark.lite
def test_ms_has_the_same_keys(ms_file):
    found = describe(ms_file)
    assert set(found) >= KEYS
    assert (found["format"], found["params"], found["quantised_nodes"]) == ("ms", PARAMS, 0)
    assert found["model"] is None


def test_macs_for_an_open_batch_are_those_of_one_image(tmp_path):
    assert count_macs(load_graph(small_onnx(tmp_path / "m.onnx", batch="n"))) == MACS


def _one_node(op, shapes, out, **attributes):
    names = [f"i{k}" for k in range(len(shapes))]
    value = helper.make_tensor_value_info
    graph = helper.make_graph(
        [helper.make_node(op, names, ["o"], **attributes)],
        "g",
        [value(n, TensorProto.FLOAT, s) for n, s in zip(names, shapes, strict=True)],
        [value("o", TensorProto.FLOAT, out)],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)


@pytest.mark.parametrize(
    ("model", "macs"),
    [
        (_one_node("MatMul", [[1, 4, 7, 5], [1, 4, 5, 6]], [1, 4, 7, 6]), 4 * 7 * 6 * 5),
        (_one_node("Gemm", [[5, 2], [5, 3]], [2, 3], transA=1), 2 * 3 * 5),
        (_one_node("Conv", [[1, 8, 6, 6], [8, 1, 3, 3]], [1, 8, 4, 4], group=8), 8 * 16 * 9),
        (_one_node("ConvTranspose", [[1, 4, 5, 5], [4, 2, 2, 2]], [1, 2, 10, 10], strides=[2, 2]), 25 * 4 * 2 * 2 * 2),
        (_one_node("Relu", [[1, 4]], [1, 4]), 0),
    ],
    ids=["matmul", "gemm", "depthwise", "transposed", "none"],
)
def test_macs_of_single_operators(model, macs):
    assert count_macs(model) == macs


def test_an_open_shape_gives_no_macs():
    assert count_macs(_one_node("MatMul", [[1, "t", 5], [1, 5, 6]], [1, "t", 6])) is None


def test_files_that_cannot_be_read(tmp_path):
    broken = tmp_path / "broken.onnx"
    broken.write_bytes(small_onnx(tmp_path / "m.onnx").read_bytes()[:3000])
    with pytest.raises(ArtifactError, match=r"broken\.onnx is not an ONNX file, or damaged or cut off"):
        describe(broken)
    no_graph = tmp_path / "nothing.onnx"
    onnx.save(onnx.ModelProto(ir_version=8), str(no_graph))
    with pytest.raises(ArtifactError, match=r"nothing\.onnx"):
        describe(no_graph)
    (tmp_path / "last.ckpt").write_bytes(b"x")
    with pytest.raises(ArtifactError, match=r"neither an ONNX nor a \.ms file"):
        describe(tmp_path / "last.ckpt")
