"""The graph that rules emit and passes rewrite: ONNX's vocabulary, NumPy's constants, no protobuf."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

Type = tuple[tuple[int, ...], np.dtype]


@dataclass(eq=False)
class Node:
    """One ONNX node; attributes are ints, floats, strings, or lists of ints."""

    op: str
    name: str
    inputs: list[str]
    outputs: list[str]
    attrs: dict[str, Any] = field(default_factory=dict)

    @property
    def layer(self) -> str:
        return self.name.rpartition("/")[0]

    @property
    def output(self) -> str:
        return self.outputs[0]


@dataclass(eq=False)
class Graph:
    """Nodes in the order of execution, constants by name, the (shape, dtype) of every tensor.

    `origin[c]` is the parameter that the constant `c` was computed from, where it is exactly one. `room` is how many bytes
    the constants may still grow by folding.
    """

    inputs: list[str]
    outputs: list[str]
    nodes: list[Node] = field(default_factory=list)
    constants: dict[str, np.ndarray] = field(default_factory=dict)
    types: dict[str, Type] = field(default_factory=dict)
    origin: dict[str, str] = field(default_factory=dict)
    room: int = 0
    _taken: set[str] = field(default_factory=set)

    def unique(self, wanted: str) -> str:
        """`wanted`, or `wanted_1`, `wanted_2`... where it is taken; the answer is then taken."""
        name, n = wanted, 0
        while name in self._taken:
            n += 1
            name = f"{wanted}_{n}"
        self._taken.add(name)
        return name

    def shape(self, tensor: str) -> tuple[int, ...]:
        return self.types[tensor][0]

    def producers(self) -> dict[str, Node]:
        return {o: n for n in self.nodes for o in n.outputs}

    def consumers(self) -> dict[str, list[Node]]:
        found: dict[str, list[Node]] = {}
        for n in self.nodes:
            for i in dict.fromkeys(n.inputs):
                found.setdefault(i, []).append(n)
        return found

    def uses(self) -> Counter[str]:
        """How often each tensor is read, a graph output counting as one."""
        return Counter([i for n in self.nodes for i in n.inputs] + self.outputs)

    def scalar(self, tensor: str) -> float | None:
        """The value of a constant with one element, else None."""
        c = self.constants.get(tensor)
        return float(c.reshape(())) if c is not None and c.size == 1 else None

    def add_constant(self, value: np.ndarray, wanted: str, origin: str | None = None) -> str:
        name = self.unique(wanted)
        self.constants[name] = np.asarray(value, order="C")
        self.types[name] = (value.shape, value.dtype)
        if origin:
            self.origin[name] = origin
        return name

    def new_node(
        self, op: str, layer: str, inputs: Iterable[str], types: list[Type] | None = None, n_out: int = 1, **attrs: Any
    ) -> Node:
        """A node with a name of its own, not yet in `nodes`; its tensors are named after it."""
        name = self.unique(f"{layer}/{op}" if layer else op)
        outputs = [name] if n_out == 1 else [f"{name}.{i}" for i in range(n_out)]
        for o, t in zip(outputs, types or [], strict=False):
            self.types[o] = t
        return Node(op, name, list(inputs), outputs, attrs)

    def new_reshape(self, layer: str, tensor: str, shape: tuple[int, ...]) -> Node:
        """A Reshape of `tensor`, with a shape constant of its own, not yet in `nodes`."""
        target = self.add_constant(np.asarray(shape, np.int64), f"{layer}/shape")
        return self.new_node("Reshape", layer, [tensor, target], [(shape, self.types[tensor][1])])

    def replace(self, old: str, new: str) -> None:
        """Let everything that reads `old` read `new`."""
        for n in self.nodes:
            n.inputs = [new if i == old else i for i in n.inputs]
        self.outputs = [new if o == old else o for o in self.outputs]

    def remove(self, nodes: Iterable[Node]) -> None:
        gone = {id(n) for n in nodes}
        self.nodes = [n for n in self.nodes if id(n) not in gone]

    def insert(self, where: Node, nodes: list[Node]) -> None:
        """Put `nodes` in the place of `where`, which goes."""
        at = next(i for i, n in enumerate(self.nodes) if n is where)
        self.nodes[at : at + 1] = nodes
