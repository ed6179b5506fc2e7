"""Read a MindIR protobuf into a flat graph of primitives.

MindIR wraps every use of a parameter in `Load`, orders effects with `UpdateState` and `Depend`, passes several tensors as
`MakeTuple` and `TupleGetItem`, and may keep cells as sub-graphs that are called. None of these compute anything: they are
resolved here, so that rules see primitives, parameters and constants only.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from msedge.errors import ArtifactError, ExportError
from msedge.exporter.decode import Unknown, array, attribute, element_type, output_types, pb, scope
from msedge.exporter.values import Constant, GraphInput, MindGraph, MindNode, Parameter, Result, Value, leaves

_TRANSPARENT = {"Load", "Depend", "TensorMove", "Identity", "StopGradient", "stop_gradient", "Contiguous"}
_TUPLES = {"MakeTuple", "make_list", "MakeList"}
_BRANCHES = {"Switch", "SwitchLayer", "Partial", "switch", "partial"}
_NOTHING = Constant(Unknown("UMONAD"))


def read_mindir(source: Path | str | Any) -> MindGraph:
    """Read a `.mindir` file, or an already parsed `ModelProto`.

    Raises ArtifactError for a missing or damaged file, ExportError for a graph that depends on values (branches, loops).
    """
    model = source if isinstance(source, pb.ModelProto) else _parse(Path(source))
    return _Flattener(model).run()


def _parse(path: Path) -> Any:
    model = pb.ModelProto()
    try:
        model.ParseFromString(path.read_bytes())
    except FileNotFoundError:
        raise ArtifactError(f"the MindIR is missing: {path}") from None
    except OSError as e:
        raise ArtifactError(f"the MindIR cannot be read: {path}: {e}") from e
    except Exception as e:  # protobuf's DecodeError has no stable public name
        raise ArtifactError(f"{path} is not a MindIR file: {e}", "the file may be damaged or cut off: export it again") from e
    if not model.graph.node:
        raise ArtifactError(f"{path} is not a MindIR file: it has no graph", "export it again")
    return model


class _Flattener:
    def __init__(self, model: Any):
        self.model = model
        self.primitives = {p.name: p for p in model.primitives}
        self.attributes: dict[str, dict[str, Any]] = {}
        self.functions = {f.name: f for f in model.functions}
        self.constants: dict[str, Value] = {}
        self.nodes: list[MindNode] = []

    def run(self) -> MindGraph:
        graph = self.model.graph
        for g in (graph, *self.model.functions):
            for n in g.node:
                if n.op_type == "Constant":
                    self.constants[n.output[0]] = _constant(attribute(n.attribute[0]))
        parameters = {p.name: Parameter(p.name.removeprefix(f"{graph.name}:"), array(p)) for p in graph.parameter}
        inputs = {i.name: _graph_input(i, graph.name) for i in graph.input if i.name not in parameters}
        outputs = self._expand(graph, {**parameters, **inputs})
        flat = [v for v in leaves(outputs) if not _is_nothing(v)]
        return MindGraph(list(inputs.values()), _reachable(self.nodes, flat), flat)

    def _expand(self, graph: Any, values: dict[str, Value]) -> list[Value]:
        for n in graph.node:
            if n.op_type != "Constant":
                values[n.output[0]] = self._resolve(n, values)
        return [self._value(o.name, values) for o in graph.output]

    def _value(self, name: str, values: dict[str, Value]) -> Value:
        if name in values:
            return values[name]
        if name in self.constants:
            return self.constants[name]
        if name in self.functions:
            return Constant(Unknown(name))
        raise ArtifactError(f"the MindIR is damaged: nothing makes the value {name}", "export it again")

    def _resolve(self, n: Any, values: dict[str, Value]) -> Value:
        target = n.op_type.removeprefix("REF::")
        if target in self.functions:
            return self._call(self.functions[target], [self._value(i, values) for i in n.input])
        primitive = self.primitives.get(target)
        op = primitive.op_type if primitive is not None else target
        if op == "UpdateState":
            return _NOTHING
        path = scope(n.domain)
        if op in _BRANCHES or primitive is None:
            raise ExportError(
                f"the cell branches on the values of a tensor in {'.'.join(p[0] for p in path) or 'its construct'} ({op})",
                "ONNX export needs the same primitives for every input: write it with ops.select or ops.where",
            )
        inputs = [self._value(i, values) for i in n.input]
        if op in _TRANSPARENT:
            return inputs[0]
        if op in _TUPLES:
            return tuple(inputs)
        if op in ("TupleGetItem", "tuple_getitem", "list_getitem", "ListGetItem"):
            return _item(inputs[0], int(inputs[1].value))
        return self._node(op, target, n, inputs, path)

    def _call(self, function: Any, arguments: list[Value]) -> Value:
        bound = {i.name: a for i, a in zip(function.input, arguments, strict=False)}
        results = self._expand(function, bound)
        return results[0] if len(results) == 1 else tuple(results)

    def _node(self, op, target, n, inputs, path) -> Value:
        if target not in self.attributes:
            self.attributes[target] = {a.name: attribute(a) for a in self.primitives[target].attribute}
        outputs, multiple = output_types(n)
        arguments = [v for v in inputs if not _is_nothing(v)]
        node = MindNode(op, arguments, self.attributes[target], outputs, path)
        self.nodes.append(node)
        return tuple(Result(node, i) for i in range(len(outputs))) if multiple else Result(node)


def _is_nothing(v: Value) -> bool:
    return isinstance(v, Constant) and isinstance(v.value, Unknown) and v.value.kind in ("UMONAD", "IOMONAD")


def _constant(value: Any) -> Value:
    """Constant tuples that hold arrays become tuples of constants, as MakeTuple would give."""
    if isinstance(value, tuple) and any(hasattr(v, "shape") for v in value):
        return tuple(_constant(v) for v in value)
    return Constant(value)


def _item(v: Value, index: int) -> Value:
    if isinstance(v, tuple):
        return v[index]
    if isinstance(v, Constant) and isinstance(v.value, tuple):
        return Constant(v.value[index])
    raise ExportError("the MindIR takes an element of a value that is no tuple", "this is a limit of msedge: report the model")


def _graph_input(i: Any, graph: str) -> GraphInput:
    t, name = i.tensor[0], i.name.removeprefix(f"{graph}:")
    shape = tuple(t.dims)
    if any(d < 0 for d in shape):
        raise ExportError(f"the MindIR's input {name} has no fixed shape: {shape}", "export it with a fixed input shape")
    return GraphInput(name, shape, element_type(t.data_type))


def _reachable(nodes: list[MindNode], outputs: list[Value]) -> list[MindNode]:
    wanted = {id(v.node) for v in outputs if isinstance(v, Result)}
    kept = []
    for node in reversed(nodes):
        if id(node) in wanted:
            kept.append(node)
            wanted.update(id(v.node) for v in leaves(node.inputs) if isinstance(v, Result))
    return kept[::-1]
