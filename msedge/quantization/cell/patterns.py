"""The nodes of an exported graph as steps: well-known groups of nodes become one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
from onnx import helper

from msedge.quantization.graph import ModelGraph


@dataclass(frozen=True)
class Step:
    """`op` of `inputs` gives `output`, and `also` where there are more results; `node` is the (last) ONNX node of it,
    `absorbed` are tensors that nothing else reads."""

    op: str
    inputs: tuple[str, ...]
    output: str
    node: onnx.NodeProto
    settings: dict[str, Any] = field(default_factory=dict)
    absorbed: tuple[str, ...] = ()
    also: tuple[str, ...] = ()


def find_steps(graph: ModelGraph, quantised: frozenset[str] = frozenset()) -> list[Step]:
    """The steps in the order of execution; no group holds a node of `quantised`."""
    steps, gone = [], set()
    for node in reversed(graph.nodes):
        if node.output[0] in gone:
            continue
        step = _whole(graph, node, quantised)
        gone.update(step.absorbed, step.also)
        steps.append(step)
    return _ordered(graph, steps[::-1])


def attributes(node: onnx.NodeProto) -> dict[str, Any]:
    return {a.name: helper.get_attribute_value(a) for a in node.attribute}


def _whole(graph: ModelGraph, node: onnx.NodeProto, quantised: frozenset[str]) -> Step:
    for pattern in _PATTERNS.get(node.op_type, ()):
        step = pattern(graph, node)
        if step is None:
            continue
        inside = {*step.absorbed, *step.also, step.output}
        makers = {graph.maker(t).name for t in (step.absorbed if step.op == "MatMul" else inside)}
        private = all(r.output[0] in inside for t in step.absorbed for r in graph.consumers.get(t, ()))
        if private and graph.output not in step.absorbed and not makers & quantised:
            return step
    inputs, (first, *others) = tuple(i for i in node.input if i), node.output
    return Step(node.op_type, inputs, first, node, attributes(node), also=tuple(others))


def _ordered(graph: ModelGraph, steps: list[Step]) -> list[Step]:
    """Steps that wait for all their inputs; a group stands where its last node stood."""
    made, waiting, done = {graph.input, *graph.weights}, list(steps), []
    while waiting:
        step = next(s for s in waiting if all(i in made for i in s.inputs))
        waiting.remove(step)
        made.update((step.output, *step.also))
        done.append(step)
    return done


def _scalar(graph: ModelGraph, name: str) -> float | None:
    value = graph.weights.get(name)
    return float(value.reshape(())) if value is not None and value.size == 1 else None


def _is(graph: ModelGraph, name: str, value: float) -> bool:
    found = _scalar(graph, name)
    return found is not None and abs(found - value) < 1e-6 * max(1.0, abs(value))


def _made(graph: ModelGraph, name: str, op: str) -> onnx.NodeProto | None:
    node = graph.maker(name)
    return node if node is not None and node.op_type == op else None


def _either(graph: ModelGraph, node: onnx.NodeProto, op: str) -> tuple[onnx.NodeProto, str] | None:
    """The maker of one input that is an `op`, and the other input."""
    for i in (0, 1):
        if found := _made(graph, node.input[i], op):
            return found, node.input[1 - i]
    return None


def _silu(graph: ModelGraph, node: onnx.NodeProto) -> Step | None:
    found = _either(graph, node, "Sigmoid")
    if not found or found[0].input[0] != found[1]:
        return None
    return Step("Silu", (found[1],), node.output[0], node, absorbed=(found[0].output[0],))


def _gelu(graph: ModelGraph, node: onnx.NodeProto) -> Step | None:
    """0.5 * (x * (erf(x / sqrt 2) + 1))."""
    if not _is(graph, node.input[1], 0.5) or not (product := _made(graph, node.input[0], "Mul")):
        return None
    found = _either(graph, product, "Add")
    if not found or not (erf := _made(graph, found[0].input[0], "Erf")) or not _is(graph, found[0].input[1], 1.0):
        return None
    root = _made(graph, erf.input[0], "Div")
    if not root or root.input[0] != found[1] or not _is(graph, root.input[1], 2**0.5):
        return None
    inner = tuple(n.output[0] for n in (product, found[0], erf, root))
    return Step("Gelu", (found[1],), node.output[0], node, absorbed=inner)


def _layer_norm(graph: ModelGraph, node: onnx.NodeProto) -> Step | None:
    """(x - mean) / sqrt(mean((x - mean)^2) + eps) * gamma + beta over the last axis."""
    beta = node.input[1]
    if beta not in graph.weights or not (scaled := _made(graph, node.input[0], "Mul")):
        return None
    gamma, divided = scaled.input[1], _made(graph, scaled.input[0], "Div")
    if gamma not in graph.weights or graph.weights[gamma].ndim != 1 or not divided:
        return None
    centred, root = _made(graph, divided.input[0], "Sub"), _made(graph, divided.input[1], "Sqrt")
    shifted = _made(graph, root.input[0], "Add") if root else None
    if not centred or not shifted or (eps := _scalar(graph, shifted.input[1])) is None:
        return None
    variance = _made(graph, shifted.input[0], "ReduceMean")
    square, mean = (_made(graph, variance.input[0], "Pow") if variance else None), _made(graph, centred.input[1], "ReduceMean")
    if not square or not mean or square.input[0] != centred.output[0] or not _is(graph, square.input[1], 2.0):
        return None
    last = all(list(attributes(n).get("axes", ())) == [-1] for n in (variance, mean))
    if not last or mean.input[0] != centred.input[0]:
        return None
    inner = (scaled, divided, centred, root, shifted, variance, square, mean)
    inputs = (centred.input[0], gamma, beta)
    return Step("LayerNorm", inputs, node.output[0], node, {"eps": eps}, tuple(n.output[0] for n in inner))


def _turned_product(graph: ModelGraph, node: onnx.NodeProto) -> Step | None:
    """A product with a transposed tensor, as attention's queries by keys."""
    moved = _made(graph, node.input[1], "Transpose")
    order = list(attributes(moved).get("perm", ())) if moved else []
    if len(order) < 2 or moved.input[0] in graph.weights or node.input[0] in graph.weights:
        return None
    if order != [*range(len(order) - 2), len(order) - 1, len(order) - 2]:
        return None
    inputs = (node.input[0], moved.input[0])
    return Step("MatMul", inputs, node.output[0], node, {"turned": True}, (moved.output[0],))


