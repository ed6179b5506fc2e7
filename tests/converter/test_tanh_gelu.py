"""The tanh form of GELU on request: fewer milliseconds, another function, judged against the exact one."""

from __future__ import annotations

from collections import Counter

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from msedge.converter import convert
from msedge.converter.tanh_gelu import with_tanh_gelu
from msedge.errors import UserError
from msedge.lite.ms_file import read_ms
from msedge.runtime import open_runner


def gelu_onnx(path, half: float = 0.5, gelus: int = 2):
    """[1, 3, 8, 8] to [1, 3]: convolutions with a GELU after each, in the order of nodes that the exporter writes."""
    rng = np.random.default_rng(0)
    numbers = {"root": 2**0.5, "one": 1.0, "half": half}
    weights = {name: np.float32(value) for name, value in numbers.items()}
    nodes, x = [], "input"
    for k in range(gelus):
        weights[f"w{k}"] = rng.normal(size=(3, 3, 1, 1)).astype(np.float32)
        nodes.append(
            helper.make_node("Conv", [x, f"w{k}"], [f"c{k}"], name=f"c{k}", strides=[1, 1], dilations=[1, 1], pads=[0] * 4)
        )
        x = f"c{k}"
        for op, inputs, out in (
            ("Div", [x, "root"], "div"), ("Erf", [f"div{k}"], "erf"), ("Add", [f"erf{k}", "one"], "add"),
            ("Mul", [x, f"add{k}"], "mul"), ("Mul", [f"mul{k}", "half"], "out"),
        ):  # fmt: skip
            nodes.append(helper.make_node(op, inputs, [f"{out}{k}"], name=f"{out}{k}"))
        x = f"out{k}"
    weights["shape"] = np.array([1, 3], np.int64)
    nodes.append(helper.make_node("GlobalAveragePool", [x], ["pool"], name="pool"))
    nodes.append(helper.make_node("Reshape", ["pool", "shape"], ["logits"], name="logits"))
    graph = helper.make_graph(
        nodes,
        "gelu",
        [helper.make_tensor_value_info("input", TensorProto.FLOAT, (1, 3, 8, 8))],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, (1, 3))],
        [numpy_helper.from_array(np.asarray(v), n) for n, v in weights.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=7)
    onnx.checker.check_model(model)
    onnx.save(model, str(path))
    return path


def run(path, x):
    return onnxruntime.InferenceSession(str(path)).run(None, {"input": x})[0]


def test_every_gelu_is_written_in_its_tanh_form(tmp_path):
    exact = gelu_onnx(tmp_path / "m.onnx")
    copy, count = with_tanh_gelu(exact, tmp_path)
    x = np.random.default_rng(1).normal(size=(1, 3, 8, 8)).astype(np.float32)
    counts = Counter(n.op_type for n in onnx.load(copy).graph.node)
    assert (count, counts["Erf"], counts["Tanh"]) == (2, 0, 2)
    apart = np.abs(run(copy, x) - run(exact, x)).max()
    assert 1e-7 < apart < 2e-3
    assert onnx.load(copy).graph.node[-3].name == "out1"  # a quantiser's list of nodes still finds it


def test_what_is_no_gelu_stays(tmp_path):
    file = gelu_onnx(tmp_path / "m.onnx", half=0.75)
    assert with_tanh_gelu(file, tmp_path) == (file, 0)


@pytest.mark.lite
def test_converted_with_one_node_each(tmp_path, toolchain):
    file = gelu_onnx(tmp_path / "m.onnx")
    report = convert(file, tmp_path / "tanh", gelu="tanh", lite=toolchain)
    assert report.passed
    assert report.tanh_gelus == 2
    assert "2 GELUs in tanh form" in report.verdict()
    x = np.random.default_rng(1).normal(size=(1, 3, 8, 8)).astype(np.float32)
    with open_runner(report.model, lite=toolchain) as tanh:
        np.testing.assert_allclose(tanh.predict(x), run(file, x), atol=2e-3)
    assert len(read_ms(report.model).nodes) == len(read_ms(convert(file, tmp_path / "exact", lite=toolchain).model).nodes)


@pytest.mark.lite
def test_bad_requests(tmp_path, toolchain):
    lines = []
    file = gelu_onnx(tmp_path / "m.onnx", gelus=0)
    convert(file, tmp_path / "out", gelu="tanh", lite=toolchain, say=lines.append)
    assert any("has no GELU" in line for line in lines)
    with pytest.raises(UserError, match="there is no GELU 'fast'"):
        convert(file, tmp_path / "out", gelu="fast", lite=toolchain)
