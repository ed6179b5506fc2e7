"""An exported ONNX graph as a MindSpore cell, in float or as a plan quantises it; it can learn both weights and scales."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx

from msedge.errors import DataError, ModelError
from msedge.mindspore_setup import load_mindspore
from msedge.quantization.graph import ModelGraph, Unit
from msedge.quantization.plan import NodePlan, Plan, TensorPlan

load_mindspore()

from mindspore import Parameter, ParameterTuple, Tensor, nn  # noqa: E402

from msedge.models.native import operators as native  # noqa: E402
from msedge.quantization.cell.fake import Quantiser, StoredActivation, WeightQuantiser  # noqa: E402
from msedge.quantization.cell.operators import SHAPED, Context, Identity, build  # noqa: E402
from msedge.quantization.cell.patterns import Step, find_steps  # noqa: E402


class Place(nn.Cell):
    """Calls `operator` with the tensors of some slots and with parameters, and puts the result into slot `at`."""

    def __init__(self, operator: Callable, slots: tuple[int, ...], at: int, parameters: list[Parameter]):
        super().__init__(auto_prefix=False)
        self.operator, self.at, self.after = operator, at, at + 1
        self.count = len(slots)
        self.first, self.second = (*slots, 0, 0)[:2]
        self.slots = slots
        self.fixed, self.has_fixed = ParameterTuple(parameters), bool(parameters)

    def construct(self, live):
        return live[: self.at] + (self.result(live),) + live[self.after :]

    def result(self, live):
        if self.count == 1 and not self.has_fixed:
            return self.operator(live[self.first])
        if self.count == 1:
            return self.operator(live[self.first], *self.fixed)
        if self.count == 2 and not self.has_fixed:
            return self.operator(live[self.first], live[self.second])
        if self.count == 2:
            return self.operator(live[self.first], live[self.second], *self.fixed)
        if self.count == 0:
            return self.operator(*self.fixed)
        inputs = ()
        for slot in self.slots:
            inputs = inputs + (live[slot],)
        return self.operator(*inputs)


class Item(nn.Cell):
    """One of an operator's several results."""

    def __init__(self, index: int):
        super().__init__(auto_prefix=False)
        self.index = index

    def construct(self, results):
        return results[self.index]


class GraphCell(nn.Cell):
    """`construct`: float32 [N, 3, H, W] to logits [N, classes], with N as the graph was exported.

    With a plan, the inputs and outputs of its int8 nodes and the weights of its int8 and weight nodes are stored as it
    says. `learn`: parameters and scales require gradients; `learned` says how activations find their scales (lsq, ema).
    Constants that the exporter made (masks, shares, epsilons) and the tensors of `fixed` stay as they are.
    Parameters have the names of the ONNX initialisers, scales those of their tensors with an ending, until the cell becomes
    part of one that renames them: `weights` and `tensors` know them by their first names.
    Raises ModelError for operators and plans that cannot be trained.
    """

    def __init__(
        self,
        graph: ModelGraph,
        plan: Plan | None = None,
        learn: bool = False,
        learned: str = "lsq",
        fixed: frozenset[str] = frozenset(),
    ):
        super().__init__(auto_prefix=False)
        _Builder(self, graph, plan, learn, learned, fixed).build()
        self.set_train(False)

    def construct(self, x):
        live = (x,) * self.width
        for step in self.steps:
            live = step(live)
        return live[self.out]

    def weights(self) -> dict[str, np.ndarray]:
        """The values of the float initialisers by name."""
        return {name: p.asnumpy() for name, p in self._initialisers.items()}

    def learned_weights(self) -> list[str]:
        """The names of the float initialisers that require gradients."""
        return [name for name, p in self._initialisers.items() if p.requires_grad]

    def tensors(self) -> dict[str, TensorPlan]:
        """How each quantised tensor is stored now."""
        return {name: q.to_plan() for name, q in self._quantisers.items()}

    def set_tensors(self, tensors: dict[str, TensorPlan]) -> None:
        """Store tensors as these plans say from now on."""
        for name, quantiser in self._quantisers.items():
            quantiser.set_plan(tensors[name])

    def scales(self) -> list[Parameter]:
        """What scales and zero points are made of: learned, or followed by moving averages."""
        return [q.value for q in self._quantisers.values()]

    def follow(self, momentum: float) -> None:
        """Set the share of each batch in moving averages (ema); 0 keeps them."""
        self._momentum.set_data(Tensor(np.array([momentum], np.float32)))

    def run(self, images: np.ndarray) -> np.ndarray:
        """Logits of any number of images, float32 [N, 3, H, W]; the last batch is filled up. In the caller's mode: a graph
        takes long to compile and pays for itself after some hundred batches."""
        if images.ndim != 4 or images.shape[1:] != self.image_shape or not len(images):
            raise DataError(f"images are {list(images.shape)}, the model takes {['N', *self.image_shape]}")
        rows = []
        for i in range(0, len(images), self.batch):
            part = images[i : i + self.batch]
            filled = np.concatenate([part, np.repeat(part[-1:], self.batch - len(part), 0)])
            rows.append(self(Tensor(np.ascontiguousarray(filled, np.float32))).asnumpy()[: len(part)])
        return np.concatenate(rows)


