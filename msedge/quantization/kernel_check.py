"""Does each int8 kernel of the real runtime compute what the plan says, given the very inputs that it got?

Errors of the nodes before do not enter: what a node read is taken from the same trace, and its exact output computed from
that. A right kernel is off by one step at most, where it rounds otherwise.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import onnx
from onnx import helper, numpy_helper

from msedge.lite.ms_file import MsNode, read_ms
from msedge.quantization.graph import ModelGraph, Unit
from msedge.quantization.onnx_simulation import open_session
from msedge.quantization.plan import Plan, dequantize_array, fake_quantize, quantize_array
from msedge.quantization.qdq import integer_bias

Shapes = Mapping[str, tuple[int, ...]]


class KernelCheck:
    """For a `.ms` (its bytes) that `plan` was written into. Raises ArtifactError where it is damaged."""

    def __init__(self, ms: bytes, graph: ModelGraph, plan: Plan):
        model = read_ms(ms)
        self.graph, self.plan = graph, plan
        self._maker = {t: node.name for node in model.nodes for t in node.outputs}
        self._nodes: dict[str, MsNode] = {n.name: n for n in model.nodes}
        self._sessions: dict[str, object] = {}

    def steps(self, name: str, outputs: Mapping[str, np.ndarray], shapes: Shapes) -> int | None:
        """The largest difference between the stored output of a unit and the exact one, in steps of its scale.

        `outputs` are the stored outputs of runtime nodes by name, `shapes` those of the ONNX tensors. None where the unit
        does not compute in int8, or another node is fused into it, or its inputs cannot be told.
        """
        unit, node, got = self.graph.units[name], self._nodes.get(name), outputs.get(name)
        if node is None or got is None or got.dtype != np.int8 or self.plan.nodes[name].precision != "int8":
            return None
        constants = (unit.weight is not None) + (unit.bias is not None)
        if (
            node.attributes.get("activation_type") not in (None, "NO_ACTIVATION")
            or len(node.inputs) != len(unit.inputs) + constants
        ):
            return None
        inputs = [self._input(i, unit, node, outputs, shapes[tensor]) for i, tensor in enumerate(unit.inputs)]
        if any(i is None for i in inputs):
            return None
        exact = self._session(unit).run(None, dict(zip(unit.inputs, inputs, strict=True)))[0]
        stored = got.transpose(0, 3, 1, 2) if unit.op == "Conv" else got
        wanted = quantize_array(exact, self.plan.tensors[unit.output])
        return int(np.abs(wanted - stored.reshape(wanted.shape).astype(np.int32)).max())

    def _input(
        self, i: int, unit: Unit, node: MsNode, outputs: Mapping[str, np.ndarray], shape: tuple[int, ...]
    ) -> np.ndarray | None:
        value = outputs.get(self._maker.get(node.inputs[i], ""))
        if value is None or value.dtype != np.int8 or value.size != int(np.prod(shape)):
            return None
        if unit.op == "Conv":
            value = value.transpose(0, 3, 1, 2)
        elif len(unit.inputs) == 2 and node.attributes.get("transpose_b" if i else "transpose_a"):
            value = np.swapaxes(value, -1, -2)
        if value.shape != shape and value.shape[-1] != shape[-1]:
            return None
        return dequantize_array(value, self.plan.tensors[unit.roots[i]]).reshape(shape)

    def _session(self, unit: Unit):
        if unit.name not in self._sessions:
            self._sessions[unit.name] = open_session(self._alone(unit))
        return self._sessions[unit.name]

    def _alone(self, unit: Unit) -> onnx.ModelProto:
        """The node in a model of its own, with the weights as they are stored."""
        node = next(n for n in self.graph.nodes if n.name == unit.name)
        constants = {i: self.graph.weights[i] for i in node.input if i in self.graph.weights}
        if unit.weight:
            constants[unit.weight] = fake_quantize(self.graph.weights[unit.weight], self.plan.tensors[unit.weight])
        if unit.bias:
            scale, stored = integer_bias(self.graph, self.plan, unit)
            constants[unit.bias] = (stored * scale).astype(np.float32)
        floats = onnx.TensorProto.FLOAT
        graph = helper.make_graph(
            [node],
            unit.name,
            [helper.make_tensor_value_info(i, floats, None) for i in dict.fromkeys(unit.inputs)],
            [helper.make_tensor_value_info(unit.output, floats, None)],
            [numpy_helper.from_array(np.ascontiguousarray(v), n) for n, v in constants.items()],
        )
        model = helper.make_model(graph, ir_version=self.graph.model.ir_version)
        del model.opset_import[:]
        model.opset_import.extend(self.graph.model.opset_import)
        return model
