"""Rewrites of data movement: nodes before and after, the result the same (`roundtrip` compares it with the cell)."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from msedge.mindspore_setup import load_mindspore

ms = load_mindspore()

from mindspore import nn, ops  # noqa: E402

from msedge.exporter import passes  # noqa: E402
from msedge.models.attention import Attention, TransformerBlock, from_windows, to_map, to_tokens, to_windows  # noqa: E402
from msedge.models.mobilevit import fold, unfold  # noqa: E402
from msedge.models.swin import PatchMerging, SwinBlock  # noqa: E402

_MOVES = ("Transpose", "Split", "Concat", "Slice", "Gather", "Mul")


@pytest.fixture
def without(roundtrip, monkeypatch):
    """Exports with the named rewrites left out, and counts the nodes that move numbers."""

    def export(cell, shape: tuple[int, ...], *names: str) -> Counter:
        with monkeypatch.context() as patch:
            patch.setattr(passes, "PASSES", tuple(p for p in passes.PASSES if p.__name__ not in names))
            patch.setattr(passes, "LAST", tuple(p for p in passes.LAST if p.__name__ not in names))
            model = roundtrip(cell(), shape)
        return Counter(n.op_type for n in model.graph.node)

    return export


def moved(counts: Counter) -> dict[str, int]:
    return {op: counts[op] for op in _MOVES if counts[op]}


class Heads(nn.Cell):
    """Attention over 12 tokens in sequences of an image of rows [24, 32]."""

    def __init__(self, by_head: bool = False):
        super().__init__()
        self.attention = Attention(32, 2, 16, by_head)

    def construct(self, x):
        return self.attention(x, 12)[0]


class Windows(Heads):
    """The same on the 3 x 3 windows of a 6 x 6 grid."""

    def construct(self, x):
        y = self.attention(to_windows(x, 6, 3), 9)[0]
        return x + from_windows(y, 6, 3)


class Shifted(nn.Cell):
    def __init__(self):
        super().__init__()
        self.block = SwinBlock(32, 2, 16, 48, 0.0, 6, 3, 1)

    def construct(self, x):
        return self.block(x, 1)[0]


class Merging(nn.Cell):
    def __init__(self):
        super().__init__()
        self.merge = PatchMerging(16, 24, 4)

    def construct(self, x):
        return self.merge(x)


class Patches(nn.Cell):
    """MobileViT's way from a map to rows and back, with something in between that is no movement."""

    def __init__(self):
        super().__init__()
        self.first, self.last = nn.Conv2d(8, 16, 1, has_bias=True), nn.Conv2d(16, 8, 1, has_bias=True)

    def construct(self, x):
        return self.last(fold(ops.tanh(unfold(self.first(x))), 4, 6))


class Conved(nn.Cell):
    """From a map to rows and back: the transpositions that a runtime with channels last does not have."""

    def __init__(self):
        super().__init__()
        self.first, self.last = nn.Conv2d(8, 16, 1, has_bias=True), nn.Conv2d(16, 8, 1, has_bias=True)

    def construct(self, x):
        return self.last(to_map(ops.tanh(to_tokens(self.first(x))), 4))


ROWS = (24, 32)
SWAP = {"Transpose": 1}  # the one that is part of q k^T


@pytest.mark.parametrize(
    ("cell", "shape", "before", "after"),
    [
        (Heads, ROWS, {"Transpose": 3, "Split": 1}, {**SWAP, "Gather": 4}),
        (lambda: Heads(by_head=True), ROWS, {"Transpose": 3, "Split": 1}, {**SWAP, "Gather": 4}),
        (Windows, (36, 32), {"Transpose": 5, "Split": 1}, {**SWAP, "Gather": 4}),
        (Shifted, (36, 32), {"Transpose": 5, "Split": 5, "Concat": 4, "Mul": 4}, {**SWAP, "Gather": 4, "Mul": 4}),
        (Merging, (64, 16), {"Transpose": 2, "Mul": 1}, {"Gather": 1, "Mul": 1}),
        (Patches, (1, 8, 4, 6), {"Transpose": 4}, {"Transpose": 2, "Gather": 2}),
        (Conved, (1, 8, 4, 4), {"Transpose": 2}, {"Transpose": 2}),
    ],
    ids=["heads", "by_head", "windows", "shifted", "merging", "patches", "layout_only"],
)
def test_movement_of_rows_becomes_gathers(cell, shape, before, after, without):
    assert moved(without(cell, shape, "gather_rows", "swap_gather_gemm")) == before
    assert moved(without(cell, shape)) == after


