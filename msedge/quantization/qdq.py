"""A plan written into its ONNX model as QuantizeLinear and DequantizeLinear, as ONNX Runtime, OpenVINO and TensorRT read it.

The output of an int8 node keeps its name behind the pair: every reader gets what was stored. An input that no int8 node
wrote itself gets a pair of its own, `<tensor>/quantized`, read by int8 nodes only; its float readers keep the float tensor.
The pair stands right behind the node, before any activation function: Lite's int8 kernels store their output there.

Activations are uint8 (stored + 128) unless int8 is asked for: onnxruntime on x86 fuses Conv and Gemm with int8 activations only
with `session.qdqisint8allowed`, and OpenVINO 2026.4 computes wrong numbers for an int8 pair behind Concat. TensorRT wants int8,
and symmetric scales.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np
import onnx
from numpy.typing import ArrayLike
from onnx import NodeProto, helper, numpy_helper

from msedge.errors import ArtifactError
from msedge.quantization.graph import ModelGraph, Unit
from msedge.quantization.plan import Plan, TensorPlan, fake_quantize, quantize_array

_CONTRIB = "com.microsoft"  # its operators take 16 bits at opset 13; onnxruntime only
_INT32 = 2**31 - 1


def to_qdq(graph: ModelGraph, plan: Plan, unsigned: bool = True) -> onnx.ModelProto:
    """The model with int8 weights per channel, int32 biases (scale: input times weight) and pairs around its int8 nodes.

    Nodes of precision `weight` read an int8 weight; with groups or more than 8 bits, the float values that it stands for.
    Raises ArtifactError where the plan does not fit the model, or stores an int8 node's weight in groups or in over 8 bits.
    """
    return rewrite(graph, plan, _stored_weight, _stored_bias, unsigned=unsigned)


def to_fake_quantized(
    graph: ModelGraph, plan: Plan, fake: Callable[[str, TensorPlan], np.ndarray] | None = None, outputs: tuple[str, ...] = ()
) -> onnx.ModelProto:
    """The same numbers with float weights and biases: any bits, any groups. `fake(name, plan)` gives a weight as it is after
    being stored (default: computed here); `outputs` are tensors to have beside the model's own output."""
    fake = fake or (lambda name, t: fake_quantize(graph.weights[name], t))
    return rewrite(graph, plan, partial(_fake_weight, fake), _fake_bias, outputs)


class Rewritten:
    """The nodes and initialisers of a model being written; a constant is stored once for each name."""

    def __init__(self, graph: ModelGraph, plan: Plan, unsigned: bool):
        self.graph, self.plan, self.unsigned = graph, plan, unsigned
        self.nodes: list[NodeProto] = []
        self.constants: dict[str, np.ndarray] = {}
        self._made: set[str] = set()

    def constant(self, name: str, value: np.ndarray) -> str:
        self.constants[name] = np.ascontiguousarray(value)
        return name

    def node(self, op: str, inputs: list[str], output: str, **attributes) -> str:
        """Append a node that makes `output`, once; returns the output."""
        if output not in self._made:
            self._made.add(output)
            self.nodes.append(helper.make_node(op, inputs, [output], name=f"{output}/{op}", **attributes))
        return output

    def pair(self, source: str, output: str, t: TensorPlan, key: str) -> str:
        """Quantise and dequantise `source` into `output`; the constants are named after `key`."""
        wide, storage = ({"domain": _CONTRIB}, 16) if t.bits > 8 else ({}, 8)
        if (t.low, t.high) != (-(2 ** (storage - 1)), 2 ** (storage - 1) - 1):
            low, high = ((bound - t.zero_point[0]) * t.scale[0] for bound in (t.low, t.high))
            bounds = [self.constant(f"{key}/{n}", np.float32(v)) for n, v in (("low", low), ("high", high))]
            source = self.node("Clip", [source, *bounds], f"{output}/clipped")
        scale, zero = t.scale[0], t.zero_point[0] + (2 ** (storage - 1) if self.unsigned else 0)
        constants = self.scale_and_zero(key, scale, zero, np.dtype(f"{'u' if self.unsigned else ''}int{storage}"))
        stored = self.node("QuantizeLinear", [source, *constants], f"{output}/stored", **wide)
        return self.node("DequantizeLinear", [stored, *constants], output, **wide)

    def dequantized(self, stored: np.ndarray, t: TensorPlan, key: str) -> str:
        """Stored integers and the node that reads them as real values."""
        axis = {"axis": t.axis} if len(t.scale) > 1 else {}
        scale, zero = (v if axis else v[0] for v in (t.scale, t.zero_point))
        constants = self.scale_and_zero(key, scale, zero, stored.dtype)
        return self.node("DequantizeLinear", [self.constant(f"{key}/stored", stored), *constants], f"{key}/quantized", **axis)

    def scale_and_zero(self, key: str, scale: ArrayLike, zero: ArrayLike, dtype: np.dtype) -> list[str]:
        return [self.constant(f"{key}/scale", np.asarray(scale, np.float32)),
                self.constant(f"{key}/zero_point", np.asarray(zero, dtype))]  # fmt: skip

    def model(self, outputs: tuple[str, ...]) -> onnx.ModelProto:
        """The whole model; initialisers that no node reads any more are left out."""
        source = self.graph.model
        read = {i for node in self.nodes for i in node.input}
        model = onnx.ModelProto(ir_version=source.ir_version, producer_name=source.producer_name)
        model.opset_import.extend(source.opset_import)
        if any(n.domain == _CONTRIB for n in self.nodes):
            model.opset_import.append(helper.make_opsetid(_CONTRIB, 1))
        model.graph.name = source.graph.name
        model.graph.input.extend(source.graph.input)
        model.graph.output.extend(source.graph.output)
        model.graph.output.extend(helper.make_empty_tensor_value_info(o) for o in outputs if o != self.graph.output)
        model.graph.node.extend(self.nodes)
        model.graph.initializer.extend(i for i in source.graph.initializer if i.name in read and i.name not in self.constants)
        model.graph.initializer.extend(numpy_helper.from_array(v, n) for n, v in self.constants.items() if n in read)
        return model


