"""Rewrites for networks that normalise and pool whole maps: what the graph is before, what it becomes, and in Lite."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from msedge.mindspore_setup import load_mindspore

ms = load_mindspore()

from mindspore import nn, ops  # noqa: E402

from msedge.exporter import cell_to_mindir, passes  # noqa: E402
from msedge.exporter.check import run_cell, run_onnx  # noqa: E402
from msedge.exporter.onnx_writer import mindir_to_onnx  # noqa: E402
from msedge.exporter.passes.fold_affine import fold_affine  # noqa: E402
from msedge.exporter.passes.mean_of_images import mean_of_images  # noqa: E402
from msedge.exporter.passes.power_of_variances import power_of_variances  # noqa: E402
from msedge.models.maps import Pooling, Scale, Spread  # noqa: E402

IMAGE = (1, 6, 8, 8)


@pytest.fixture
def before_and_after(tmp_path, monkeypatch):
    """The ONNX of a cell without some passes and with all, checked to give the cell's numbers both times."""

    def run(cell, without: tuple, shape: tuple[int, ...] = IMAGE):
        for i, p in enumerate(cell.get_parameters()):
            values = np.random.default_rng(i).uniform(-0.7, 0.9, p.shape)
            p.set_data(ms.Tensor(values.astype(np.float32)))
        cell_to_mindir(cell, shape, tmp_path / "model.mindir")
        after = mindir_to_onnx(tmp_path / "model.mindir")
        monkeypatch.setattr(passes, "PASSES", tuple(p for p in passes.PASSES if p not in without))
        before = mindir_to_onnx(tmp_path / "model.mindir")
        x = np.random.default_rng(1).uniform(-2, 3, shape).astype(np.float32)
        expected = run_cell(cell, x)
        for model in (before, after):
            np.testing.assert_allclose(run_onnx(model, x), expected, rtol=1e-5, atol=2e-5)
        return before, after, x, expected

    return run


def ops_of(model) -> list[str]:
    return [n.op_type for n in model.graph.node]


class Convolved(nn.Cell):
    """`inner` between two convolutions, as maps are in Lite's own layout there."""

    def __init__(self, inner: nn.Cell):
        super().__init__()
        self.first = nn.Conv2d(6, 6, 3, pad_mode="pad", padding=1, has_bias=True)
        self.inner = inner
        self.last = nn.Conv2d(6, 4, 1, has_bias=True)

    def construct(self, x):
        return self.last(self.inner(ops.relu(self.first(x))))


class Normal(nn.Cell):
    def __init__(self):
        super().__init__()
        self.spread, self.scale = Spread(), Scale()

    def construct(self, x):
        centred, deviation = self.spread(x)
        return self.scale(centred, 1.0 / deviation)


NORMAL = ["GlobalAveragePool", "Conv", "Sub", "Mul", "GlobalAveragePool", "Conv", "Pow", "Mul"]
AROUND = ["Conv", "Relu", *NORMAL, "Conv"]


def test_normalising_a_map_needs_no_transposition_in_lite(before_and_after, through_lite):
    before, after, x, expected = before_and_after(Convolved(Normal()), (mean_of_images, power_of_variances))
    assert sorted(ops_of(before)) == sorted(
        ["Conv", "Relu", "Conv", *["Reshape", "ReduceMean", "Reshape"] * 2, "Sub", "Mul", "Add", "Sqrt", "Reciprocal", "Mul"]
    )
    assert sorted(ops_of(after)) == sorted(AROUND)
    nodes = []
    for model in (before, after):
        got, found = through_lite(model, x)
        np.testing.assert_allclose(got.reshape(expected.shape), expected, atol=2e-5)
        nodes.append(found)
    assert nodes[0]["Transpose"] > 2
    assert nodes[1] == Counter(
        Conv2DFusion=4, AvgPoolFusion=2, SubFusion=1, MulFusion=2, PowFusion=1, Transpose=nodes[1]["Transpose"]
    )
    assert nodes[1]["Transpose"] <= 1  # of the result, which is a map here
    assert sum(nodes[1].values()) < sum(nodes[0].values())


class Grouped(nn.Cell):
    def __init__(self):
        super().__init__()
        self.norm = nn.GroupNorm(1, 6)

    def construct(self, x):
        return self.norm(x)