def test_windows_meet_the_heads_beyond_the_projections(without):
    assert without(Windows, (36, 32), "swap_gather_gemm")["Gather"] == 6
    assert without(Windows, (36, 32))["Gather"] == 4


class Sliced(nn.Cell):
    """Only the first row is used: it lies in order, yet is no whole that a reshape could stand for."""

    def construct(self, x):
        return x.reshape(6, 4, 32).transpose(1, 0, 2)[:1, :1] * 2.0


def test_a_part_of_the_rows_is_gathered(without):
    assert moved(without(Sliced, ROWS)) == {"Gather": 1, "Mul": 1}


class ReadTwice(nn.Cell):
    """The query's rows are also read unscaled, or the scale meets rows of the key as well."""

    def __init__(self, overlap: bool):
        super().__init__()
        self.fc = nn.Dense(32, 96)
        self.overlap = overlap

    def construct(self, x):
        y = self.fc(x).reshape(2, 12, 6, 16).transpose(0, 2, 1, 3)
        q, rest = ops.split(y, (2, 4), 1)
        return (q * 0.25).sum() + (y.mean() if self.overlap else rest.mean())


def test_the_scale_of_the_query_goes_into_its_projection(without):
    assert without(Heads, ROWS, "fold_query_scale")["Mul"] == 1
    assert without(Heads, ROWS)["Mul"] == 0
    assert without(lambda: ReadTwice(False), ROWS)["Mul"] == 0
    assert without(lambda: ReadTwice(True), ROWS)["Mul"] == 1


class ClassToken(nn.Cell):
    """A block over images of 12 tokens each, of which only the first is classified; `mean` also reads all."""

    def __init__(self, mean: bool):
        super().__init__()
        self.block = TransformerBlock(32, 2, 16, 48, 0.0, "gelu")
        self.head = nn.Dense(32, 5)
        self.mean = mean

    def construct(self, x):
        y, _ = self.block(x, 12, 2)
        first = self.head(ops.narrow(y.reshape(2, -1), 1, 0, 32))
        return first + y.mean() if self.mean else first


def rows_of(model, op: str) -> list[int]:
    shapes = {v.name: v.type.tensor_type.shape.dim for v in (*model.graph.value_info, *model.graph.output)}
    return [shapes[n.output[0]][0].dim_value for n in model.graph.node if n.op_type == op]


def test_only_the_class_token_goes_through_the_end_of_the_last_block(roundtrip, monkeypatch):
    early = roundtrip(ClassToken(False), ROWS)
    assert rows_of(early, "Gemm") == [24, 2, 2, 2, 2]  # qkv; proj, fc1, fc2, head
    assert set(rows_of(early, "Erf")) == {2}
    assert rows_of(roundtrip(ClassToken(True), ROWS), "Gemm") == [24, 24, 24, 24, 2]
    monkeypatch.setattr(passes, "PASSES", tuple(p for p in passes.PASSES if p.__name__ != "take_rows_early"))
    assert rows_of(roundtrip(ClassToken(False), ROWS), "Gemm") == [24, 24, 24, 24, 2]


def test_tables_of_equal_blocks_are_shortened(roundtrip, monkeypatch):
    def tables(model):
        return sorted(np.prod(i.dims) for i in model.graph.initializer if i.name.endswith("rows"))

    class Long(Heads):
        def construct(self, x):
            return self.attention(x, 64)[0]

    short = roundtrip(Long(), (512, 32))
    assert tables(short) == [128] * 4  # heads * tokens, not sequences * heads * tokens
    monkeypatch.setattr(passes, "LAST", ())
    assert tables(roundtrip(Long(), (512, 32))) == [1024] * 4


def test_equal_reshapes_are_shared(without):
    assert without(Heads, ROWS, "share_nodes")["Reshape"] == 5
    assert without(Heads, ROWS)["Reshape"] == 3
