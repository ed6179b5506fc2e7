"""MindIR to ONNX."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import onnx

from msedge.errors import ExportError, MsedgeError
from msedge.exporter import layers
from msedge.exporter.build import to_model
from msedge.exporter.emitter import Emitter, Op
from msedge.exporter.graph import Graph
from msedge.exporter.mindir import read_mindir
from msedge.exporter.naming import finalise_names
from msedge.exporter.passes import optimise
from msedge.exporter.registry import find
from msedge.exporter.values import MindGraph, Result


def mindir_to_onnx(source: Path | str | Any, *, name: str = "model", metadata: dict[str, str] | None = None) -> onnx.ModelProto:
    """Translate a `.mindir` file, or a parsed MindIR `ModelProto`, to ONNX (opset 13, static shapes).

    The input is called `input`, the output `logits` (`input_0`..., `output_0`... where there are several). `metadata` goes
    to `metadata_props`. Raises ArtifactError for a damaged file, ExportError for what ONNX or msedge cannot express.
    """
    try:
        graph = _emit(read_mindir(source))
        optimise(graph)
    except MsedgeError:
        raise
    except Exception as e:  # bytes that happen to parse can hold any index, size and type
        what = source if isinstance(source, str | Path) else "the MindIR"
        raise ExportError(
            f"{what} cannot be translated: {type(e).__name__}: {e}",
            "the file may be damaged: export it again; where that does not help, report the model",
        ) from e
    finalise_names(graph, _numbered("input", "input", len(graph.inputs)), _numbered("logits", "output", len(graph.outputs)))
    return to_model(graph, name, metadata)


def _numbered(one: str, several: str, count: int) -> list[str]:
    return [one] if count == 1 else [f"{several}_{i}" for i in range(count)]


def _emit(mind: MindGraph) -> Graph:
    if not mind.inputs or not mind.outputs:
        raise ExportError("the MindIR has no input or no output tensor", "construct must map a tensor to a tensor")
    graph = Graph([i.name for i in mind.inputs], [])
    emitter = Emitter(graph)
    for i in mind.inputs:
        graph.unique(i.name)
        graph.types[i.name] = (i.shape, i.dtype)
        emitter.tensors[id(i)] = i.name
    places = layers.place(mind)
    for node in mind.nodes:
        op = Op(node, places[id(node)], emitter)
        results = find(op)(op)
        for k, tensor in enumerate([results] if isinstance(results, str) else results):
            emitter.tensors[id(node), k] = tensor
    graph.outputs = [_output(v, emitter) for v in mind.outputs]
    return graph


def _output(value: Any, emitter: Emitter) -> str:
    if isinstance(value, Result) and (id(value.node), value.index) not in emitter.tensors:
        raise ExportError(f"result {value.index} of {value.node.op} is an output of the model and cannot be exported")
    try:
        return emitter.tensor(value, "")
    except TypeError:
        raise ExportError("an output of the model is no tensor", "construct must return tensors") from None
