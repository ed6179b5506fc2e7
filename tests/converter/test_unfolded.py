from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from msedge.converter import convert
from msedge.converter.unfolded import keep_unfolded
from msedge.lite import ConvertRequest

HEADS, TOKENS = 16, 64


def biased(path: Path, layers: int = 2, batch: int | str = 1, heads: int = HEADS, on_the_way: str = "Identity") -> Path:
    """Images to tokens of 48 numbers; their products with a bias for each distance added, `layers` times; mean.

    `on_the_way` is an operator between a bias and its use.
    """
    rng = np.random.default_rng(0)
    at = np.arange(TOKENS)
    distance = abs(at[:, None] - at).reshape(-1).astype(np.int64)
    constants = {
        "index": distance,
        "square": np.array([heads, TOKENS, TOKENS]),
        "end": np.array([1, TOKENS]),
        "tokens": np.array([-1, 3, TOKENS]),
        "mix": rng.standard_normal((TOKENS, TOKENS)).astype(np.float32),
        **{f"table{k}": rng.standard_normal((heads, TOKENS)).astype(np.float32) for k in range(layers)},
    }
    node = helper.make_node
    nodes = [
        node("Reshape", ["x", "tokens"], ["rows"], name="rows"),
        node("Transpose", ["rows"], ["columns"], name="columns", perm=[0, 2, 1]),
        node("MatMul", ["columns", "rows"], ["scores0"], name="scores"),
    ]
    shapes = {}
    for k in range(layers):
        nodes += [
            node("Gather", [f"table{k}", "index"], [f"flat{k}"], name=f"gather{k}", axis=1),
            node("Reshape", [f"flat{k}", "square"], [f"bias{k}"], name=f"square{k}"),
            node(on_the_way, [f"bias{k}"], [f"passed{k}"], name=f"pass{k}"),
            node("Add", [f"scores{k}", f"passed{k}"], [f"sum{k}"], name=f"add{k}"),
            node("MatMul", [f"sum{k}", "mix"], [f"scores{k + 1}"], name=f"mix{k}"),
        ]
        shapes |= {
            f"flat{k}": [heads, TOKENS * TOKENS],
            f"bias{k}": [heads, TOKENS, TOKENS],
            f"passed{k}": [heads, TOKENS, TOKENS],
        }
    nodes += [
        node("ReduceMean", [f"scores{layers}"], ["mean"], name="mean", axes=[0, 1], keepdims=0),
        node("Reshape", ["mean", "end"], ["y"], name="end"),
    ]
    graph = helper.make_graph(
        nodes,
        "biased",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [batch, 3, 8, 8])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, TOKENS])],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
        value_info=[helper.make_tensor_value_info(n, TensorProto.FLOAT, s) for n, s in shapes.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=7)
    onnx.checker.check_model(model, full_check=True)
    onnx.save(model, str(path))
    return path


def stored(file: Path) -> int:
    """Bytes of a file's constants."""
    return sum(numpy_helper.to_array(i).nbytes for i in onnx.load(str(file)).graph.initializer)


def run(file: Path, x: np.ndarray) -> np.ndarray:
    return onnxruntime.InferenceSession(str(file), providers=["CPUExecutionProvider"]).run(None, {"x": x})[0]


@pytest.mark.parametrize("x", [np.ones((1, 3, 8, 8)), np.full((1, 3, 8, 8), np.nan), np.full((1, 3, 8, 8), np.inf)])
def test_the_copy_computes_the_same_to_the_last_bit(tmp_path, x):
    source = biased(tmp_path / "model.onnx")
    copy = keep_unfolded(source, tmp_path / "work")
    assert copy == tmp_path / "work" / "unfolded" / "model.onnx"
    onnx.checker.check_model(str(copy), full_check=True)
    x = (x + np.random.default_rng(1).standard_normal(x.shape)).astype(np.float32)
    assert run(source, x).tobytes() == run(copy, x).tobytes()
    assert stored(copy) - stored(source) <= 16


def test_lite_then_writes_no_more_than_the_tables(tmp_path, toolchain):
    source = biased(tmp_path / "model.onnx")
    x = np.random.default_rng(1).standard_normal((1, 3, 8, 8)).astype(np.float32)
    sizes, results = [], []
    for k, file in enumerate((source, keep_unfolded(source, tmp_path / "work"))):
        output = tmp_path / f"{k}.ms"
        toolchain.convert(ConvertRequest(file, output, "ONNX"))
        sizes.append(output.stat().st_size)
        with toolchain.load(output) as session:
            results.append(session.predict(x))
    folded = 2 * 4 * HEADS * TOKENS * TOKENS
    assert sizes[0] > folded
    assert sizes[1] < sizes[0] - folded / 2
    assert results[0].tobytes() == results[1].tobytes()


def test_convert_does_so(tmp_path, toolchain):
    report = convert(biased(tmp_path / "model.onnx"), tmp_path / "out", lite=toolchain)
    assert report.passed
    assert report.size_bytes < 2 * 4 * HEADS * TOKENS * TOKENS


def holds(file: Path, tmp_path: Path) -> int:
    copy = keep_unfolded(file, tmp_path / "work")
    return sum(n.op_type == "Add" and "msedge.zero" in n.input for n in onnx.load(str(copy)).graph.node)


@pytest.mark.parametrize("layers", [2, 3])
def test_each_growing_constant_is_held(tmp_path, layers):
    assert holds(biased(tmp_path / "model.onnx", layers), tmp_path) == layers


def test_what_does_not_grow_is_left_to_the_converter(tmp_path):
    source = biased(tmp_path / "model.onnx", layers=1, heads=2)  # the index is as large as the result that replaces it
    assert keep_unfolded(source, tmp_path / "work") == source


def test_what_costs_in_every_run_is_left_to_the_converter(tmp_path):
    source = biased(tmp_path / "model.onnx", on_the_way="Sin")
    assert keep_unfolded(source, tmp_path / "work") == source


def test_an_open_batch_is_left_alone(tmp_path):
    source = biased(tmp_path / "model.onnx", batch="n")
    assert keep_unfolded(source, tmp_path / "work") == source
