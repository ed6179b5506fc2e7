"""What every unit of a model computes for an image: simulated, or read from the real runtime node by node.

A converted model's nodes keep their ONNX names, so a trace of MindSpore Lite tells the values of an ONNX tensor: int8 ones
are dequantised by the plan, NHWC ones turned to NCHW.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from msedge.errors import ModelError
from msedge.lite.ms_file import read_ms
from msedge.lite.protocol import NodeTrace
from msedge.quantization.graph import ModelGraph
from msedge.quantization.plan import Plan, dequantize_array
from msedge.runtime.lite_runner import LiteRunner


@dataclass(frozen=True)
class Traced:
    """The value of one runtime node, float32 in the runtime's layout; `unit` says whether it is a unit of the graph."""

    name: str
    type: str
    value: np.ndarray
    unit: bool


class RuntimeNodes:
    """A loaded `.ms` of `graph` whose nodes can be read; int8 values are read by `plan`.

    Raises ToolMissing where the toolchain reports no nodes, ModelError where the `.ms` is of another model.
    """

    def __init__(self, runner: LiteRunner, graph: ModelGraph, plan: Plan | None = None):
        self.runner, self.graph, self.plan = runner, graph, plan
        self._node_of = {n.name: n for n in graph.nodes}

    def trace(self, image: np.ndarray) -> list[Traced]:
        """All nodes with a floating-point or planned int8 value, in the order of execution, for float32 [1, 3, H, W]."""
        return self.real(self.read(image))

    def read(self, image: np.ndarray) -> list[NodeTrace]:
        """What the runtime reports, values as stored."""
        return [node for node in self.runner.session.trace(image) if node.outputs]

    def real(self, nodes: list[NodeTrace]) -> list[Traced]:
        """The same as real numbers, without nodes whose scale is not known. Raises ModelError where none is of the graph."""
        found = []
        for node in nodes:
            value = self._real(node.name, node.outputs[0])
            if value is not None:
                found.append(Traced(node.name, node.type, value, node.name in self.graph.units))
        if not any(t.unit for t in found):
            raise ModelError(f"{self.runner.file} has no node of the ONNX model", "convert the ONNX that the plan is for")
        return found

    def _real(self, name: str, stored: np.ndarray) -> np.ndarray | None:
        if stored.dtype.kind == "f":
            return stored.astype(np.float32, copy=False)
        if stored.dtype != np.int8 or name not in self._node_of or self.plan is None:
            return None
        own = self.graph.root(self._node_of[name].output[0])
        planned = self.plan.tensors.get(self.tensor_of.get(name, own), self.plan.tensors.get(own))
        return dequantize_array(stored, planned) if planned else None

    @cached_property
    def tensor_of(self) -> dict[str, str]:
        """The ONNX tensor that each unit's runtime node writes: its own output, or what the converter fused behind it."""
        nodes = {n.name: n for n in read_ms(self.runner.file).nodes}
        found = {}
        for name, unit in self.graph.units.items():
            found[name], node = unit.output, nodes.get(name)
            constants = (unit.weight is not None) + (unit.bias is not None)
            if node and len(node.inputs) > len(unit.inputs) + constants:
                found[name] = self._behind(found[name])
            if node and node.attributes.get("activation_type") not in (None, "NO_ACTIVATION"):
                found[name] = self._behind(found[name])
        return found

    def _behind(self, tensor: str) -> str:
        readers = self.graph.consumers.get(tensor, ())
        return readers[0].output[0] if len(readers) == 1 else tensor

    def units(self, image: np.ndarray, shapes: dict[str, tuple[int, ...]]) -> dict[str, np.ndarray]:
        """Values of the units by name in the order of execution; `shapes` are those of the ONNX tensors in `tensor_of`."""
        return self.in_onnx_layout(self.trace(image), shapes)

    def in_onnx_layout(self, traced: list[Traced], shapes: dict[str, tuple[int, ...]]) -> dict[str, np.ndarray]:
        """The units among traced nodes, in the shapes of their ONNX tensors. Raises ModelError where sizes differ."""
        return {t.name: _in_layout(t, self.graph.units[t.name].op, shapes[self.tensor_of[t.name]]) for t in traced if t.unit}


def _in_layout(traced: Traced, op: str, shape: tuple[int, ...]) -> np.ndarray:
    value = traced.value
    if value.size != math.prod(shape):
        raise ModelError(f"the node {traced.name!r} of the .ms gives {list(value.shape)}, that of the ONNX model {list(shape)}",
                         "convert the ONNX that the plan is for")  # fmt: skip
    if op == "Conv" and value.ndim == 4:
        value = value.transpose(0, 3, 1, 2)
    return value.reshape(shape)
