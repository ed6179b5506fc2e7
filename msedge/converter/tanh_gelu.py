"""GELU in its tanh form, on request: another function, at most 5e-4 away, in a third of the time.

The exact GELU needs erf, and Lite 2.0.0 computes it slower than all other activations; the tanh form (Hendrycks and
Gimpel, arXiv:1606.08415) is a kernel of its own. Parity and gate judge the result against the exact model.
"""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import onnx
from onnx import GraphProto, NodeProto, helper, numpy_helper

from msedge.artifact import make_dir, writing
from msedge.runtime.onnx_graph import load_graph

GELU = ("exact", "tanh")
_NUMBERS = {"three": 3.0, "cubic": 0.044715, "slope": math.sqrt(2 / math.pi), "one": 1.0, "half": 0.5}


def with_tanh_gelu(file: Path, work: Path) -> tuple[Path, int]:
    """A copy of `file` below `work` with every exact GELU in its tanh form, and how many there were; `file` if none."""
    found = _exact(load_graph(file).graph)
    if not found:
        return file, 0
    model = onnx.load(str(file))
    for name, value in _NUMBERS.items():
        model.graph.initializer.append(numpy_helper.from_array(np.float32(value), f"msedge.gelu.{name}"))
    last = {chain[-1].name: chain for chain in found}
    gone = {node.name for chain in found for node in chain}
    nodes: list[NodeProto] = []
    for node in model.graph.node:
        if node.name in last:
            nodes += _tanh_form(last[node.name])
        elif node.name not in gone:
            nodes.append(node)
    new = [NodeProto.FromString(n.SerializeToString()) for n in nodes]
    del model.graph.node[:]
    model.graph.node.extend(new)
    copy = make_dir(work / "tanh_gelu") / file.name
    with writing(work):
        onnx.save(model, str(copy))
    return copy, len(found)


def _exact(graph: GraphProto) -> list[list[NodeProto]]:
    """The nodes Div, Erf, Add, Mul, Mul of each GELU as msedge's exporter writes it."""
    numbers = {t.name: numpy_helper.to_array(t) for t in graph.initializer if math.prod(t.dims) == 1}
    producers = {o: n for n in graph.node for o in n.output}
    readers: dict[str, list[NodeProto]] = {}
    for node in graph.node:
        for name in node.input:
            readers.setdefault(name, []).append(node)

    def next_of(node: NodeProto, op: str) -> NodeProto | None:
        found = readers.get(node.output[0], [])
        return found[0] if len(found) == 1 and found[0].op_type == op else None

    def is_number(name: str, value: float) -> bool:
        return name in numbers and math.isclose(float(numbers[name].reshape(())), value, rel_tol=1e-5)

    chains = []
    for erf in (n for n in graph.node if n.op_type == "Erf"):
        div, add = producers.get(erf.input[0]), next_of(erf, "Add")
        mul = next_of(add, "Mul") if add else None
        last = next_of(mul, "Mul") if mul else None
        if div is None or last is None or div.op_type != "Div" or next_of(div, "Erf") is None:
            continue
        right = is_number(div.input[1], math.sqrt(2)) and is_number(add.input[1], 1) and is_number(last.input[1], 0.5)
        if right and mul.input[0] == div.input[0]:
            chains.append([div, erf, add, mul, last])
    return chains


def _tanh_form(chain: list[NodeProto]) -> list[NodeProto]:
    """x * (0.5 * (1 + tanh(slope * (x + cubic * x^3)))), constants on the left: as the converter knows it."""
    x, last = chain[0].input[0], chain[-1]
    stem = last.name

    def node(op: str, inputs: list[str], name: str) -> NodeProto:
        return helper.make_node(op, [f"msedge.gelu.{i}" if i in _NUMBERS else i for i in inputs], [name], name=name)

    steps = [
        ("Pow", [x, "three"], "cube"),
        ("Mul", ["cubic", f"{stem}.cube"], "scaled"),
        ("Add", [x, f"{stem}.scaled"], "sum"),
        ("Mul", ["slope", f"{stem}.sum"], "inner"),
        ("Tanh", [f"{stem}.inner"], "tanh"),
        ("Add", ["one", f"{stem}.tanh"], "shifted"),
        ("Mul", ["half", f"{stem}.shifted"], "gate"),
    ]
    nodes = [node(op, inputs, f"{stem}.{name}") for op, inputs, name in steps]
    return [*nodes, helper.make_node("Mul", [x, f"{stem}.gate"], list(last.output), name=last.name)]
