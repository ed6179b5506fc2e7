"""What a MindIR graph is made of, once its wrappers (Load, Depend, tuples, calls) are resolved."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np


@dataclass(frozen=True, eq=False)
class Constant:
    """A value known at compile time: Python scalar, tuple, string, None, or an array."""

    value: Any


@dataclass(frozen=True, eq=False)
class Parameter:
    """A weight of the cell; `name` is the parameter's own."""

    name: str
    array: np.ndarray

    @property
    def scope(self) -> str:
        """The dotted name of the layer that owns it: `stem.conv` of `stem.conv.weight`."""
        return self.name.rpartition(".")[0]


@dataclass(frozen=True, eq=False)
class GraphInput:
    name: str
    shape: tuple[int, ...]
    dtype: np.dtype


@dataclass(frozen=True, eq=False)
class Result:
    """Output `index` of `node`."""

    node: MindNode
    index: int = 0


Value = Constant | Parameter | GraphInput | Result | tuple


@dataclass(eq=False)
class MindNode:
    """One primitive of the flattened graph.

    `inputs` are resolved values (tuples stay tuples), `outputs` the (shape, dtype) of each result, `layer` the dotted path
    of the cell that it stands in as written, as (name, class) pairs (see `layers.py` for how far that is true).
    """

    op: str
    inputs: list[Value]
    attrs: dict[str, Any]
    outputs: list[tuple[tuple[int, ...], np.dtype]]
    layer: tuple[tuple[str, str], ...] = ()

    @property
    def parameters(self) -> list[Parameter]:
        return [v for v in leaves(self.inputs) if isinstance(v, Parameter)]


@dataclass(eq=False)
class MindGraph:
    """A cell as a flat list of primitives in the order of execution."""

    inputs: list[GraphInput]
    nodes: list[MindNode]
    outputs: list[Value]


def leaves(values: Any) -> list[Value]:
    """All values in nested tuples, in order."""
    if isinstance(values, tuple | list):
        return [leaf for v in values for leaf in leaves(v)]
    return [values]
