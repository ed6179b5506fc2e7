"""A plan's int8 nodes into a float `.ms`: its own scales, where the converter's quantiser would choose others.

Nodes of a converted model carry the names of their ONNX nodes, so the plan finds them. What the runtime's int8 kernels
compute was compared with exact arithmetic, kernel by kernel (docs/lite.md); what they cannot do stays float, with a reason.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from msedge.errors import ArtifactError
from msedge.lite.flat import Tree
from msedge.lite.ms_writer import QUANT_NONE, MsEditor, attributes, inputs, op, outputs, quant_param
from msedge.quantization.graph import ModelGraph, Unit
from msedge.quantization.ms_casts import Int8Flow, Stored, stored
from msedge.quantization.plan import Plan, TensorPlan, quantize_array

_FORMS = {"Conv": "Conv2DFusion", "Gemm": "MatMulFusion", "MatMul": "MatMulFusion"}
_SAME_MODEL = "convert the ONNX that the plan was made for"
_BIAS_LIMIT = 2.0**30  # of the 2^31 of an accumulator
_HALF_FROM = 1024  # float constants of so many numbers are stored in float16


@dataclass(frozen=True)
class Rewritten:
    """`data` is the new `.ms`; `quantised` are the nodes that compute in int8 now, `kept_float` those of the plan that could
    not, and why."""

    data: bytes
    quantised: tuple[str, ...]
    kept_float: dict[str, str] = field(default_factory=dict)


class _KeepFloat(Exception):
    """The node cannot compute in int8; the message says why."""


@dataclass(frozen=True)
class _Job:
    """A node to be quantised: its constants' places in `node`, and how its tensors are stored."""

    node: Tree
    unit: Unit
    reads: list[Stored | None]
    writes: Stored
    weight: TensorPlan | None


def rewrite_int8(ms: bytes, graph: ModelGraph, plan: Plan) -> Rewritten:
    """Give the plan's int8 nodes in a float `.ms` (converted from `graph`) int8 weights, int32 biases and the plan's scales,
    and casts where float meets int8. The model's input and output stay float32; other nodes stay as they are, but
    large constants between them (attention biases, masks) become float16, which the runtime widens while loading.

    Raises ArtifactError where the `.ms` is damaged, quantised already or of another model, where the plan does not fit the
    graph, or asks for int8 in a form that there is no kernel for (other than 8 bits, weights with a zero point or groups).
    """
    plan.check(graph)
    editor = MsEditor(ms)
    if any(n["quantType"] != QUANT_NONE for n in editor.nodes) or any(t["quantParams"] for t in editor.tensors):
        raise ArtifactError("the .ms model is quantised already", "rewrite the float model that it was made from")
    nodes = {n["name"]: n for n in editor.nodes}
    wanted = plan.of("int8")
    if wanted and not any(name in nodes for name in wanted):
        raise ArtifactError(f"the .ms model has none of the plan's nodes, not even {wanted[0]!r}", _SAME_MODEL)
    jobs, kept = [], {}
    for name in wanted:
        try:
            jobs.append(_job(editor, nodes.get(name), graph, graph.units[name], plan))
        except _KeepFloat as e:
            kept[name] = str(e)
    for job in jobs:
        _store_constants(editor, job, graph)
    Int8Flow(editor, {j.unit.name: j.reads for j in jobs}, {j.unit.name: j.writes for j in jobs}).rewrite()
    done = tuple(job.unit.name for job in jobs)
    _make_compact(editor, {n for n in graph.units if n not in done})
    return Rewritten(editor.to_bytes(), done, kept)


def _job(editor: MsEditor, node: Tree | None, graph: ModelGraph, unit: Unit, plan: Plan) -> _Job:
    if node is None:
        raise _KeepFloat("the converter fused it into another node")
    if op(node) != _FORMS[unit.op]:
        raise _KeepFloat(f"the converter made it a {op(node)}")
    activations = [i for i in inputs(node) if not editor.is_constant(i)]
    if len(activations) != len(unit.inputs) or len(outputs(node)) != 1:
        raise _KeepFloat("the converter gave it other inputs")
    for tensor in {*unit.roots, unit.output}:
        _check_activation(plan.tensors[tensor], tensor)
    forms = iter([stored(plan.tensors[root]) for root in unit.roots])
    reads = [None if editor.is_constant(i) else next(forms) for i in inputs(node)]
    weight = None
    if unit.weight:
        weight = plan.tensors[unit.weight]
        _check_weight(weight, unit)
        _check_constants(editor, node, graph, unit, weight)
    return _Job(node, unit, reads, stored(_written(editor, node, graph, unit, plan)), weight)


def _check_activation(t: TensorPlan, name: str) -> None:
    if t.bits != 8 or len(t.scale) != 1:
        what = f"{t.bits} bits" if t.bits != 8 else f"{len(t.scale)} scales"
        raise ArtifactError(f"the plan stores the tensor {name!r} with {what}", "int8 nodes need 8 bits and one scale")


def _check_weight(t: TensorPlan, unit: Unit) -> None:
    wrong = f"{t.bits} bits" if t.bits != 8 else "groups" if t.group else "zero points" if any(t.zero_point) else ""
    if not wrong and len(t.scale) > 1 and t.axis != unit.axis:
        wrong = f"scales along axis {t.axis}"
    if wrong:
        raise ArtifactError(f"the plan stores the weight {unit.weight!r} of node {unit.name!r} with {wrong}",
                            "int8 nodes need 8 bits, no zero points, one scale or one for each output channel")  # fmt: skip


