"""profile on real models in the real runtimes."""

from __future__ import annotations

import numpy as np
import onnx
import pytest

from msedge.benchmark import profile
from msedge.benchmark.profiling import Node, Samples, summarise
from msedge.errors import ArtifactError, ToolMissing, UserError
from msedge.lite import ConvertRequest, read_ms

KEYS = {"model", "runtime", "threads", "runs", "node_count", "nodes_ms", "plain_ms", "reported_ms", "node_floor_ms"}
KEYS |= {"types", "nodes"}


def check_sums(found):
    assert set(found) == KEYS
    assert found["node_count"] == len(found["nodes"]) == sum(t["nodes"] for t in found["types"])
    assert sum(n["share"] for n in found["nodes"]) == pytest.approx(1, abs=0.01)
    assert sum(t["ms"] for t in found["types"]) == pytest.approx(found["nodes_ms"], abs=0.01)
    assert [t["ms"] for t in found["types"]] == sorted((t["ms"] for t in found["types"]), reverse=True)
    assert 0 < found["node_floor_ms"] == min(n["ms"] for n in found["nodes"])
    assert 0 < found["plain_ms"] < 1000
    assert 0 < found["reported_ms"] < 1000


@pytest.mark.lite
@pytest.mark.parametrize("threads", [1, 2])
def test_every_node_of_a_ms_is_timed(ms_file, toolchain, threads):
    found = profile(ms_file, threads=threads, runs=7, warmup=1, lite=toolchain)
    check_sums(found)
    assert (found["runtime"], found["threads"], found["runs"]) == ("lite", threads, 7)
    assert [(n["name"], n["type"]) for n in found["nodes"]] == [(n.name, n.op) for n in read_ms(ms_file).nodes]
    assert found["nodes"][0]["shape"] == [1, 16, 16, 8]


def test_every_node_of_an_onnx_file_is_timed(onnx_file):
    found = profile(onnx_file, runs=7, warmup=1)
    check_sums(found)
    assert found["runtime"] == "onnxruntime"
    operators = {t["type"] for t in found["types"]}
    assert {"Conv", "GlobalAveragePool", "Gemm"} <= {name.removeprefix("Fused") for name in operators}
    assert found["nodes"][-1]["shape"] == [1, 3]


@pytest.mark.lite
def test_the_node_with_the_work_is_the_slowest(toolchain, tmp_path):
    """256 x 256 x 3 x 3 weights on 32 x 32 pixels between two that do next to nothing."""
    file = one_large_convolution(tmp_path / "large.onnx")
    toolchain.convert(ConvertRequest(file, tmp_path / "large.ms", "ONNX"))
    for model in (file, tmp_path / "large.ms"):
        found = profile(model, runs=5, warmup=1, lite=toolchain)
        slowest = max(found["nodes"], key=lambda n: n["ms"])
        assert slowest["name"].startswith("large")
        assert slowest["share"] > 0.5
        assert found["nodes_ms"] > 0.5


def one_large_convolution(path):
    rng = np.random.default_rng(0)
    weights = {"small": (256, 3, 1, 1), "large": (256, 256, 3, 3), "last": (8, 256, 1, 1)}
    values = {name: (rng.standard_normal(shape) * 0.05).astype(np.float32) for name, shape in weights.items()}
    nodes, x = [], "x"
    for name, shape in weights.items():
        k = shape[2]
        fixed = {"kernel_shape": [k, k], "strides": [1, 1], "dilations": [1, 1], "pads": [k // 2] * 4}
        nodes.append(onnx.helper.make_node("Conv", [x, f"{name}.weight"], [f"{name}.out"], name=name, **fixed))
        x = f"{name}.out"
    info = onnx.helper.make_tensor_value_info
    graph = onnx.helper.make_graph(
        nodes,
        "large",
        [info("x", onnx.TensorProto.FLOAT, [1, 3, 32, 32])],
        [info(x, onnx.TensorProto.FLOAT, [1, 8, 32, 32])],
        [onnx.numpy_helper.from_array(value, f"{name}.weight") for name, value in values.items()],
    )
    onnx.save(onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 13)], ir_version=8), path)
    return path


def test_medians_of_nodes_are_summed_by_type():
    nodes = (Node("a", "Conv", (1, 2)), Node("b", "Add", ()), Node("c", "Conv", (3,)))
    node_ms = np.array([[1.0, 0.5, 3.0], [1.0, 0.5, 3.0], [9.0, 0.5, 2.0]])
    found = summarise(Samples(nodes, node_ms, np.array([6.0, 5.0, 7.0]), np.array([4.0, 5.0, 90.0])))
    assert (found["nodes_ms"], found["plain_ms"], found["reported_ms"], found["node_floor_ms"]) == (4.5, 5.0, 6.0, 0.5)
    assert [(t["type"], t["nodes"], t["ms"]) for t in found["types"]] == [("Conv", 2, 4.0), ("Add", 1, 0.5)]
    assert [n["ms"] for n in found["nodes"]] == [1.0, 0.5, 3.0]
    assert found["nodes"][2]["share"] == pytest.approx(0.6667)


def test_what_cannot_be_profiled(onnx_file, tmp_path):
    with pytest.raises(ArtifactError, match="there is no model"):
        profile(tmp_path / "nothere.ms")
    with pytest.raises(UserError, match="0 runs"):
        profile(onnx_file, runs=0)
    (tmp_path / "best.ckpt").write_bytes(b"x")
    with pytest.raises(UserError, match="cannot be profiled"):
        profile(tmp_path)


@pytest.mark.lite
def test_a_toolchain_without_reports_is_named(ms_file, toolchain):
    class Quiet:
        """The real toolchain, but its sessions know that it cannot trace."""

        info = toolchain.info

        def load(self, model, threads):
            session = toolchain.load(model, threads)
            session._can_trace = False
            return session

    with pytest.raises(ToolMissing, match="cannot report single nodes"):
        profile(ms_file, runs=1, lite=Quiet())
