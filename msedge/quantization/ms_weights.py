"""A float `.ms` with its weights stored in few bits, by a plan of precision "weight"; all arithmetic stays float.

What the 2.0.0 runtime takes without any cost when it runs: constants that are entropy coded (decoded while loading, one
table of float values per tensor) and float16 constants. It takes no scales for them. So a weight with many scales is stored
as its whole numbers, and the scales of output channels become a ScaleFusion after the node, those of groups a Mul before it;
both run every time. Each weight gets the smallest of the forms that are exactly the plan's. Other float32 constants are
entropy coded too where their values repeat (tables of relative positions), bit by bit the same.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from msedge.errors import ArtifactError
from msedge.lite.flat import Tree
from msedge.lite.ms_file import MsTensor
from msedge.lite.ms_writer import MsEditor, attributes, inputs, new_node, op, outputs
from msedge.quantization import fse
from msedge.quantization.graph import ModelGraph, Unit
from msedge.quantization.plan import Plan, TensorPlan, dequantize_array, quantize_array

_FSE = 3  # Tensor.weightQuantCompressType
_NODE_BYTES = 400  # about what a node with its tensors and names takes
_WORTH = 0.9
_SAME_MODEL = "convert the float model again, from the ONNX file that the plan is for"


@dataclass(frozen=True)
class StoredWeight:
    """How a weight lies in the file. `form` is "codes", "codes, scaled output", "codes, scaled weight", "float16" or
    "float32"; `size` in bytes, scales and table included."""

    form: str
    elements: int
    size: int


@dataclass(frozen=True)
class WeightsRewritten:
    """`data` is the new `.ms`, `stored` what became of each weight (by initialiser), `kept_float` the nodes whose weight the
    converter changed, and why they stay as they are."""

    data: bytes
    stored: dict[str, StoredWeight]
    kept_float: dict[str, str]


class _Weight(NamedTuple):
    """A constant of the file, the nodes that multiply by it, and its values by the plan, in the file's layout. With several
    scales also `whole` times `scale`: whole numbers as [output channels, kernel, groups, channels of a group] (output
    channels last where the file has them last), and scales that broadcast to them."""

    tensor: int
    nodes: list[Tree]
    values: np.ndarray
    whole: np.ndarray | None = None
    scale: np.ndarray | None = None


class _Codes(NamedTuple):
    """A float32 array as entropy coding sees it, bit by bit; `size` in bytes."""

    values: np.ndarray
    symbols: np.ndarray
    centroids: np.ndarray
    size: float

    @classmethod
    def of(cls, values: np.ndarray) -> _Codes:
        bits = np.ascontiguousarray(values).view(np.uint32)  # -0.0 is not 0.0
        centroids, symbols, counts = np.unique(bits, return_inverse=True, return_counts=True)
        return cls(
            values,
            symbols,
            centroids.view(np.float32),
            fse.encoded_size(counts) if len(counts) <= fse.MAX_SYMBOLS else math.inf,
        )

    def put(self, editor: MsEditor, tensor: int, shape: tuple[int, ...] | None = None) -> None:
        editor.set_constant(tensor, self.values.reshape(shape or self.values.shape))
        data = np.frombuffer(fse.encode(self.symbols, self.centroids), np.uint8)
        editor.tensors[tensor] |= {"data": data, "weightQuantCompressType": _FSE}


def rewrite_weights(ms: bytes, graph: ModelGraph, plan: Plan) -> WeightsRewritten:
    """The `.ms` with the weights of the plan's "weight" nodes stored in few bits; the other nodes stay as they are.

    Its logits are those of the plan's fake-quantised weights up to the rounding of float32. Raises ArtifactError where the
    `.ms` is damaged, where these weights are quantised or compressed already, where it is of another model or was
    converted from other weights, and where the plan does not fit the graph.
    """
    plan.check(graph)
    editor = MsEditor(ms)
    weights, kept = _weights(editor, graph, plan)
    stored = {name: _store(editor, weight) for name, weight in weights.items()}
    _compact_others(editor, {w.tensor for w in weights.values()})
    return WeightsRewritten(editor.to_bytes(), stored, kept)


def decoded(tensor: MsTensor) -> np.ndarray:
    """The float32 values of an entropy coded constant. Raises ArtifactError where it is none or damaged."""
    if tensor.data is None or tensor.compression != "FSE":
        raise ArtifactError(f"tensor {tensor.name!r} is not entropy coded")
    try:
        symbols, centroids = fse.decode(tensor.data.tobytes(), math.prod(tensor.dims))
    except ValueError as e:
        raise ArtifactError(f"tensor {tensor.name!r} is damaged: {e}", "quantise the model again") from None
    return centroids[symbols].reshape(tensor.dims)


def _weights(editor: MsEditor, graph: ModelGraph, plan: Plan) -> tuple[dict[str, _Weight], dict[str, str]]:
    nodes = {n["name"]: n for n in editor.nodes}
    found: dict[str, _Weight] = {}
    kept: dict[str, str] = {}
    for name in plan.of("weight"):
        unit = graph.units[name]
        if unit.weight is None:
            continue
        if name not in nodes:
            raise ArtifactError(f"the .ms model has no node {name!r} of the plan", _SAME_MODEL)
        node = nodes[name]
        if unit.weight in found and found[unit.weight].tensor in inputs(node):
            found[unit.weight].nodes.append(node)
        elif why := _misfit(editor, node, graph, unit):
            kept[name] = why
        else:
            found[unit.weight] = _read(editor, node, graph, unit, plan.tensors[unit.weight])
    if kept and not found:
        raise ArtifactError("the .ms model was converted from other weights than the ONNX model has", _SAME_MODEL)
    return found, kept


def _misfit(editor: MsEditor, node: Tree, graph: ModelGraph, unit: Unit) -> str:
    """Why the node's constant is not the unit's weight; empty where it is. Raises ArtifactError as `rewrite_weights`."""
    if op(node) not in ("Conv2DFusion", "MatMulFusion"):
        return f"the converter made it a {op(node)}"
    if len(inputs(node)) < 2 or not editor.is_constant(inputs(node)[1]):
        return "its constant is not its second factor"
    index = inputs(node)[1]
    if editor.tensors[index]["weightQuantCompressType"] or editor.dtype(index) != "float32" or node["quantType"]:
        raise ArtifactError(f"the weight of node {unit.name!r} is quantised or compressed in the .ms already",
                            "rewrite the float model that it was made from")  # fmt: skip
    values, expected = editor.constant(index), _laid_out(graph.weights[unit.weight], unit, node)
    if values.shape != expected.shape:
        raise ArtifactError(f"the weight of node {unit.name!r} has shape {list(values.shape)} in the .ms, not "
                            f"{list(expected.shape)}", _SAME_MODEL)  # fmt: skip
    if not np.allclose(values, expected, rtol=1e-3, atol=1e-3 * float(np.abs(expected).max())):
        return "its weight in the .ms is not that of the ONNX: the converter changed it"
    return ""


def _laid_out(weight: np.ndarray, unit: Unit, node: Tree) -> np.ndarray:
    """A weight of the ONNX in the layout of its node in the `.ms`."""
    if unit.op == "Conv":
        return weight.transpose(0, 2, 3, 1)
    channels_first = attributes(node)["transpose_b"]
    return weight if (unit.axis == weight.ndim - 2) == channels_first else np.swapaxes(weight, -1, -2)


def _read(editor: MsEditor, node: Tree, graph: ModelGraph, unit: Unit, t: TensorPlan) -> _Weight:
    stored = quantize_array(graph.weights[unit.weight], t)
    values = _laid_out(dequantize_array(stored, t), unit, node)
    weight = _Weight(inputs(node)[1], [node], values)
    if len(t.scale) == 1 or t.axis != unit.axis or (unit.op != "Conv" and stored.ndim > 2):
        return weight
    channels, kernel = stored.shape[unit.axis], math.prod(stored.shape[2:]) if unit.op == "Conv" else 1
    rows = np.moveaxis(stored, unit.axis, 0).reshape(channels, -1)
    group = t.group or rows.shape[1]
    if rows.shape[1] % group or group % kernel:
        return weight
    whole = rows.reshape(channels, -1, group) - np.asarray(t.zero_point).reshape(channels, -1, 1)
    whole = whole.reshape(channels, -1, kernel).swapaxes(1, 2).reshape(channels, kernel, -1, group // kernel)
    scale = np.asarray(t.scale, np.float32).reshape(channels, 1, -1, 1)
    if unit.op != "Conv" and not attributes(node)["transpose_b"]:
        whole, scale = (np.moveaxis(a, 0, -1) for a in (whole, scale))
    return weight._replace(whole=np.ascontiguousarray(whole, np.float32), scale=np.ascontiguousarray(scale))


def _store(editor: MsEditor, weight: _Weight) -> StoredWeight:
    """Store the weight in the smallest of the forms that are exact."""
    values = weight.values
    codes, whole = _Codes.of(values), None
    forms = {"float32": 4 * values.size, "codes": codes.size}
    if _is_half(values):
        forms["float16"] = 2 * values.size
    if weight.whole is not None and not _shared(editor, weight):
        whole = _Codes.of(weight.whole)
        form = "codes, scaled output" if _may_scale_output(weight) else "codes, scaled weight"
        forms[form] = whole.size + _small(weight.scale).nbytes + _NODE_BYTES
    form = min(forms, key=forms.__getitem__)
    if form == "codes":
        codes.put(editor, weight.tensor)
    elif form == "codes, scaled output":
        whole.put(editor, weight.tensor, values.shape)
        _scale_output(editor, weight)
    elif form == "codes, scaled weight":
        whole.put(editor, weight.tensor, weight.whole.shape)
        _scale_weight(editor, weight)
    else:
        editor.set_constant(weight.tensor, values.astype(form))
    return StoredWeight(form, values.size, round(forms[form]))


def _is_half(values: np.ndarray) -> bool:
    with np.errstate(over="ignore"):
        return bool(np.array_equal(values.astype(np.float16).astype(np.float32), values))


def _small(values: np.ndarray) -> np.ndarray:
    return values.astype(np.float16) if _is_half(values) else values


def _shared(editor: MsEditor, weight: _Weight) -> bool:
    """Whether other nodes than its own read the constant."""
    readers = [n for n in editor.nodes if weight.tensor in inputs(n)]
    return not all(any(n is own for own in weight.nodes) for n in readers)


def _may_scale_output(weight: _Weight) -> bool:
    """Whether there is one scale for each output channel, and no activation between the product and the scale."""
    per_channel = weight.scale.size in (weight.scale.shape[0], weight.scale.shape[-1])
    return per_channel and not any(attributes(n)["activation_type"] for n in weight.nodes)


def _scale_output(editor: MsEditor, weight: _Weight) -> None:
    """y = s * (x W) + b, with the bias of the node."""
    values = weight.scale.ravel()
    for node in weight.nodes:
        x, w, *bias = inputs(node)
        (y,) = outputs(node)
        dims, layout = editor.tensors[y]["dims"], editor.tensors[y]["format"]
        raw = editor.add_tensor(f"{node['name']}_unscaled", "float32", dims, format=layout)
        scale = editor.add_constant(f"{node['name']}_scale", values)
        shift = bias[0] if bias else editor.add_constant(f"{node['name']}_shift", np.zeros_like(values))
        node |= {"inputIndex": np.array([x, w], np.uint32), "outputIndex": np.array([raw], np.uint32)}
        after = new_node("ScaleFusion", f"{node['name']}_scaled", [raw, scale, shift], [y], axis=len(dims) - 1)
        editor.nodes.insert(_place(editor, node) + 1, after)


def _scale_weight(editor: MsEditor, weight: _Weight) -> None:
    """The weight is put together from its groups each time that the model runs."""
    name, layout = weight.nodes[0]["name"], editor.tensors[weight.tensor]["format"]
    shape = np.array(weight.values.shape, np.int32)
    scale = editor.add_constant(f"{name}_scale", _small(weight.scale))
    grouped = editor.add_tensor(f"{name}_groups", "float32", weight.whole.shape, format=layout)
    joined = editor.add_tensor(f"{name}_weight", "float32", shape, format=layout)
    sizes = editor.add_constant(f"{name}_shape", shape)
    at = min(_place(editor, n) for n in weight.nodes)
    editor.nodes[at:at] = [
        new_node("MulFusion", f"{name}_scaled", [weight.tensor, scale], [grouped]),
        new_node("Reshape", f"{name}_joined", [grouped, sizes], [joined]),
    ]
    for node in weight.nodes:
        read = [joined if i == weight.tensor else i for i in inputs(node)]
        node["inputIndex"] = np.array(read, np.uint32)


def _place(editor: MsEditor, node: Tree) -> int:
    return next(i for i, n in enumerate(editor.nodes) if n is node)


def _compact_others(editor: MsEditor, done: set[int]) -> None:
    """Entropy code the other plain float32 constants where that is smaller; their values stay what they are."""
    for index in {i for n in editor.nodes for i in inputs(n)} - done:
        tensor = editor.tensors[index]
        if (
            not editor.is_constant(index)
            or editor.dtype(index) not in ("float32", "int32")
            or tensor["weightQuantCompressType"]
        ):
            continue
        values = editor.constant(index)
        codes = _Codes.of(values)
        if codes.size < _WORTH * values.nbytes:
            codes.put(editor, index)