def _check_constants(editor: MsEditor, node: Tree, graph: ModelGraph, unit: Unit, t: TensorPlan) -> None:
    source, places = graph.weights[unit.weight], inputs(node)
    if len(places) < 2 or not editor.is_constant(places[1]):
        raise _KeepFloat("its constant is its first factor, not its second")
    if unit.op == "Conv":
        group, channels = attributes(node)["group"], (attributes(node)["in_channel"], attributes(node)["out_channel"])
        if group > 1 and channels != (group, group):
            raise _KeepFloat(f"the runtime has no int8 kernel for scales of channels in {group} groups")
    elif source.ndim != 2:
        raise _KeepFloat(f"its constant has {source.ndim} dimensions, the runtime's scales fit 2")
    values, expected = editor.constant(places[1]).astype(np.float32), _laid_out(source, unit, node)
    close = values.shape == expected.shape and np.allclose(values, expected, rtol=1e-3, atol=1e-3 * np.abs(source).max())
    if not close:
        raise _KeepFloat("its weight in the .ms is not that of the ONNX: the converter changed it")


def _laid_out(weight: np.ndarray, unit: Unit, node: Tree) -> np.ndarray:
    """A weight of the ONNX in the layout of its node in the `.ms`."""
    if unit.op == "Conv":
        return weight.transpose(0, 2, 3, 1)
    channels_first = attributes(node)["transpose_b"]
    return weight if (unit.axis == 0) == channels_first else weight.T


def _written(editor: MsEditor, node: Tree, graph: ModelGraph, unit: Unit, plan: Plan) -> TensorPlan:
    """How the node's output is stored. The converter may have fused an Add (a MatMul's bias) and an activation into it."""
    tensor, known = unit.output, plan.tensors[unit.output]
    if len(inputs(node)) > len(unit.inputs) + (unit.weight is not None) + (unit.bias is not None):
        tensor = _only_reader(graph, tensor, ("Add",))
        known = plan.tensors.get(tensor)
    if attributes(node)["activation_type"]:
        tensor = _only_reader(graph, tensor, ("Relu", "Clip"))
        known = plan.tensors.get(tensor, known)  # what it clips lies on the steps of what it reads
    if known is None:
        raise _KeepFloat(f"the converter fused it up to {tensor!r}, which the plan does not store")
    _check_activation(known, tensor)
    return known


def _only_reader(graph: ModelGraph, tensor: str, ops: tuple[str, ...]) -> str:
    readers = graph.consumers.get(tensor, ())
    if len(readers) != 1 or readers[0].op_type not in ops:
        raise _KeepFloat("the converter fused it with what the plan does not know")
    return readers[0].output[0]


def _store_constants(editor: MsEditor, job: _Job, graph: ModelGraph) -> None:
    """Put an int8 weight and an int32 bias into the job's node."""
    if job.weight is None:
        return
    activation, weight, *rest = inputs(job.node)
    bias = editor.constant(rest[0]).astype(np.float64) if rest else None
    scale = _workable(np.array(job.weight.scale), job.reads[0][0], bias)
    one = TensorPlan("weight", tuple(scale), (0,) * len(scale), symmetric=True, axis=job.unit.axis)
    values = _laid_out(quantize_array(graph.weights[job.unit.weight], one), job.unit, job.node).astype(np.int8)
    named = editor.tensors[weight]["name"]
    places = [activation, editor.add_constant(named, values, [quant_param(s) for s in scale])]
    if bias is not None:
        steps = np.rint(bias / (job.reads[0][0] * scale)).astype(np.int32)
        places.append(editor.add_constant(editor.tensors[rest[0]]["name"], steps))
    job.node["inputIndex"] = np.array(places, np.uint32)


def _workable(scale: np.ndarray, read: float, bias: np.ndarray | None) -> np.ndarray:
    """A weight's scales, those raised that are so small (channels of next to no weight) that the bias in steps of input times
    weight would not fit its 32 bits. The raised ones are still far below what the output resolves."""
    if bias is None:
        return scale
    least = np.abs(bias) / (read * _BIAS_LIMIT)
    return np.maximum(scale, least if len(scale) > 1 else least.max())


def _make_compact(editor: MsEditor, other_units: set[str]) -> None:
    """Drop what the runtime does not need: names of tensors (but the model's own and those of float weights), and half of
    the bits of large float constants that are added."""
    named = {*editor.inputs, *editor.outputs}
    for node in editor.nodes:
        constants = [i for i in inputs(node) if editor.is_constant(i)]
        if node["name"] in other_units:
            named.update(constants)
        elif op(node) == "AddFusion":
            for tensor in constants:
                _halve(editor, tensor)
    for index, tensor in enumerate(editor.tensors):
        if index not in named:
            tensor["name"] = None


def _halve(editor: MsEditor, tensor: int) -> None:
    if editor.dtype(tensor) != "float32" or (values := editor.constant(tensor)).size < _HALF_FROM:
        return
    if np.abs(values).max() <= np.finfo(np.float16).max:
        editor.set_constant(tensor, values.astype(np.float16))