def test_a_group_norm_of_one_group_leaves_its_scale_to_the_convolution(before_and_after, through_lite):
    before, after, x, expected = before_and_after(Convolved(Grouped()), (fold_affine,))
    assert len(ops_of(before)) == len(ops_of(after)) + 2
    assert sorted(ops_of(after)) == sorted(AROUND)
    names = {i.name for i in after.graph.initializer}
    assert {"first.weight", "first.bias", "last.weight", "last.bias"} <= names
    assert not any(n.startswith("inner.norm") and n.endswith(("gamma", "beta")) for n in names)
    got, _ = through_lite(after, x)
    np.testing.assert_allclose(got.reshape(expected.shape), expected, atol=2e-5)


class Affine(nn.Cell):
    """A factor and a shift for each channel before a convolution."""

    def __init__(self, padding: int, group: int = 1):
        super().__init__()
        self.factor, self.shift = (ms.Parameter(ops.ones((1, 6, 1, 1)), name=n) for n in ("factor", "shift"))
        self.conv = nn.Conv2d(6, 6, 3, pad_mode="pad", padding=padding, group=group)

    def construct(self, x):
        return self.conv(ops.tanh(x) * self.factor + self.shift)


@pytest.mark.parametrize(
    ("padding", "group", "left"),
    [(0, 1, ["Tanh", "Conv"]), (1, 1, ["Tanh", "Mul", "Add", "Conv"]), (0, 6, ["Tanh", "Mul", "Add", "Conv"])],
)
def test_a_shift_is_folded_only_where_nothing_is_padded(before_and_after, padding, group, left):
    before, after, _, _ = before_and_after(Affine(padding, group), (fold_affine,))
    assert ops_of(before) == ["Tanh", "Mul", "Add", "Conv"]
    assert ops_of(after) == left


def test_an_activation_keeps_its_last_factor(before_and_after, through_lite):
    _, after, x, expected = before_and_after(Convolved(nn.GELU(approximate=False)), ())
    assert ops_of(after)[-6:] == ["Div", "Erf", "Add", "Mul", "Mul", "Conv"]
    got, nodes = through_lite(after, x)
    np.testing.assert_allclose(got.reshape(expected.shape), expected, atol=2e-5)
    assert nodes["Activation"] == 1


def test_what_is_read_elsewhere_is_not_folded(before_and_after):
    class Shared(Affine):
        def construct(self, x):
            y = x * self.factor
            return self.conv(y).mean() + y

    _, after, _, _ = before_and_after(Shared(0), (fold_affine,))
    assert ops_of(after).count("Mul") == 1


class Means(nn.Cell):
    """Means that are not over whole images, or whose flattened map is read elsewhere."""

    def construct(self, x):
        flat = x.reshape(1, -1)
        return (flat - flat.mean(-1, keep_dims=True)).sum() + x.mean((1, 2)).sum() + x.mean((0, 1, 2, 3)) + x.mean(1).sum()


def test_other_means_stay(before_and_after):
    _, after, _, _ = before_and_after(Means(), (mean_of_images,))
    assert ops_of(after).count("ReduceMean") == 4


class Roots(nn.Cell):
    """Roots of what is not one number for each image, or that are not divided by."""

    def construct(self, x):
        x = x * x + 1.0
        return x / ops.sqrt(x) + x / ops.sqrt(x.mean((2, 3), keep_dims=True)) + ops.sqrt(x.mean((1, 2, 3), keep_dims=True))


def test_other_roots_stay(before_and_after):
    _, after, _, _ = before_and_after(Roots(), (power_of_variances,))
    assert ops_of(after).count("Sqrt") == 3


def test_pooling_is_one_average_and_one_difference(before_and_after, through_lite):
    _, after, x, expected = before_and_after(Convolved(Pooling(6, 8)), ())
    assert ops_of(after) == ["Conv", "Relu", "AveragePool", "Sub", "Conv"]
    got, nodes = through_lite(after, x)
    np.testing.assert_allclose(got.reshape(expected.shape), expected, atol=2e-5)
    assert (nodes["AvgPoolFusion"], nodes["SubFusion"], nodes["Conv2DFusion"]) == (1, 1, 2)
