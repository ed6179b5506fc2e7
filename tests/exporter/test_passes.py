"""Graph rewrites, seen through the cells that need them."""

from __future__ import annotations

import numpy as np
import pytest

from msedge.mindspore_setup import load_mindspore

ms = load_mindspore()

from mindspore import nn, ops  # noqa: E402

from msedge.exporter.graph import Graph, Node  # noqa: E402
from msedge.exporter.passes import optimise  # noqa: E402

IMAGE = (2, 6, 8, 8)
TOKENS = (2, 12, 6)


def ops_of(model) -> list[str]:
    return [n.op_type for n in model.graph.node]


def sequence(*cells):
    return nn.SequentialCell(*cells)


class Twice(nn.Cell):
    """The convolution's result is also used without the norm."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(6, 6, 3)
        self.bn = nn.BatchNorm2d(6)

    def construct(self, x):
        y = self.conv(x)
        return self.bn(y) + y


class Chain(nn.Cell):
    """Two norms after one convolution, the first of them read twice."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(6, 6, 3)
        self.one = nn.BatchNorm2d(6)
        self.two = nn.BatchNorm2d(6)

    def construct(self, x):
        y = self.one(self.conv(x))
        return self.two(y) * y


@pytest.mark.parametrize(
    ("cell", "shape", "left"),
    [
        (lambda: sequence(nn.Conv2d(6, 8, 3), nn.BatchNorm2d(8)), IMAGE, ["Conv"]),
        (lambda: sequence(nn.Conv2d(6, 8, 3, has_bias=True), nn.BatchNorm2d(8)), IMAGE, ["Conv"]),
        (lambda: sequence(nn.Conv2d(6, 6, 3, group=6), nn.BatchNorm2d(6), nn.BatchNorm2d(6)), IMAGE, ["Conv"]),
        (lambda: sequence(nn.Dense(6, 8), nn.BatchNorm1d(8)), (3, 6), ["Gemm"]),
        (lambda: sequence(nn.Dense(6, 8, has_bias=False), nn.BatchNorm1d(8)), (3, 6), ["Gemm"]),
        (lambda: sequence(nn.BatchNorm2d(6), nn.ReLU(), nn.Conv2d(6, 8, 1)), IMAGE, ["BatchNormalization", "Relu", "Conv"]),
        (Twice, IMAGE, ["Conv", "BatchNormalization", "Add"]),
        (Chain, IMAGE, ["Conv", "BatchNormalization", "Mul"]),
    ],
    ids=["conv", "conv_bias", "depthwise_twice", "dense", "dense_no_bias", "before_conv", "read_twice", "chain"],
)
def test_batch_norm_goes_into_what_is_before_it(cell, shape, left, roundtrip):
    assert ops_of(roundtrip(cell(), shape, tolerance=5e-5)) == left


class Scaled(nn.Cell):
    def __init__(self, channels: int, axis: int):
        super().__init__()
        self.inner = nn.Conv2d(6, channels, 1, has_bias=True) if axis == 1 else nn.Dense(6, channels)
        self.gamma = ms.Parameter(ops.ones((channels, 1, 1) if axis == 1 else channels), name="gamma")

    def construct(self, x):
        return self.inner(x) * self.gamma


@pytest.mark.parametrize(("axis", "shape", "left"), [(1, IMAGE, ["Conv"]), (-1, (3, 6), ["Gemm"])])
def test_layer_scale_goes_into_what_is_before_it(axis, shape, left, roundtrip):
    model = roundtrip(Scaled(5, axis), shape)
    assert ops_of(model) == left
    assert sorted(i.name for i in model.graph.initializer) == ["inner.bias", "inner.weight"]


GELUS = {}


def gelu(function):
    GELUS[function.__name__] = function
    return function


@gelu
def multiplied_by_root(x):
    return x * (ops.erf(x * 0.7071067811865476) + 1.0) * 0.5


@gelu
def divided_by_root(x):
    return x * 0.5 * (1.0 + ops.erf(x / 1.4142135623730951))


@gelu
def halved_inside(x):
    return x * (0.5 * (1.0 + ops.erf(x / 1.4142135623730951)))


@gelu
def halved_share_first(x):
    return 0.5 * (ops.erf(x * 0.7071067811865476) + 1.0) * x


@gelu
def already_canonical(x):
    return nn.GELU(approximate=False)(x)


@pytest.mark.parametrize("name", GELUS)
def test_hand_written_gelu_takes_the_form_that_lite_fuses(name, roundtrip):
    assert ops_of(roundtrip(GELUS[name], TOKENS)) == ["Div", "Erf", "Add", "Mul", "Mul"]


def test_erf_that_is_no_gelu_stays(roundtrip):
    def other(x):
        return x * (ops.erf(x * 0.6) + 1.0) * 0.5

    assert ops_of(roundtrip(other, TOKENS)) == ["Mul", "Erf", "Add", "Mul", "Mul"]


def test_gelu_whose_inside_is_read_elsewhere_stays_right(roundtrip):
    def shared(x):
        share = ops.erf(x * 0.7071067811865476) + 1.0
        return x * share * 0.5 + share

    roundtrip(shared, TOKENS)


def test_silu_in_the_other_order_is_turned(roundtrip):
    def silu(x):
        return ops.sigmoid(x) * x

    model = roundtrip(silu, TOKENS)
    assert model.graph.node[1].input[0] == "input"


