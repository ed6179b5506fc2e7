"""Keep the Lite converter from computing what is smaller in a file as it is: position biases gathered for each pair of
tokens, attention masks repeated for each window.

Lite 2.0.0 computes each node whose inputs are all constant, whatever the size of the result. Adding a zero that is
computed from the shape of the model's input makes one of them look variable: the values stay the same to the last bit,
whatever the input holds, and the runtime takes the shape when it loads the model.
"""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
from onnx import GraphProto, NodeProto, TensorProto, helper, numpy_helper

from msedge.artifact import make_dir, writing
from msedge.runtime.onnx_graph import load_graph

_SHARE = 1 / 500  # of a file's constants: growth that is let pass
_ZERO = "msedge.zero"
# What the runtime may do in every run: moving and adding. A table of sines or a convolution of constants is better stored.
_CHEAP = {
    "Add", "Concat", "Expand", "Gather", "Identity", "Mul", "Reshape", "Slice", "Squeeze", "Sub", "Tile", "Transpose",
    "Unsqueeze",
}  # fmt: skip

Hold = tuple[str, int]  # the first output of a node, which of its inputs


def keep_unfolded(file: Path, work: Path) -> Path:
    """`file`, or a copy of that name below `work` whose large computed constants Lite's converter leaves to the runtime."""
    graph = load_graph(file).graph
    batch = _batch(graph)
    holds = _holds(graph) if batch else []
    if not holds:
        return file
    model = onnx.load(str(file))
    _insert(model.graph, holds, batch)
    copy = make_dir(work / "unfolded") / file.name
    with writing(work):
        onnx.save(model, str(copy))
    return copy


@dataclass
class _Constants:
    """The constants of a graph, and the tensors that the converter would compute from them with their nodes."""

    graph: GraphProto
    nbytes: dict[str, int]
    floats: set[str]

    @classmethod
    def of(cls, graph: GraphProto) -> _Constants:
        nbytes, floats = {}, set()
        for value in (*graph.value_info, *graph.output):
            kind = value.type.tensor_type
            dims = [d.dim_value for d in kind.shape.dim]
            if kind.elem_type and (all(dims) or not dims):
                nbytes[value.name] = math.prod(dims) * _itemsize(kind.elem_type)
                if kind.elem_type == TensorProto.FLOAT:
                    floats.add(value.name)
        for tensor in graph.initializer:
            nbytes[tensor.name] = math.prod(tensor.dims) * _itemsize(tensor.data_type)
            if tensor.data_type == TensorProto.FLOAT:
                floats.add(tensor.name)
        return cls(graph, nbytes, floats)

    def computed(self, holds: list[Hold]) -> dict[str, NodeProto]:
        held, stored = {h[0] for h in holds}, {i.name for i in self.graph.initializer}
        found: dict[str, NodeProto] = {}
        for node in self.graph.node:
            known = all(i in stored or i in found or not i for i in node.input)
            if known and node.output and node.output[0] not in held:
                found.update(dict.fromkeys(node.output, node))
        return found


def _holds(graph: GraphProto) -> list[Hold]:
    """The largest first, until what the converter may still compute adds next to nothing."""
    constants = _Constants.of(graph)
    allowed = _SHARE * sum(constants.nbytes[i.name] for i in graph.initializer)
    holds: list[Hold] = []
    hopeless: set[str] = set()
    while True:
        computed = constants.computed(holds)
        growth = {t: g for t, g in _growth(constants, computed, _read_by_others(graph, computed)).items() if g > 0}
        left = sorted((t for t in growth if t not in hopeless), key=lambda t: (-growth[t], t))
        if not left or sum(growth.values()) <= allowed:
            return holds
        hold = _where_it_grows(constants, computed, left[0])
        if hold:
            holds.append(hold)
        else:
            hopeless.add(left[0])


def _read_by_others(graph: GraphProto, computed: dict[str, NodeProto]) -> set[str]:
    return {i for n in graph.node if n.output[0] not in computed for i in n.input if i in computed}


def _cone(computed: dict[str, NodeProto], tensor: str) -> dict[str, NodeProto]:
    """All tensors that `tensor` is computed from, itself included, with their nodes."""
    cone, waiting = {}, [tensor]
    while waiting:
        name = waiting.pop()
        if name in computed and name not in cone:
            cone[name] = computed[name]
            waiting.extend(computed[name].input)
    return cone


def _growth(constants: _Constants, computed: dict[str, NodeProto], results: set[str]) -> dict[str, float]:
    """Bytes of each result, where known, less its share of those of the constants that it is computed from."""
    leaves = {t: {i for n in _cone(computed, t).values() for i in n.input if i and i not in computed} for t in results}
    users = Counter(i for used in leaves.values() for i in used)
    freed = {t: sum(constants.nbytes[i] / users[i] for i in used) for t, used in leaves.items()}
    return {t: constants.nbytes.get(t, 0) - freed[t] for t in results}


def _where_it_grows(constants: _Constants, computed: dict[str, NodeProto], tensor: str) -> Hold | None:
    """The first node on the way to `tensor` whose result is larger than a floating-point input, and that input.

    None where there is none, or where the way is not cheap to go in every run.
    """
    cone = _cone(computed, tensor)
    if not {node.op_type for node in cone.values()} <= _CHEAP:
        return None
    for node in constants.graph.node:
        if node.output[0] not in cone:
            continue
        for k, name in enumerate(node.input):
            if name in constants.floats and constants.nbytes[name] < constants.nbytes.get(node.output[0], 0):
                return node.output[0], k
    return None


def _batch(graph: GraphProto) -> int:
    """The first dimension of the model's input; 0 where it is open or there are several inputs."""
    stored = {i.name for i in graph.initializer}
    inputs = [i for i in graph.input if i.name not in stored]
    dims = inputs[0].type.tensor_type.shape.dim if len(inputs) == 1 else ()
    return dims[0].dim_value if dims else 0


def _insert(graph: GraphProto, holds: list[Hold], batch: int) -> None:
    stored = {i.name for i in graph.initializer}
    source = next(i.name for i in graph.input if i.name not in stored)
    for name, value in (("first", 0), ("batch", batch)):
        graph.initializer.append(numpy_helper.from_array(np.array([value], np.int64), f"{_ZERO}.{name}"))

    def node(op: str, inputs: list[str], output: str, **attributes) -> NodeProto:
        return helper.make_node(op, inputs, [output], name=output, **attributes)

    nodes = [
        node("Shape", [source], f"{_ZERO}.shape"),
        node("Gather", [f"{_ZERO}.shape", f"{_ZERO}.first"], f"{_ZERO}.count", axis=0),
        node("Sub", [f"{_ZERO}.count", f"{_ZERO}.batch"], f"{_ZERO}.whole"),
        node("Cast", [f"{_ZERO}.whole"], _ZERO, to=TensorProto.FLOAT),
    ]
    where = dict(holds)
    for original in graph.node:
        if (k := where.get(original.output[0])) is not None:
            held = f"{_ZERO}.plus.{original.output[0]}"
            nodes.append(node("Add", [original.input[k], _ZERO], held))
            original.input[k] = held
        nodes.append(original)
    new = [NodeProto.FromString(n.SerializeToString()) for n in nodes]
    del graph.node[:]
    graph.node.extend(new)


def _itemsize(elem_type: int) -> int:
    return helper.tensor_dtype_to_np_dtype(elem_type).itemsize
