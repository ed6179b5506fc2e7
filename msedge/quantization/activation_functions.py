"""Which activation function alone reads a tensor, found in the graph."""

from __future__ import annotations

import math

import numpy as np

from msedge.quantization.graph import ModelGraph
from msedge.quantization.scheme import Through

_erf = np.vectorize(math.erf, otypes=[np.float64])


def silu(x: np.ndarray) -> np.ndarray:
    return x / (1 + np.exp(-np.clip(x, -60, 60)))


def gelu(x: np.ndarray) -> np.ndarray:
    return x * 0.5 * (1 + _erf(x / math.sqrt(2)))


def relu(x: np.ndarray) -> np.ndarray:
    return np.maximum(x, 0)


_PATTERNS = {("Mul", "Sigmoid"): silu, ("Div", "Mul"): gelu, ("Relu",): relu}
_INSIDE = {silu: "Sigmoid", gelu: "Erf", relu: "Relu"}


def function_of(graph: ModelGraph, tensor: str) -> Through | None:
    """SiLU as Sigmoid and Mul, GELU as Div, Erf, Add and Mul, ReLU; None where anything else reads the tensor."""
    readers = graph.consumers.get(tensor, ())
    if tensor == graph.output or not readers:
        return None
    found = _PATTERNS.get(tuple(sorted(n.op_type for n in readers)))
    if found is None:
        return None
    first = next(n for n in readers if n.op_type != "Mul")
    reached = {first.op_type} | {n.op_type for n in graph.consumers.get(first.output[0], ())}
    return found if _INSIDE[found] in reached else None
