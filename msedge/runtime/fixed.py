"""ONNX files of others brought into the form that the converter takes: a fixed batch, and an input name for the INI."""

from __future__ import annotations

import re
from pathlib import Path

import onnx

from msedge.artifact import writing
from msedge.errors import ModelError
from msedge.progress import Say
from msedge.runtime.onnx_graph import load_graph


def fixed_onnx(file: Path, work: Path, say: Say) -> Path:
    """`file` itself, or a copy in `work` with an open batch set to 1 and a name without `:` for the input.

    Raises ModelError where the image size is open or the input is not one image tensor.
    """
    graph = load_graph(file).graph
    weights = {i.name for i in graph.initializer}
    inputs = [i for i in graph.input if i.name not in weights]
    if len(inputs) != 1 or len(inputs[0].type.tensor_type.shape.dim) != 4:
        found = ", ".join(i.name for i in inputs) or "none"
        raise ModelError(f"{file} does not take one image tensor [N, C, H, W]: its inputs are {found}")
    batch, *rest = (d.dim_value for d in inputs[0].type.tensor_type.shape.dim)
    if not all(rest):
        raise ModelError(f"{file} leaves the size of its images open", "export it with a fixed size")
    name = re.sub(r"[:,;\s]", "_", inputs[0].name)
    if batch and name == inputs[0].name:
        return file
    model = onnx.load(str(file))
    if not batch:
        say(f"{file} takes any number of images: the .ms takes one at a time")
        _fix_batch(model, inputs[0].name)
    _rename(model, inputs[0].name, name)
    copy = work / f"fixed-{file.name}"
    with writing(work):
        onnx.save(model, str(copy))
    return copy


def _fix_batch(model: onnx.ModelProto, input_name: str) -> None:
    """Set the input's first dimension to 1; shapes inside that were inferred for the open batch are dropped."""
    value = next(i for i in model.graph.input if i.name == input_name)
    value.type.tensor_type.shape.dim[0].dim_value = 1
    del model.graph.value_info[:]
    for output in model.graph.output:
        dims = output.type.tensor_type.shape.dim
        if dims and not dims[0].dim_value:
            dims[0].dim_value = 1


def _rename(model: onnx.ModelProto, old: str, new: str) -> None:
    for value in model.graph.input:
        value.name = new if value.name == old else value.name
    for node in model.graph.node:
        node.input[:] = [new if i == old else i for i in node.input]
