"""The backward passes of our own against MindSpore's, in the same graph."""

from __future__ import annotations

import pytest
from families import images, small, taps
from gradient_cells import Reference, tensors

from msedge.mindspore_setup import load_mindspore
from msedge.models.cpu_gradients import RowNorm, RowSoftmax, SameDepthwise

load_mindspore()

from mindspore import nn, ops  # noqa: E402


class Gradients(nn.Cell):
    def __init__(self, cell):
        super().__init__()
        self.cell = cell
        self.by_all = ops.GradOperation(get_all=True, sens_param=True)

    def construct(self, *inputs):
        return self.by_all(self.cell)(*inputs)


def norm(x, weight, bias):
    return ops.LayerNorm(-1, -1, 1e-5)(x, weight, bias)[0]


def softmax(x):
    return ops.softmax(x, -1)


CONV3 = ops.Conv2D(6, 3, pad_mode="pad", pad=1, group=6)
CONV5 = ops.Conv2D(6, 5, pad_mode="pad", pad=2, group=6)
X = (2, 6, 7, 7)


@pytest.mark.parametrize(
    ("cell", "reference", "shapes"),
    [
        (RowNorm(1e-5), norm, [(40, 12), (12,), (12,), (40, 12)]),
        (RowSoftmax(), softmax, [(3, 2, 5, 4), (3, 2, 5, 4)]),
        (SameDepthwise(CONV3, 3), lambda x, w: CONV3(x, w), [X, (6, 1, 3, 3), X]),
        (SameDepthwise(CONV5, 5), lambda x, w: CONV5(x, w), [X, (6, 1, 5, 5), X]),
    ],
    ids=["norm", "softmax", "depthwise 3", "depthwise 5"],
)
def test_gradients_are_mindspores(pynative, cell, reference, shapes):
    inputs = tensors(*shapes)
    ours, theirs = Gradients(cell)(*inputs), Gradients(Reference(reference))(*inputs)
    assert len(ours) == len(theirs) == len(shapes) - 1
    for a, b in zip(ours, theirs, strict=True):
        scale = abs(b.asnumpy()).max()
        assert scale > 0
        assert a.asnumpy() == pytest.approx(b.asnumpy(), abs=1e-5 * scale)


def test_the_path_of_other_devices_computes_the_same(pynative, monkeypatch):
    for module in ("layers", "attention"):
        monkeypatch.setattr(f"msedge.models.{module}.on_cpu", lambda: False)
    plain = small("mobilevit_xxs")
    assert not any(isinstance(c, (RowNorm, RowSoftmax, SameDepthwise)) for _, c in plain.cells_and_names())
    monkeypatch.undo()
    ours = small("mobilevit_xxs")
    assert any(isinstance(c, RowNorm) for _, c in ours.cells_and_names())
    assert [p.name for p in plain.get_parameters()] == [p.name for p in ours.get_parameters()]
    x = images(ours)
    assert taps(plain, x)[0] == pytest.approx(taps(ours, x)[0], abs=1e-5)