def simulate(graph: ModelGraph, plan: Plan | None, images: np.ndarray) -> np.ndarray:
    """Logits [N, classes] of the plan's rounding in MindSpore (without a plan: in float) for float32 [N, 3, H, W]."""
    return GraphCell(graph, plan).run(images)


def trainable(name: str, value: np.ndarray, graph: ModelGraph) -> bool:
    """Whether an initialiser is one of the model's parameters: those keep their names on export, what the exporter makes
    has a slash in its name. Biases that it folded are learned all the same."""
    if value.dtype != np.float32 or value.ndim == 0:
        return False
    folded = value.size > 1 and any(name == u.bias for u in graph.units.values())
    return "/" not in name or folded


class _Builder:
    """Turns steps into places, keeping each tensor in a slot until its last reader has run."""

    def __init__(self, cell: GraphCell, graph: ModelGraph, plan: Plan | None, learn: bool, learned: str, fixed):
        self.cell, self.graph, self.learn, self.learned = cell, graph, learn, learned
        self.plan = plan or Plan(graph.fingerprint, {}, {})
        self.shapes = _shapes(graph)
        self.momentum = Parameter(Tensor(np.zeros(1, np.float32)), name="momentum", requires_grad=False)
        learning = {n for n, v in graph.weights.items() if learn and n not in fixed and trainable(n, v, graph)}
        self.initialisers = {
            name: Parameter(Tensor(value), name=name, requires_grad=name in learning)
            for name, value in graph.weights.items()
            if value.dtype == np.float32
        }
        self.quantisers: dict[str, Quantiser | WeightQuantiser] = {}
        self.int8 = set(self.plan.of("int8"))
        self.stored = {graph.units[n].output for n in self.int8}
        self.readers: dict[str, list[Step]] = {}
        self.fused: set[str] = set()  # outputs of activation functions that the unit before them computes
        self.moves: list[tuple[Callable, tuple[str, ...], str]] = []  # (operator, inputs, output)
        self.done: dict[str, str] = {}  # what stands for a tensor that is read as it is stored, or for an initialiser

    def build(self) -> None:
        steps = find_steps(self.graph, frozenset(self.plan.of("int8", "weight")))
        for step in steps:
            for name in step.inputs:
                self.readers.setdefault(name, []).append(step)
        for step in steps:
            if step.output not in self.fused:
                self._add(step)
        cell = self.cell
        cell.steps, cell.width, cell.out = self._places()
        cell.batch, *image = self.shapes[self.graph.input]
        cell.image_shape = tuple(image)
        hidden = {"_initialisers": self.initialisers, "_quantisers": self.quantisers, "_momentum": self.momentum}
        for name, value in hidden.items():
            object.__setattr__(cell, name, value)  # past Cell, which would own their parameters a second time

    def _add(self, step: Step) -> None:
        unit, precision = self.graph.units.get(step.node.name), self.plan.nodes.get(step.node.name, NodePlan("float")).precision
        if step.op not in ("Conv", "Gemm", "MatMul"):
            unit = None
        quantised = unit is not None and precision != "float"
        weight = self._weight(unit.weight) if quantised and unit.weight else None
        if weight and unit.weight != step.inputs[1]:
            raise ModelError(f"the node {unit.name!r} has its weight on the left", "keep it in float")
        output, result = self._output(unit) if quantised and precision == "int8" else (None, step.output)
        inputs = step.inputs[:1] if step.op in SHAPED else step.inputs
        context = Context(self.graph.weights, self.shapes, weight, output)
        operator = build(step, context)
        if quantised and precision == "int8":
            inputs = tuple(i if i in self.graph.weights else self._as_stored(i) for i in inputs)
        if not step.also:
            self._move(operator, inputs, result)
            return
        self._move(operator, inputs, f"{step.output}:all")
        for i, name in enumerate((step.output, *step.also)):
            self._move(Item(i), (f"{step.output}:all",), name)

    def _move(self, operator: Callable, inputs: tuple[str, ...], output: str) -> None:
        live = [i for i in inputs if i not in self.initialisers]
        if list(inputs[: len(live)]) != live or len(live) > 2:  # parameters stand first: they become tensors
            for i in inputs:
                if i in self.initialisers and i not in self.done:
                    self.done[i] = f"{i}:tensor"
                    self.moves.append((Identity(), (i,), self.done[i]))
            inputs = tuple(self.done[i] if i in self.initialisers else i for i in inputs)
        self.moves.append((operator, inputs, output))

    def _as_stored(self, tensor: str) -> str:
        """The tensor with its root's rounding; outputs of int8 nodes have it already."""
        root = self.graph.root(tensor)
        if root in self.stored:
            return tensor
        if tensor not in self.done:
            self.done[tensor] = f"{tensor}:stored"
            self.moves.append((self._activation(root), (tensor,), f"{tensor}:stored"))
        return self.done[tensor]

    def _output(self, unit: Unit) -> tuple[Quantiser | StoredActivation, str]:
        """What stores the output of an int8 node, together with an activation function that alone reads it, and the tensor
        that comes out."""
        first, readers = self._activation(unit.output), self.readers.get(unit.output, [])
        fits = len(readers) == 1 and readers[0].op in ("Silu", "Gelu") and unit.output != self.graph.output
        if not fits or self.learned != "lsq" or not native.available():
            return first, unit.output
        (act,) = readers
        self.fused.add(act.output)
        after = self.readers.get(act.output, [])
        second, name = None, act.output
        if after and act.output != self.graph.output and all(s.node.name in self.int8 for s in after):
            second, name = self._activation(act.output), f"{act.output}:stored"
            self.done[act.output] = name
        return StoredActivation(first, act.op.lower(), second), name

    def _activation(self, tensor: str) -> Quantiser:
        if tensor not in self.quantisers:
            plan = self._tensor(tensor)
            self.quantisers[tensor] = Quantiser(tensor, plan, self.learned, self.momentum, self.learn)
        return self.quantisers[tensor]

    def _weight(self, name: str) -> WeightQuantiser:
        if name not in self.quantisers:
            shape = self.graph.weights[name].shape
            self.quantisers[name] = WeightQuantiser(name, shape, self._tensor(name), self.learn)
        return self.quantisers[name]

    def _tensor(self, name: str) -> TensorPlan:
        if name not in self.plan.tensors:
            raise ModelError(f"the plan has no tensor {name!r}", "make the plan again")
        return self.plan.tensors[name]

    def _places(self) -> tuple[nn.CellList, int, int]:
        last = {self.graph.output: len(self.moves)}
        for i, (_, inputs, _) in reversed(list(enumerate(self.moves))):
            for name in inputs:
                last.setdefault(name, i)
        slot, free, width, places = {self.graph.input: 0}, [], 1, []
        for i, (operator, inputs, output) in enumerate(self.moves):
            live = [n for n in inputs if n not in self.initialisers]
            taken = tuple(slot[n] for n in live)
            for name in dict.fromkeys(live):
                if last[name] == i:
                    free.append(slot.pop(name))
            if free:
                at = free.pop()
            else:
                at, width = width, width + 1
            slot[output] = at
            if last.get(output) is None:  # nothing reads it
                free.append(slot.pop(output))
            places.append(Place(operator, taken, at, [self.initialisers[n] for n in inputs if n in self.initialisers]))
        return nn.CellList(places, auto_prefix=False), width, slot[self.graph.output]


def _shapes(graph: ModelGraph) -> dict[str, tuple[int, ...]]:
    """The shape of every tensor; raises ModelError where one is not fixed."""
    inferred = onnx.shape_inference.infer_shapes(graph.model, data_prop=True).graph
    shapes = {name: tuple(value.shape) for name, value in graph.weights.items()}
    for info in (*inferred.input, *inferred.value_info, *inferred.output):
        shapes[info.name] = tuple(d.dim_value for d in info.type.tensor_type.shape.dim)
    for node in graph.nodes:
        for name in node.output:
            if not all(shapes.get(name, (0,))):
                raise ModelError(f"the tensor {name!r} has no fixed shape", "export the model with a fixed batch")
    return shapes
