"""Where float meets int8 in a `.ms`: which tensors are wanted in which form, and the casts between the forms.

A tensor keeps its place for its float form and gets a new one for each int8 form. A cast is made when the first reader
needs it and serves all later ones. Nodes that only move numbers do so in int8 where that costs no precision.
"""

from __future__ import annotations

from collections import defaultdict

import numpy as np

from msedge.lite.flat import Tree
from msedge.lite.ms_writer import QUANT_ALL, MsEditor, inputs, new_node, op, outputs, quant_param
from msedge.quantization.plan import TensorPlan

_INT8, _FLOAT32 = 32, 43  # QuantDTypeCast.src_t, dst_t
# Lite 2.0.0 has right int8 kernels for these; Flatten has none.
_MOVES = ("Reshape", "Transpose", "Gather", "Squeeze", "Unsqueeze", "ExpandDims")

Stored = tuple[float, int]  # the scale and zero point of an int8 form


def stored(t: TensorPlan) -> Stored:
    return t.scale[0], t.zero_point[0]


class Int8Flow:
    """Walks a model's nodes and writes its new ones. `reads[node name]` has the int8 forms of the inputs of every node that
    is to compute in int8 (None for constants), `writes[node name]` that of its output."""

    def __init__(self, editor: MsEditor, reads: dict[str, list[Stored | None]], writes: dict[str, Stored]):
        self._editor = editor
        self._reads, self._writes = reads, writes
        self._made: dict[int, Stored] = {}  # tensors that were computed in int8, and how
        self._int8: dict[tuple[int, Stored], int] = {}  # the place of each int8 form
        self._restored: set[int] = set()  # tensors computed in int8 that have their float form too
        self._nodes: list[Tree] = []
        self._int8_readers: dict[int, set[Stored]] = defaultdict(set)
        self._float_readers: set[int] = set(editor.outputs)
        self._find_readers()

    def rewrite(self) -> None:
        """Replace the editor's nodes; the nodes of `reads` have their constants in int8 already."""
        for node in self._editor.nodes:
            self._write(node)
        for tensor in self._editor.outputs:
            self._as_float(tensor)
        self._editor.nodes = self._nodes

    def _find_readers(self) -> None:
        for node in reversed(self._editor.nodes):
            if node["name"] in self._reads:
                for tensor, form in zip(inputs(node), self._reads[node["name"]], strict=True):
                    if form:
                        self._int8_readers[tensor].add(form)
            elif self._moves(node):
                source, result = inputs(node)[0], outputs(node)[0]
                self._int8_readers[source] |= self._int8_readers[result]
                if result in self._float_readers:
                    self._float_readers.add(source)
            else:
                self._float_readers.update(inputs(node))

    def _moves(self, node: Tree) -> bool:
        source, *rest = inputs(node) or (None,)
        is_constant = self._editor.is_constant
        return op(node) in _MOVES and not is_constant(source) and all(map(is_constant, rest))

    def _write(self, node: Tree) -> None:
        name = node["name"]
        if name in self._reads:
            forms = zip(inputs(node), self._reads[name], strict=True)
            self._compute(node, [self._as_int8(t, form) if form else t for t, form in forms], self._writes[name])
        elif self._moves(node) and (form := self._moved_as(node)):
            self._compute(node, [self._as_int8(inputs(node)[0], form), *inputs(node)[1:]], form)
        else:
            for tensor in inputs(node):
                self._as_float(tensor)
            self._nodes.append(node)

    def _moved_as(self, node: Tree) -> Stored | None:
        """The int8 form in which a moving node works: that of its source, or the only one that its readers want where
        nobody reads its result in float."""
        source, result = inputs(node)[0], outputs(node)[0]
        wanted = self._int8_readers[result]
        if len(wanted) != 1 or len(outputs(node)) != 1:
            return None
        (form,) = wanted
        made = self._made.get(source)
        return form if made == form or (made is None and result not in self._float_readers) else None

    def _compute(self, node: Tree, sources: list[int], form: Stored) -> None:
        result = outputs(node)[0]
        ends = {"inputIndex": np.array(sources, np.uint32), "outputIndex": np.array([self._new(result, form)], np.uint32)}
        self._nodes.append(node | ends | {"quantType": QUANT_ALL})
        self._made[result] = form

    def _new(self, tensor: int, form: Stored) -> int:
        t = self._editor.tensors[tensor]
        dims = () if t["dims"] is None else t["dims"]
        index = self._editor.add_tensor(t["name"], "int8", dims, [quant_param(*form)], t["format"])
        self._int8[tensor, form] = index
        return index

    def _as_int8(self, tensor: int, form: Stored) -> int:
        if (tensor, form) not in self._int8:
            self._as_float(tensor)
            self._cast(tensor, "int8", tensor, self._new(tensor, form), _FLOAT32, _INT8)
        return self._int8[tensor, form]

    def _as_float(self, tensor: int) -> None:
        if tensor in self._made and tensor not in self._restored:
            self._restored.add(tensor)
            self._cast(tensor, "float", self._int8[tensor, self._made[tensor]], tensor, _INT8, _FLOAT32)

    def _cast(self, tensor: int, suffix: str, source: int, result: int, src: int, dst: int) -> None:
        name = f"{self._editor.tensors[tensor]['name']}/{suffix}"
        self._nodes.append(new_node("QuantDTypeCast", name, [source], [result], src_t=src, dst_t=dst))