Constant = Callable[[Rewritten, Unit], str]


def rewrite(
    graph: ModelGraph, plan: Plan, weight: Constant, bias: Constant, outputs: tuple[str, ...] = (), unsigned: bool = False
) -> onnx.ModelProto:
    """`weight` and `bias` add the stored form of a unit's constant and return the name that the unit is to read."""
    plan.check(graph)
    out = Rewritten(graph, plan, unsigned)
    int8, few = set(plan.of("int8")), set(plan.of("weight"))
    made = {graph.units[n].output for n in int8}
    for node in graph.nodes:
        if node.name not in int8 | few:
            out.nodes.append(node)
            continue
        unit, copy = graph.units[node.name], NodeProto()
        copy.CopyFrom(node)
        new = {unit.weight: weight(out, unit)} if unit.weight else {}
        if node.name in int8:
            new |= _inputs(out, unit, made)
            if unit.bias:
                new[unit.bias] = bias(out, unit)
            copy.output[0] = f"{unit.output}/float"
        copy.input[:] = [new.get(i, i) for i in node.input]
        out.nodes.append(copy)
        if node.name in int8:
            out.pair(copy.output[0], unit.output, plan.tensors[unit.output], unit.output)
    return out.model(outputs)


def _inputs(out: Rewritten, unit: Unit, made: set[str]) -> dict[str, str]:
    """The quantised form of each activation that is not the very output of an int8 node. Behind movement the second pair
    changes no number; it lets runtimes move integers."""
    return {
        tensor: out.pair(tensor, f"{tensor}/quantized", out.plan.tensors[root], root)
        for tensor, root in zip(unit.inputs, unit.roots, strict=True)
        if tensor not in made
    }


def _stored_weight(out: Rewritten, unit: Unit) -> str:
    t, name = out.plan.tensors[unit.weight], unit.weight
    if t.group or t.bits > 8:
        if out.plan.nodes[unit.name].precision == "int8":
            what = f"groups of {t.group}" if t.group else f"{t.bits} bits"
            raise ArtifactError(f"the int8 node {unit.name!r} has its weight in {what}", "int8 nodes take 8 bits, per channel")
        return out.constant(f"{name}/quantized", fake_quantize(out.graph.weights[name], t))
    return out.dequantized(quantize_array(out.graph.weights[name], t).astype(np.int8), t, name)


def _stored_bias(out: Rewritten, unit: Unit) -> str:
    scale, stored = integer_bias(out.graph, out.plan, unit)
    t = TensorPlan("weight", tuple(scale), (0,) * len(scale), axis=0)
    return out.dequantized(stored, t, f"{unit.name}/bias")


def _fake_weight(fake: Callable[[str, TensorPlan], np.ndarray], out: Rewritten, unit: Unit) -> str:
    return out.constant(f"{unit.weight}/quantized", fake(unit.weight, out.plan.tensors[unit.weight]))


def _fake_bias(out: Rewritten, unit: Unit) -> str:
    scale, stored = integer_bias(out.graph, out.plan, unit)
    return out.constant(f"{unit.name}/bias/quantized", (stored * scale).astype(np.float32))


def integer_bias(graph: ModelGraph, plan: Plan, unit: Unit) -> tuple[np.ndarray, np.ndarray]:
    """(scale float64, stored int32) of an int8 unit's bias: the scale is the input's times the weight's."""
    scale = plan.tensors[unit.roots[0]].scale[0] * np.asarray(plan.tensors[unit.weight].scale)
    stored = np.rint(graph.weights[unit.bias].astype(np.float64) / scale)
    return scale, np.clip(stored, -_INT32, _INT32).astype(np.int32)