def test_slices_that_cover_a_tensor_become_one_split(roundtrip):
    def thirds(x):
        return x[:, :2] * x[:, 2:4] - x[:, 4:]

    assert ops_of(roundtrip(thirds, IMAGE)).count("Split") == 1


@pytest.mark.parametrize("second", [slice(3, 6), slice(2, 5), slice(2, 6, 2)])
def test_slices_that_leave_gaps_or_overlap_stay(second, roundtrip):
    def parts(x):
        return x[:, :2].mean(1) - x[:, second].mean(1)

    assert "Split" not in ops_of(roundtrip(parts, IMAGE))


def test_dense_on_tokens_needs_no_reshape(roundtrip):
    model = roundtrip(sequence(nn.Dense(6, 8), nn.ReLU(), nn.Dense(8, 6)), TOKENS)
    assert ops_of(model) == ["MatMul", "Add", "Relu", "MatMul", "Add"]
    assert {i.name: list(i.dims) for i in model.graph.initializer}["0.weight"] == [6, 8]


def test_dense_between_other_reshapes_keeps_them(roundtrip):
    def mixed(x):
        return ops.matmul(x.reshape(-1, 4), ops.ones((4, 3))).reshape(2, 6, -1)

    assert ops_of(roundtrip(mixed, TOKENS)) == ["Reshape", "MatMul", "Reshape"]


def test_reshapes_and_transposes_merge(roundtrip):
    def turns(x):
        y = x.reshape(2, 3, 4, 6).reshape(2, 12, 6).transpose(0, 2, 1).transpose(2, 0, 1)
        return y.expand_dims(2).transpose(0, 2, 1, 3).reshape(12, 12)

    assert ops_of(roundtrip(turns, TOKENS)) == ["Transpose", "Reshape"]


def test_what_undoes_itself_disappears(roundtrip):
    def nothing(x):
        return ops.relu(x.transpose(0, 2, 1).transpose(0, 2, 1).reshape(24, 6).reshape(2, 12, 6) * 1 + 0)

    assert ops_of(roundtrip(nothing, TOKENS)) == ["Relu"]


class Bias(nn.Cell):
    """A learned bias per distance, gathered for all pairs of tokens, as Swin and TinyViT have it."""

    def __init__(self, tokens: int):
        super().__init__()
        self.tokens = tokens
        self.table = ms.Parameter(ms.Tensor(np.random.default_rng(0).standard_normal((2 * tokens - 1, 2)), ms.float32), "table")
        at = np.arange(tokens)
        self.index = ms.Tensor((at[:, None] - at[None, :] + tokens - 1).reshape(-1))

    def construct(self, scores):
        bias = ops.gather(self.table, self.index, 0).reshape(self.tokens, self.tokens, 2).transpose(2, 0, 1)
        return ops.softmax(scores + bias, -1)


class Biased(nn.Cell):
    def __init__(self, tokens: int):
        super().__init__()
        self.one = Bias(tokens)
        self.two = Bias(tokens)

    def construct(self, x):
        scores = ops.matmul(x, x.swapaxes(-1, -2)).expand_dims(1)
        return self.two(self.one(scores))


def test_gathered_biases_are_folded_while_they_are_small(roundtrip):
    model = roundtrip(Biased(12), TOKENS)
    assert "Gather" not in ops_of(model)
    assert {i.name: list(i.dims) for i in model.graph.initializer}["one.table"] == [2, 12, 12]


def test_gathered_biases_of_many_tokens_stay_as_small_as_they_were_learned(to_onnx):
    model = to_onnx(Biased(300), (1, 300, 4))
    assert ops_of(model).count("Gather") == 2
    sizes = {i.name: list(i.dims) for i in model.graph.initializer}
    assert sizes["one.table"] == sizes["two.table"] == [599, 2]
    assert list(sizes.values()).count([90_000]) == 1  # the index is shared


class Masked(nn.Cell):
    """Two layers that keep equal masks."""

    def __init__(self):
        super().__init__()
        self.one = ms.Tensor(np.tri(40, dtype=np.float32))
        self.two = ms.Tensor(np.tri(40, dtype=np.float32))

    def construct(self, x):
        return (x + self.one) * (x - self.two)


def test_equal_large_constants_are_kept_once(roundtrip):
    assert len(roundtrip(Masked(), (1, 40, 40)).graph.initializer) == 1


def test_no_constant_is_empty_and_every_tensor_has_its_type(roundtrip):
    model = roundtrip(Biased(12), TOKENS)
    known = {v.name for v in (*model.graph.value_info, *model.graph.output)}
    assert {o for n in model.graph.node for o in n.output} == known


def test_an_output_that_is_an_input_or_a_constant_or_asked_for_twice():
    graph = Graph(["x"], ["x", "c", "y", "y"])
    graph.types["x"] = ((1, 2), np.dtype(np.float32))
    graph.types["y"] = graph.types["x"]
    graph.constants["c"] = np.ones((1, 2), np.float32)
    graph.types["c"] = graph.types["x"]
    graph.nodes = [Node("Relu", "r/Relu", ["x"], ["y"])]
    optimise(graph)
    from msedge.exporter.build import to_model
    from msedge.exporter.check import check_structure
    from msedge.exporter.naming import finalise_names

    finalise_names(graph, ["input"], ["a", "b", "c", "d"])
    model = to_model(graph, "m")
    check_structure(model)
    assert [o.name for o in model.graph.output] == ["a", "b", "c", "d"]
