"""An exported ONNX model as quantisation sees it: the nodes that can be quantised, and the tensors between them."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import onnx
from onnx import numpy_helper

from msedge.errors import ModelError
from msedge.runtime.onnx_graph import load_graph

# They move numbers and leave them as they are: a moved tensor is stored as its source is.
MOVEMENT = ("Reshape", "Transpose", "Gather", "Squeeze", "Unsqueeze", "Flatten", "Identity")
COMPUTE = ("Conv", "Gemm", "MatMul")
QUANTISED = ("QuantizeLinear", "DequantizeLinear", "QLinearConv", "QLinearMatMul", "ConvInteger", "MatMulInteger")


@dataclass(frozen=True)
class Unit:
    """A Conv, Gemm or MatMul. `inputs` are its activations (one, or two for a product of activations), `roots` the same
    followed back through movement to the tensor whose scale they share; `weight` and `bias` are initialisers or None;
    `axis` is the weight's axis of output channels; `output` is the tensor it writes."""

    name: str
    op: str
    inputs: tuple[str, ...]
    roots: tuple[str, ...]
    weight: str | None
    bias: str | None
    axis: int | None
    output: str


class ModelGraph:
    """`model` with its float `weights` (initialisers by name), its `units` by node name in the order of execution.

    Raises ModelError where a node has no name of its own or the model is quantised already.
    """

    def __init__(self, model: onnx.ModelProto):
        self.model = model
        self.nodes: list[onnx.NodeProto] = list(model.graph.node)
        self.weights: dict[str, np.ndarray] = {i.name: numpy_helper.to_array(i) for i in model.graph.initializer}
        (self.input,) = [i.name for i in model.graph.input if i.name not in self.weights]
        self.output = model.graph.output[0].name
        self._made_by = {o: n for n in self.nodes for o in n.output}
        self._check()
        self.units: dict[str, Unit] = {n.name: self._unit(n) for n in self.nodes if n.op_type in COMPUTE}

    @classmethod
    def load(cls, file: Path | str) -> ModelGraph:
        """Read an ONNX file. Raises ArtifactError, ModelError."""
        return cls(load_graph(Path(file)))

    def _check(self) -> None:
        if done := [n for n in self.nodes if n.op_type in QUANTISED]:
            raise ModelError(f"the model is quantised already: it has the node {done[0].name or done[0].op_type!r}",
                             "quantise the float model that it was made from")  # fmt: skip
        names = [n.name for n in self.nodes]
        if "" in names or len(set(names)) < len(names):
            raise ModelError("the model has nodes without names of their own", "export it with msedge")

    def root(self, tensor: str) -> str:
        """The tensor that `tensor` was moved from."""
        while (node := self._made_by.get(tensor)) is not None and node.op_type in MOVEMENT:
            if node.input[0] in self.weights:
                break
            tensor = node.input[0]
        return tensor

    def maker(self, tensor: str) -> onnx.NodeProto | None:
        """The node that computes a tensor; None for inputs and initialisers."""
        return self._made_by.get(tensor)

    def _unit(self, node: onnx.NodeProto) -> Unit:
        activations = tuple(i for i in node.input[:2] if i not in self.weights)
        weight = next((i for i in node.input[:2] if i in self.weights), None)
        bias = node.input[2] if len(node.input) > 2 and node.input[2] in self.weights else None
        roots = tuple(self.root(i) for i in activations)
        return Unit(node.name, node.op_type, activations, roots, weight, bias, self._axis(node, weight), node.output[0])

    def _axis(self, node: onnx.NodeProto, weight: str | None) -> int | None:
        if weight is None:
            return None
        if node.op_type == "Conv":
            return 0
        if node.op_type == "Gemm":
            return 0 if any(a.name == "transB" and a.i for a in node.attribute) else 1
        return self.weights[weight].ndim - 1

    @cached_property
    def fingerprint(self) -> str:
        """sha256 of the structure: operators, names, edges, shapes; not of the weights' values."""
        nodes = [[n.op_type, n.name, list(n.input), list(n.output)] for n in self.nodes]
        shapes = {name: list(w.shape) for name, w in self.weights.items() if w.dtype.kind == "f"}
        return hashlib.sha256(json.dumps([nodes, shapes], sort_keys=True).encode()).hexdigest()

    @cached_property
    def consumers(self) -> dict[str, tuple[onnx.NodeProto, ...]]:
        """The nodes that read each tensor."""
        found: dict[str, list[onnx.NodeProto]] = {}
        for node in self.nodes:
            for tensor in dict.fromkeys(node.input):
                found.setdefault(tensor, []).append(node)
        return {tensor: tuple(nodes) for tensor, nodes in found.items()}

    def with_weights(self, values: dict[str, np.ndarray]) -> ModelGraph:
        """A copy whose initialisers of these names have these values (same shapes and types)."""
        model = onnx.ModelProto()
        model.CopyFrom(self.model)
        for initializer in model.graph.initializer:
            if initializer.name in values:
                value = np.asarray(values[initializer.name], self.weights[initializer.name].dtype)
                initializer.CopyFrom(numpy_helper.from_array(np.ascontiguousarray(value), initializer.name))
        return ModelGraph(model)
