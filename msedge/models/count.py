"""Sizes of models: learned numbers, and multiply-adds counted in the graph that MindSpore would export."""

from __future__ import annotations

import math
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from msedge.mindspore_setup import load_mindspore
from msedge.models.spec import ModelSpec

if TYPE_CHECKING:
    from mindspore import nn

_NORMS = {"BatchNorm": 2, "LayerNorm": 5}


def count_params(cell: nn.Cell) -> int:
    """Learned numbers; running statistics do not count."""
    return sum(math.prod(p.shape) for p in cell.trainable_params())


def count_macs(model: nn.Cell | ModelSpec, image_size: int | None = None) -> int:
    """Multiply-adds of convolutions, matrix products (attention too) and norms for one image, as timm's tables have them.

    Norms count as in fvcore, which timm uses: 2 for each element of a BatchNorm, 5 for each of a LayerNorm.
    `image_size` in pixels, None: the model's own. Works for any cell on float32 [1, 3, S, S]; takes seconds, for the
    graph is compiled.
    """
    from msedge.models.create import build

    cell = build(model) if isinstance(model, ModelSpec) else model
    size = image_size or cell.image_size
    graph = _exported(cell, size)
    shapes = {p.name: tuple(p.dims) for p in [*graph.parameter, *graph.input[0].tensor]}
    shapes |= {i.name: tuple(i.tensor[0].dims) for i in graph.input if i.tensor}
    constant = {p.name for p in graph.parameter}  # and what is computed from nothing else: once, not for each image
    total = 0
    for node in graph.node:
        kind = node.op_type.split(":")[-2] if ":" in node.op_type else node.op_type
        shape = next((tuple(a.tensors[0].dims) for a in node.attribute if a.name == "shape" and a.tensors), None)
        for output in node.output:
            shapes[output] = shape or shapes.get(node.input[0] if node.input else "", ())
        if constant.issuperset(node.input):
            constant.update(node.output)
        elif kind == "Conv2D":
            total += math.prod(shape) * math.prod(shapes[node.input[1]][1:])
        elif kind in ("MatMul", "BatchMatMul", "Dense", "MatMulExt"):
            total += math.prod(shape) * shapes[node.input[0]][-1]
        elif kind in _NORMS:
            total += _NORMS[kind] * math.prod(shapes[node.input[0]])
    return total


def _exported(cell: nn.Cell, size: int):
    """The graph of MindSpore's own export, in its protobuf form."""
    ms = load_mindspore()
    from mindspore.train.mind_ir_pb2 import ModelProto

    training = cell.training
    cell.set_train(False)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.mindir"
        ms.export(cell, ms.Tensor(np.zeros((1, 3, size, size), np.float32)), file_name=str(path), file_format="MINDIR")
        model = ModelProto.FromString(path.read_bytes())
    cell.set_train(training)
    return model.graph
