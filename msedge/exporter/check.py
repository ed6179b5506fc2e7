"""What every exported file must pass before it gets its name."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx

from msedge.errors import CheckFailed, ExportError
from msedge.exporter.mindir_writer import first_line, inference
from msedge.mindspore_setup import load_mindspore

ms = load_mindspore()

TOLERANCE = 1e-4  # of logits up to 5 in size; it grows with the largest one, as the grain of float32 does


def check_structure(model: onnx.ModelProto) -> None:
    """The ONNX checker with strict shape inference, and no tensor without elements. Raises ExportError."""
    try:
        onnx.checker.check_model(model, full_check=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as e:
        raise ExportError(f"the ONNX checker refuses the graph: {e}", "this is an error of msedge: report the model") from e
    graph = model.graph
    empty = [t.name for t in graph.initializer if 0 in t.dims]
    empty += [v.name for v in graph.value_info if any(d.dim_value == 0 for d in v.type.tensor_type.shape.dim)]
    if empty:
        raise ExportError(
            f"the tensor {empty[0]} has no elements", "runtimes refuse such tensors: remove that part of the cell"
        )


def run_cell(cell: ms.nn.Cell, inputs: np.ndarray) -> np.ndarray:
    """The cell's first output for float32 [N, C, H, W], operator by operator (no second compilation)."""
    mode = ms.get_context("mode")
    ms.set_context(mode=ms.PYNATIVE_MODE)
    try:
        with inference(cell):
            return _first(cell(ms.Tensor(inputs))).asnumpy()
    except Exception as e:  # kernels raise whatever class they like
        raise ExportError(
            f"{type(cell).__name__} does not run for input {list(inputs.shape)} on this machine: {first_line(e)}",
            "the export is checked against the cell: it must run here",
        ) from e
    finally:
        ms.set_context(mode=mode)


def run_onnx(model: onnx.ModelProto, inputs: np.ndarray) -> np.ndarray:
    """The first output in onnxruntime, `inputs` cut to the model's batch."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    source = session.get_inputs()[0]
    return in_batches(inputs, source.shape[0], lambda x: session.run(None, {source.name: x})[0])


def run_mindir(path: Path, inputs: np.ndarray, batch: int) -> np.ndarray:
    """The first output of a `.mindir` loaded by MindSpore."""
    cell = ms.nn.GraphCell(ms.load(str(path)))
    return in_batches(inputs, batch, lambda x: _first(cell(ms.Tensor(x))).asnumpy())


def in_batches(inputs: np.ndarray, batch: int, run) -> np.ndarray:
    """`run` on pieces of exactly `batch` images; the last one is filled up with its last image."""
    if len(inputs) == batch:
        return run(inputs)
    parts = []
    for start in range(0, len(inputs), batch):
        part = inputs[start : start + batch]
        taken = len(part)
        part = np.concatenate([part, np.repeat(part[-1:], batch - taken, axis=0)])
        parts.append(run(part)[:taken])
    return np.concatenate(parts)


def compare(what: str, got: np.ndarray, expected: np.ndarray) -> float:
    """The largest absolute difference of logits. Raises CheckFailed where it is over the tolerance."""
    if not np.isfinite(expected).all():
        raise CheckFailed("the cell itself gives numbers that are not finite", "the weights may be damaged: train again")
    if got.shape != expected.shape:
        raise CheckFailed(f"{what} gives {list(got.shape)}, the cell {list(expected.shape)}", "report the model")
    worst = float(np.abs(got - expected).max())
    allowed = TOLERANCE * max(1.0, float(np.abs(expected).max()) / 5)
    if not worst <= allowed:
        raise CheckFailed(
            f"{what} differs from the cell by {worst:.3g} on {len(expected)} golden inputs (allowed: {allowed:.3g})",
            "an operator is exported wrong: report the model",
        )
    return worst


def _first(result) -> ms.Tensor:
    while isinstance(result, tuple | list):
        result = result[0]
    return result