def _image_mean(graph: ModelGraph, name: str) -> tuple[str, float, list[str]] | None:
    """(x, eps, tensors between) where `name` is the mean over each image of x, plus eps: pooling, then equal shares."""
    conv = _made(graph, name, "Conv")
    pool = _made(graph, conv.input[0], "GlobalAveragePool") if conv else None
    share = graph.weights.get(conv.input[1]) if conv else None
    if pool is None or share is None or share.shape[0] != 1 or np.abs(share * share.size - 1).max() > 1e-5:
        return None
    eps = _scalar(graph, conv.input[2]) if len(conv.input) > 2 else 0.0
    return None if eps is None else (pool.input[0], eps, [conv.output[0], pool.output[0]])


def _spread(graph: ModelGraph, node: onnx.NodeProto) -> Step | None:
    """The variance of each image plus eps (the step's output), and the image less its mean (`also`)."""
    second = _image_mean(graph, node.output[0])
    square = _made(graph, second[0], "Mul") if second else None
    if not square or square.input[0] != square.input[1] or not (centred := _made(graph, square.input[0], "Sub")):
        return None
    first = _image_mean(graph, centred.input[1])
    if not first or first[0] != centred.input[0] or first[1]:
        return None
    inner = (*second[2][1:], square.output[0], *first[2])
    also = (centred.output[0],)
    return Step("Spread", (first[0],), node.output[0], node, {"eps": second[1]}, inner, also)


_Pattern = Callable[[ModelGraph, onnx.NodeProto], Step | None]
_PATTERNS: dict[str, tuple[_Pattern, ...]] = {
    "Mul": (_gelu, _silu),
    "Add": (_layer_norm,),
    "MatMul": (_turned_product,),
    "Conv": (_spread,),
}
