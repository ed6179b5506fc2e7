"""Files of every architecture at full size are as large as what was learned, and compute what the cell does."""

from __future__ import annotations

import numpy as np
import pytest

from msedge.converter.unfolded import keep_unfolded
from msedge.lite import ConvertRequest
from msedge.mindspore_setup import load_mindspore
from msedge.models import count_params, create_model, list_models

ms = load_mindspore()

from msedge.exporter import cell_to_mindir, mindir_to_onnx  # noqa: E402
from msedge.exporter.check import run_cell, run_onnx  # noqa: E402


def scattered(cell: ms.nn.Cell) -> ms.nn.Cell:
    """With no two tables of positions alike and no scale at one: equal constants would be stored once."""
    rng = np.random.default_rng(0)
    for p in cell.trainable_params():
        p.set_data(ms.Tensor((p.asnumpy() + 0.02 * rng.standard_normal(p.shape)).astype(np.float32)))
    return cell


@pytest.mark.slow
@pytest.mark.lite
@pytest.mark.parametrize("name", list_models())
def test_onnx_and_ms_hold_little_but_the_learned_numbers(name, tmp_path, toolchain):
    cell = scattered(create_model(name))
    learned, size = 4 * count_params(cell), cell.image_size
    cell_to_mindir(cell, (1, 3, size, size), tmp_path / "model.mindir")
    model = mindir_to_onnx(tmp_path / "model.mindir")
    source, output = tmp_path / "model.onnx", tmp_path / "model.ms"
    source.write_bytes(model.SerializeToString())
    toolchain.convert(ConvertRequest(keep_unfolded(source, tmp_path), output, "ONNX"))
    sizes = {file.suffix: file.stat().st_size / learned for file in (source, output)}
    assert all(0.99 < s <= 1.03 for s in sizes.values()), sizes
    x = np.random.default_rng(3).standard_normal((1, 3, size, size)).astype(np.float32)
    expected = run_cell(cell, x)
    scale = max(1.0, np.abs(expected).max())
    assert run_onnx(model, x) == pytest.approx(expected, abs=1e-4 * scale)
    with toolchain.load(output) as session:
        assert session.predict(x) == pytest.approx(expected, abs=1e-3 * scale)
