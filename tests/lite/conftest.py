"""Small models made by code, and the real toolchain out of the user's cache (installed there on first use)."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from msedge.lite import ConvertRequest, Toolchain, find_toolchain
from msedge.lite.install import install

SIZE = 16
CLASSES = 5
FULL_QUANT = """[common_quant_param]
quant_type=FULL_QUANT
bit_num=8
min_quant_weight_size=0
min_quant_weight_channel=0

[data_preprocess_param]
calibrate_path=x:{calibration}
calibrate_size={count}
input_type=BIN

[full_quant_param]
activation_quant_method=MAX_MIN
bias_correction=false
per_channel=true
"""


def make_network(batch: int = 1, hidden: int = 0, every_output: bool = False) -> onnx.ModelProto:
    """Conv, Relu, GlobalAveragePool, Flatten, canonical LayerNorm, Gemm; `hidden` adds a wide MLP for a large file."""
    rng = np.random.default_rng(7)

    def constant(name: str, *shape: int, scale: float = 0.5) -> onnx.TensorProto:
        return numpy_helper.from_array((rng.standard_normal(shape) * scale).astype(np.float32), name)

    constants = [constant("w", 8, 3, 3, 3), constant("b", 8), constant("gamma", 8), constant("beta", 8)]
    constants += [constant("fw", CLASSES, 8), constant("fb", CLASSES)]
    constants += [numpy_helper.from_array(np.float32(v), n) for n, v in (("two", 2.0), ("eps", 1e-5))]
    nodes = [
        helper.make_node(
            "Conv", ["x", "w", "b"], ["c"], "stem/conv", kernel_shape=[3, 3], pads=[1] * 4, strides=[2, 2], dilations=[1, 1]
        ),
        helper.make_node("Relu", ["c"], ["r"], "stem/relu"),
        helper.make_node("GlobalAveragePool", ["r"], ["p"], "pool"),
        helper.make_node("Flatten", ["p"], ["f"], "flat"),
        helper.make_node("ReduceMean", ["f"], ["mean"], "norm/mean", axes=[-1], keepdims=1),
        helper.make_node("Sub", ["f", "mean"], ["centred"], "norm/sub"),
        helper.make_node("Pow", ["centred", "two"], ["squared"], "norm/pow"),
        helper.make_node("ReduceMean", ["squared"], ["variance"], "norm/variance", axes=[-1], keepdims=1),
        helper.make_node("Add", ["variance", "eps"], ["stable"], "norm/eps"),
        helper.make_node("Sqrt", ["stable"], ["deviation"], "norm/sqrt"),
        helper.make_node("Div", ["centred", "deviation"], ["normal"], "norm/div"),
        helper.make_node("Mul", ["normal", "gamma"], ["scaled"], "norm/scale"),
        helper.make_node("Add", ["scaled", "beta"], ["n"], "norm/shift"),
    ]
    last = "n"
    if hidden:
        constants += [constant("up", 8, hidden), constant("down", hidden, 8, scale=0.01)]
        nodes += [
            helper.make_node("MatMul", ["n", "up"], ["wide"], "mlp/up"),
            helper.make_node("MatMul", ["wide", "down"], ["narrow"], "mlp/down"),
        ]
        last = "narrow"
    nodes.append(helper.make_node("Gemm", [last, "fw", "fb"], ["y"], "head/gemm", transB=1))
    outputs = [helper.make_tensor_value_info("y", TensorProto.FLOAT, [batch, CLASSES])]
    if every_output:
        outputs += [helper.make_tensor_value_info(n.output[0], TensorProto.FLOAT, None) for n in nodes[:-1]]
    image = helper.make_tensor_value_info("x", TensorProto.FLOAT, [batch, 3, SIZE, SIZE])
    graph = helper.make_graph(nodes, "small", [image], outputs, constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    if not every_output:  # whose shapes onnxruntime works out
        onnx.checker.check_model(model)
    return model


@pytest.fixture(scope="session")
def network() -> Callable[..., onnx.ModelProto]:
    return make_network


@pytest.fixture(scope="session")
def images() -> np.ndarray:
    """float32 [6, 3, 16, 16]"""
    return np.random.default_rng(1).standard_normal((6, 3, SIZE, SIZE)).astype(np.float32)


@pytest.fixture(scope="session")
def own_copy() -> Path:
    """The folder of msedge's own MindSpore Lite."""
    return install()


@pytest.fixture(scope="session")
def toolchain(own_copy: Path) -> Toolchain:
    """The native toolchain."""
    return find_toolchain(str(own_copy))


@pytest.fixture(scope="session")
def small_onnx(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("onnx") / "small.onnx"
    onnx.save(make_network(), path)
    return path


@pytest.fixture(scope="session")
def full_quant_config(tmp_path_factory: pytest.TempPathFactory, images: np.ndarray) -> str:
    folder = tmp_path_factory.mktemp("calibration")
    for i, image in enumerate(images):
        np.ascontiguousarray(image.transpose(1, 2, 0)).tofile(folder / f"{i}.bin")
    return FULL_QUANT.format(calibration=folder, count=len(images))


@pytest.fixture(scope="session")
def small_ms(toolchain: Toolchain, small_onnx: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("ms") / "small.ms"
    toolchain.convert(ConvertRequest(small_onnx, path, "ONNX"))
    return path


@pytest.fixture(scope="session")
def int8_ms(toolchain: Toolchain, small_onnx: Path, full_quant_config: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("ms") / "int8.ms"
    toolchain.convert(ConvertRequest(small_onnx, path, "ONNX", full_quant_config))
    return path


@pytest.fixture
def hanging_config(tmp_path: Path) -> str:
    """A calibration folder whose only file is a pipe that nobody writes: the real converter waits for it for ever."""
    folder = tmp_path / "hanging"
    folder.mkdir()
    os.mkfifo(folder / "0.bin")
    return FULL_QUANT.format(calibration=folder, count=1)


def process_lives(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state not in "ZX"


@pytest.fixture(scope="session")
def ends_soon() -> Callable[[int], bool]:
    """Whether a process ends within two seconds."""

    def ended(pid: int) -> bool:
        deadline = time.monotonic() + 2
        while process_lives(pid) and time.monotonic() < deadline:
            time.sleep(0.02)
        return not process_lives(pid)

    return ended


@pytest.fixture(scope="session")
def python_toolchain() -> Toolchain:
    """A toolchain of kind "python": the interpreter named by MSEDGE_TEST_LITE_PYTHON."""
    interpreter = os.environ.get("MSEDGE_TEST_LITE_PYTHON")
    if not interpreter:
        pytest.skip("MSEDGE_TEST_LITE_PYTHON names no interpreter with mindspore_lite (CPython 3.7 for version 2.0.0)")
    return find_toolchain(interpreter)
