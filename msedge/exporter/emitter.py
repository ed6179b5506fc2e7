"""What a rule gets: the primitive, its arguments as tensors or as static values, and `op` to emit ONNX nodes."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx

from msedge.errors import ExportError
from msedge.exporter.decode import Unknown
from msedge.exporter.graph import Graph, Type
from msedge.exporter.values import Constant, GraphInput, MindNode, Parameter, Result, Value

REQUIRED = object()


class Emitter:
    """Shared by all rules of one export: the graph under construction and the tensors that values have become."""

    def __init__(self, graph: Graph):
        self.graph = graph
        self.tensors: dict[int, str] = {}  # id of a value, or (id of a node, output) as one key
        self.alive: list[Value] = []  # ids stay unique while their values live

    def tensor(self, value: Value, layer: str) -> str:
        """The ONNX tensor of a value; parameters and constants become initialisers on first use."""
        if isinstance(value, Result):
            return self.tensors[id(value.node), value.index]
        if id(value) in self.tensors:
            return self.tensors[id(value)]
        if isinstance(value, Parameter):
            name = self.graph.add_constant(value.array, value.name, origin=value.name)
        elif isinstance(value, Constant) and isinstance(value.value, np.ndarray):
            name = self.graph.add_constant(value.value, f"{layer}/constant" if layer else "constant")
        else:
            raise TypeError(f"no tensor: {value!r}")
        self.tensors[id(value)] = name
        self.alive.append(value)
        return name


class Op:
    """One primitive under translation; the argument of every rule."""

    def __init__(self, node: MindNode, layer: str, emitter: Emitter):
        self.node = node
        self.layer = layer
        self.graph = emitter.graph
        self._emitter = emitter

    @property
    def where(self) -> str:
        """The primitive and its layer, for error messages."""
        return f"{self.node.op} in {self.layer or 'the outermost cell'}"

    @property
    def result(self) -> Type:
        """(shape, dtype) of the first result."""
        return self.node.outputs[0]

    def fail(self, problem: str, hint: str = "") -> ExportError:
        return ExportError(f"{self.where}: {problem}", hint or "this form has no ONNX rule in msedge: rewrite the layer")

    def has(self, i: int) -> bool:
        """Whether argument `i` is there and not None."""
        return i < len(self.node.inputs) and not (
            isinstance(self.node.inputs[i], Constant) and self.node.inputs[i].value is None
        )

    def shape(self, i: int = 0) -> tuple[int, ...]:
        """The shape of tensor argument `i`."""
        return self._type(i)[0]

    def dtype(self, i: int = 0) -> np.dtype:
        return self._type(i)[1]

    def _type(self, i: int) -> Type:
        v = self.node.inputs[i]
        if isinstance(v, Result):
            return v.node.outputs[v.index]
        if isinstance(v, GraphInput):
            return v.shape, v.dtype
        if isinstance(v, Parameter):
            return v.array.shape, v.array.dtype
        a = np.asarray(v.value)
        return a.shape, a.dtype

    def tensor(self, i: int = 0, dtype: np.dtype | None = None) -> str:
        """The ONNX tensor of argument `i`; a Python number becomes a scalar of `dtype` (default: the result's)."""
        if i >= len(self.node.inputs):
            raise self.fail(f"argument {i} is missing")
        v = self.node.inputs[i]
        if isinstance(v, Constant) and isinstance(v.value, bool | int | float):
            return self.constant(np.asarray(v.value, dtype or self.result[1]), "value")
        if isinstance(v, tuple) or (isinstance(v, Constant) and not isinstance(v.value, np.ndarray)):
            raise self.fail(f"argument {i} is no tensor")
        return self._emitter.tensor(v, self.layer)

    def is_number(self, i: int) -> bool:
        """Whether argument `i` is a Python number."""
        v = self.node.inputs[i]
        return isinstance(v, Constant) and isinstance(v.value, bool | int | float)

    def tensor_as(self, i: int, dtype: np.dtype) -> str:
        """As `tensor`, cast to `dtype` where it has another."""
        if self.is_number(i):
            return self.tensor(i, dtype)
        x = self.tensor(i)
        if self.dtype(i) == dtype:
            return x
        return self.op("Cast", x, to=int(onnx.helper.np_dtype_to_tensor_dtype(np.dtype(dtype))))

    def tensors(self, i: int) -> list[str]:
        """The tensors of the tuple argument `i`."""
        v = self.node.inputs[i]
        if not isinstance(v, tuple):
            raise self.fail(f"argument {i} is no tuple of tensors")
        return [self._emitter.tensor(item, self.layer) for item in v]

    def static(self, i: int, name: str = "", default: Any = REQUIRED) -> Any:
        """The Python value of argument `i`, or of the attribute `name` where the primitive carries it so."""
        if name in self.node.attrs:
            return self.node.attrs[name]
        if i >= len(self.node.inputs):
            if default is REQUIRED:
                raise self.fail(f"the argument {name or i} is missing")
            return default
        v = self.node.inputs[i]
        if isinstance(v, Constant) and not isinstance(v.value, Unknown):
            return v.value.tolist() if isinstance(v.value, np.ndarray) else v.value
        if isinstance(v, tuple) and all(isinstance(item, Constant) for item in v):
            return tuple(np.asarray(item.value).tolist() for item in v)
        raise self.fail(f"{name or f'argument {i}'} is computed at run time", "it must be a constant: use Python numbers")

    def attr(self, name: str, default: Any = REQUIRED) -> Any:
        """An attribute of the primitive."""
        if name not in self.node.attrs and default is REQUIRED:
            raise self.fail(f"the attribute {name} is missing")
        return self.node.attrs.get(name, default)

    def ints(self, i: int, name: str = "", default: Any = REQUIRED) -> tuple[int, ...]:
        """A static argument as a tuple of ints (a single int becomes a tuple of one)."""
        value = self.static(i, name, default)
        return tuple(int(v) for v in value) if isinstance(value, list | tuple) else (int(value),)

    def constant(self, value: np.ndarray, role: str) -> str:
        """A new initialiser, named after the layer and its role."""
        return self.graph.add_constant(np.asarray(value), f"{self.layer}/{role}" if self.layer else role)

    def numbers(self, values: Any, role: str) -> str:
        """An int64 initialiser, as shapes, axes and bounds need."""
        return self.constant(np.asarray(values, np.int64), role)

    def scalar(self, value: float, role: str) -> str:
        """A scalar initialiser of the result's type."""
        return self.constant(np.asarray(value, self.result[1]), role)

    def op(self, op: str, *inputs: str, n_out: int = 1, **attrs: Any) -> Any:
        """Emit an ONNX node; gives its output tensor, or the list of them if `n_out` is over 1."""
        node = self.graph.new_node(op, self.layer, inputs, n_out=n_out, **attrs)
        self.graph.nodes.append(node)
        return node.output if n_out == 1 else node.outputs

    def reshape(self, x: str, shape: tuple[int, ...]) -> str:
        return self.op("Reshape", x, self.numbers(shape, "shape"))
