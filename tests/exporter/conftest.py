"""Cells go to ONNX and back here: `roundtrip` is what nearly every test of the package stands on."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import onnx
import pytest

from msedge.mindspore_setup import load_mindspore

ms = load_mindspore()

from msedge.exporter import cell_to_mindir, mindir_to_onnx  # noqa: E402
from msedge.exporter.check import check_structure, run_cell, run_onnx  # noqa: E402
from msedge.lite import ConvertRequest, Toolchain  # noqa: E402


class Calls(ms.nn.Cell):
    """A function as a cell."""

    def __init__(self, function):
        super().__init__()
        self.function = function

    def construct(self, x):
        return self.function(x)


def randomise(cell: ms.nn.Cell, noise: float = 0.1, seed: int = 0) -> ms.nn.Cell:
    """Weights that leave no term at zero or one, as after training; variances stay positive."""
    rng = np.random.default_rng(seed)
    for p in cell.get_parameters():
        if p.dtype != ms.float32:
            continue
        name = p.name.rpartition(".")[2]
        values = rng.uniform(0.5, 1.5, p.shape) if "var" in name else p.asnumpy() + noise * rng.standard_normal(p.shape)
        p.set_data(ms.Tensor(values.astype(np.float32)))
    return cell


def ops_of(model: onnx.ModelProto) -> Counter:
    return Counter(n.op_type for n in model.graph.node)


@pytest.fixture
def to_onnx(tmp_path: Path):
    """A cell or function, compiled for an input shape, as ONNX."""

    def translate(cell, shape: tuple[int, ...]) -> onnx.ModelProto:
        cell = cell if isinstance(cell, ms.nn.Cell) else Calls(cell)
        cell_to_mindir(cell, shape, tmp_path / "model.mindir")
        return mindir_to_onnx(tmp_path / "model.mindir")

    return translate


@pytest.fixture
def roundtrip(to_onnx):
    """As `to_onnx`, checked, run in onnxruntime and compared with the cell itself."""

    def run(
        cell, shape: tuple[int, ...], *, low: float = -2.0, high: float = 2.0, tolerance: float = 2e-5, noise: float = 0.1
    ) -> onnx.ModelProto:
        cell = cell if isinstance(cell, ms.nn.Cell) else Calls(cell)
        randomise(cell, noise)
        model = to_onnx(cell, shape)
        check_structure(model)
        x = np.random.default_rng(1).uniform(low, high, shape).astype(np.float32)
        expected, got = run_cell(cell, x), run_onnx(model, x)
        assert got.shape == expected.shape
        assert got.dtype == expected.dtype
        np.testing.assert_allclose(got, expected, rtol=1e-5, atol=tolerance * max(1.0, np.abs(expected).max()))
        assert np.ptp(expected) > 0 or expected.size == 1
        return model

    return run


@pytest.fixture
def check_twin(to_onnx):
    """A function without a CPU kernel gives as ONNX what its twin gives as a function."""

    def check(function, twin, shape: tuple[int, ...]) -> None:
        model = to_onnx(function, shape)
        check_structure(model)
        x = np.random.default_rng(1).uniform(-2, 2, shape).astype(np.float32)
        expected = twin(ms.Tensor(x)).asnumpy()
        assert np.ptp(expected) > 0
        np.testing.assert_allclose(run_onnx(model, x), expected, rtol=1e-5, atol=2e-5)

    return check


@pytest.fixture
def through_lite(toolchain: Toolchain, tmp_path: Path):
    """Convert an ONNX model and run it in the Lite runtime: the result for `x`, and how often each node type stands there."""

    def run(model: onnx.ModelProto, x: np.ndarray) -> tuple[np.ndarray, Counter]:
        source, output = tmp_path / "lite.onnx", tmp_path / "lite.ms"
        source.write_bytes(model.SerializeToString())
        toolchain.convert(ConvertRequest(source, output, "ONNX"))
        with toolchain.load(output) as session:
            nodes = session.trace(x, keep_outputs=False)
            return session.predict(x), Counter(n.type for n in nodes)

    return run
