"""Operators on feature maps and their own gradients, against plain ones."""

from __future__ import annotations

import numpy as np
import pytest
from gradient_cells import Reference, tensors

from msedge.mindspore_setup import load_mindspore
from msedge.models.attention import to_map, to_tokens
from msedge.models.maps import AddBias, BandMeans, LayerScale, NativeMeans, Pointwise, Pooling, Scale, ScaleColumns, Spread
from msedge.models.native import operators as native

load_mindspore()

from mindspore import Tensor, nn, ops  # noqa: E402

X = (3, 4, 5, 5)


class Gradients(nn.Cell):
    """By all inputs, of the sum of all outputs each times its own weights."""

    def __init__(self, cell):
        super().__init__()
        self.cell = cell
        self.by_all = ops.GradOperation(get_all=True)

    def loss(self, *inputs):
        outputs = self.cell(*inputs)
        outputs = outputs if isinstance(outputs, tuple) else (outputs,)
        total = 0.0
        for y in outputs:
            total = total + (y * ops.cos(y)).sum() * 3.0 + y.reshape(-1)[0]
        return total

    def construct(self, *inputs):
        return self.by_all(self.loss)(*inputs)


def spread(x):
    centred = x - x.mean((1, 2, 3), keep_dims=True)
    return centred, ops.sqrt(ops.square(centred).mean((1, 2, 3), keep_dims=True) + 1e-5)


def product(x, y):
    return x * y


def total(x, y):
    return x + y


@pytest.mark.parametrize(
    ("cell", "reference", "shapes"),
    [
        (Spread(), spread, [X]),
        (Scale(), product, [X, (3, 1, 1, 1)]),
        (Scale(), product, [X, (1, 4, 1, 1)]),
        (Scale(), product, [X, (3, 4, 1, 1)]),
        (ScaleColumns(7), product, [(7, 4), (4,)]),
        (AddBias(), total, [(7, 4), (4,)]),
    ],
    ids=["spread", "by image", "by channel", "by both", "columns", "bias"],
)
def test_values_and_gradients_are_the_plain_ones(pynative, cell, reference, shapes):
    inputs = tensors(*shapes)
    plain = Reference(reference)
    for a, b in zip(*(c(*inputs) if isinstance(c(*inputs), tuple) else (c(*inputs),) for c in (cell, plain)), strict=True):
        assert a.asnumpy() == pytest.approx(b.asnumpy(), abs=1e-6)
    ours, theirs = Gradients(cell)(*inputs), Gradients(plain)(*inputs)
    assert len(ours) == len(theirs) == len(shapes)
    for a, b in zip(ours, theirs, strict=True):
        scale = abs(b.asnumpy()).max()
        assert scale > 0
        assert a.asnumpy() == pytest.approx(b.asnumpy(), abs=1e-5 * scale)


def neighbours(x: np.ndarray) -> np.ndarray:
    """The mean of the 3 x 3 neighbours inside the map, less the place itself."""
    side = x.shape[-1]
    means = np.empty_like(x)
    for i in range(side):
        for j in range(side):
            near = x[..., max(0, i - 1) : i + 2, max(0, j - 1) : j + 2]
            means[..., i, j] = near.mean((-2, -1))
    return means - x


@pytest.fixture(params=["native", "bands"])
def pooling(request, monkeypatch):
    """`Pooling` with and without the compiled operators."""
    if request.param == "bands":
        monkeypatch.setattr(native, "available", lambda: False)
    assert isinstance(Pooling(3, 5).learning, NativeMeans if native.available() else BandMeans)
    return Pooling


@pytest.mark.parametrize("side", [1, 2, 3, 7])
def test_pooling_counts_only_places_inside_in_training_and_after(pynative, pooling, side):
    x = np.random.default_rng(0).standard_normal((2, 3, side, side)).astype(np.float32)
    cell = pooling(3, side)
    for training in (True, False):
        assert cell.set_train(training)(Tensor(x)).asnumpy() == pytest.approx(neighbours(x), abs=1e-6)


def test_poolings_gradient_is_that_of_average_pooling(pynative, pooling):
    x, pool = tensors(X), ops.AvgPool(3, 1, "same")
    ours = Gradients(pooling(4, 5).set_train(True)).set_train(True)(*x)[0].asnumpy()
    theirs = Gradients(Reference(lambda x: pool(x) - x))(*x)[0].asnumpy()
    assert ours == pytest.approx(theirs, abs=1e-5)


def test_a_pointwise_convolution_takes_in_what_is_before_and_after(pynative):
    cell = Pointwise(4, 6)
    cell.reset(np.random.default_rng(0))
    cell.bias.set_data(tensors((6,))[0])
    x, factor, shift, scale = tensors(X, (4,), (4,), (6,))
    cell.set_train(False)
    before = cell(x * factor.reshape(1, -1, 1, 1) + shift.reshape(1, -1, 1, 1)).asnumpy()
    after = (cell(x) * scale.reshape(1, -1, 1, 1)).asnumpy()
    assert cell.of_affine(x, factor, shift).asnumpy() == pytest.approx(before, abs=1e-5)
    assert cell.scaled(x, scale).asnumpy() == pytest.approx(after, abs=1e-5)
    cell.set_train(True)
    rows = to_tokens(x)
    assert to_map(cell.of_affine(rows, factor, shift), 5).asnumpy() == pytest.approx(before, abs=1e-5)
    assert to_map(cell.scaled(rows, scale), 5).asnumpy() == pytest.approx(after, abs=1e-5)


def test_a_layer_scale_is_one_small_parameter_of_the_given_name():
    cell = LayerScale(3, "gamma")
    assert {n: p.asnumpy().tolist() for n, p in cell.parameters_dict().items()} == {"gamma": [np.float32(1e-5)] * 3}
    assert cell.gamma.requires_grad
