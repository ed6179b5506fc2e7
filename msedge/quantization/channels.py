"""Where the channels of a tensor go: through movement, Split, ReLU and the second factor of a product, to what reads them.

Each channel has a number; the numbers are moved as the graph moves the tensor, so that no layout of heads and windows
needs to be known. A channel that is read only by weights may be multiplied by anything above 0 if those weights are divided
by the same: an exact rewrite.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import onnx
from onnx import NodeProto

from msedge.quantization.graph import MOVEMENT, ModelGraph

Products = dict[str, list[np.ndarray | None]]  # channels of both factors, by node
Ranges = dict[str, np.ndarray]  # largest absolute value of each channel, by tensor


@dataclass(frozen=True)
class Columns:
    """A weight that reads channels: index i of its input (Conv: input channel) reads channel `ids[i]`."""

    node: NodeProto
    weight: str
    axis: int
    ids: np.ndarray


@dataclass(frozen=True)
class Pair:
    """A product over which channel `left[i]` meets channel `right[i]`: one times r, the other over r, is the same."""

    left: np.ndarray
    right: np.ndarray


@dataclass
class Flow:
    """What reads a tensor of `channels` channels. `fixed` are channels that something else reads too."""

    channels: int
    columns: list[Columns] = field(default_factory=list)
    pairs: list[Pair] = field(default_factory=list)
    fixed: set[int] = field(default_factory=set)

    def fix(self, ids: np.ndarray) -> None:
        """Note that something reads these channels as they are."""
        self.fixed.update(np.unique(ids).tolist())

    def free(self) -> np.ndarray:
        """Channels, as bools, that only weights read."""
        read = np.zeros(self.channels, bool)
        for c in self.columns:
            read[c.ids] = True
        read[list(self.fixed)] = False
        for p in self.pairs:
            read[np.concatenate([p.left, p.right])] = False
        return read

    def matched(self) -> tuple[np.ndarray, np.ndarray]:
        """(left, right): channels that meet each other in products and nothing else."""
        both = [(a, b) for p in self.pairs for a, b in zip(p.left.tolist(), p.right.tolist(), strict=True)]
        partners: dict[int, set[int]] = {}
        for a, b in both:
            partners.setdefault(a, set()).add(b)
            partners.setdefault(b, set()).add(a)
        read = {int(i) for c in self.columns for i in c.ids}
        kept = {(a, b) for a, b in both if a != b and len(partners[a]) == len(partners[b]) == 1}
        kept = sorted(p for p in kept if not {*p} & (self.fixed | read))
        return np.array([a for a, _ in kept], int), np.array([b for _, b in kept], int)


class Channels:
    """Follows channels in one model. `shapes` are the static shapes of its tensors."""

    def __init__(self, graph: ModelGraph):
        self.graph = graph
        inferred = onnx.shape_inference.infer_shapes(graph.model)
        values = (*inferred.graph.value_info, *inferred.graph.input, *inferred.graph.output)
        self.shapes = {v.name: tuple(d.dim_value for d in v.type.tensor_type.shape.dim) for v in values}

    def flow(self, tensor: str, axis: int) -> Flow:
        """Follow the channels that lie along `axis` of a tensor."""
        shape = self.shapes[tensor]
        axis %= len(shape)
        ids = np.broadcast_to(np.arange(shape[axis]).reshape([-1 if i == axis else 1 for i in range(len(shape))]), shape)
        flow, products = Flow(shape[axis]), {}
        self._follow(tensor, ids, flow, products)
        for left, right in products.values():
            _meet(left, right, flow)
        return flow

    def _follow(self, tensor: str, ids: np.ndarray, flow: Flow, products: Products) -> None:
        if tensor == self.graph.output:
            flow.fix(ids)
        for node in self.graph.consumers.get(tensor, ()):
            places = [i for i, name in enumerate(node.input) if name == tensor]
            if node.op_type in (*MOVEMENT, "Split", "Relu") and places == [0]:
                for output, part in zip(node.output, moved(node, ids, self.graph, self.shapes), strict=True):
                    self._follow(output, part, flow, products)
            elif node.op_type == "MatMul" and not set(node.input) & set(self.graph.weights):
                if places == [1] and self._weighs_rows(node.input[0]) and (ids == ids[..., :1, :]).all():
                    rows = self.shapes[node.output[0]][-2]
                    self._follow(node.output[0], np.repeat(ids[..., :1, :], rows, -2), flow, products)
                else:
                    sides = products.setdefault(node.name, [None, None])
                    for place in places:
                        sides[place] = ids
            elif (reader := self._columns(node, ids)) is not None and places == [0]:
                flow.columns.append(reader)
            else:
                flow.fix(ids)

    def _weighs_rows(self, tensor: str) -> bool:
        """Whether a first factor keeps its values when followed channels are rescaled: what Softmax wrote does, for the
        products in its argument are of matched pairs, or their channels are fixed."""
        maker = self.graph.maker(self.graph.root(tensor))
        return maker is not None and maker.op_type == "Softmax"

    def _columns(self, node: NodeProto, ids: np.ndarray) -> Columns | None:
        """The node as a reader of whole channels, or None."""
        unit = self.graph.units.get(node.name)
        if unit is None or unit.weight is None or node.input[1] != unit.weight:
            return None
        if len(self.graph.consumers[unit.weight]) > 1:
            return None
        if node.op_type == "Conv":
            weight = self.graph.weights[unit.weight]
            if not (ids == ids[:, :, :1, :1]).all() or not (ids == ids[:1]).all():
                return None
            group = next((a.i for a in node.attribute if a.name == "group"), 1)
            if group == 1:
                return Columns(node, unit.weight, 1, ids[0, :, 0, 0])
            return Columns(node, unit.weight, 0, ids[0, :, 0, 0]) if group == len(weight) == ids.shape[1] else None
        first = ids.reshape(-1, ids.shape[-1])
        if self.graph.weights[unit.weight].ndim != 2:
            return None
        return Columns(node, unit.weight, 1 - unit.axis, first[0]) if (first == first[0]).all() else None


def _meet(left: np.ndarray | None, right: np.ndarray | None, flow: Flow) -> None:
    """A product of activations: pairs where both factors are of the flow and hold one channel for each place of the sum."""
    if left is not None and right is not None and (left == left[..., :1, :]).all() and (right == right[..., :1]).all():
        flow.pairs.append(Pair(left[..., 0, :].ravel(), right[..., 0].ravel()))
        return
    for ids in (left, right):
        if ids is not None:
            flow.fix(ids)


def moved(node: NodeProto, x: np.ndarray, graph: ModelGraph, shapes: dict[str, tuple[int, ...]]) -> tuple[np.ndarray, ...]:
    """What a movement node, Split (or ReLU, for channel numbers) makes of x: its outputs."""
    attributes = {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute}
    if node.op_type == "Split":
        axis = attributes.get("axis", 0)
        return tuple(np.split(x, np.cumsum([shapes[o][axis] for o in node.output])[:-1], axis))
    if node.op_type == "Transpose":
        return (x.transpose(attributes.get("perm", range(x.ndim)[::-1])),)
    if node.op_type == "Gather":
        return (np.take(x, graph.weights[node.input[1]], attributes.get("axis", 0)),)
    return (x if node.op_type in ("Relu", "Identity") else x.reshape(shapes[node.output[0]]),)


def scaled(graph: ModelGraph, changes: list[tuple[str, int, np.ndarray]]) -> ModelGraph:
    """The model with initialisers multiplied along an axis; several changes of one weight are all made."""
    values: dict[str, np.ndarray] = {}
    for name, axis, factors in changes:
        w = values.get(name, graph.weights[name].astype(np.float64))
        values[name] = w * factors.reshape([-1 if i == axis % w.ndim else 1 for i in range(w.ndim)])
    return graph.with_weights(values)


def column_changes(flow: Flow, factors: np.ndarray) -> list[tuple[str, int, np.ndarray]]:
    """What undoes channels times `factors` in the weights that read them."""
    return [(c.weight, c.axis, 1 / factors[c.ids]) for c in flow.columns]
