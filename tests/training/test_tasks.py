from __future__ import annotations

import numpy as np
import pytest

from msedge.mindspore_setup import graph_mode, load_mindspore
from msedge.recipe import DistillConfig
from msedge.training import tasks

ms = load_mindspore()

from mindspore import Tensor, nn, ops  # noqa: E402


def softmax(x):
    e = np.exp(x - x.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


@pytest.fixture
def logits():
    rng = np.random.default_rng(0)
    return rng.normal(size=(6, 4)).astype(np.float32), rng.normal(size=(6, 4)).astype(np.float32)


def test_cross_entropy_with_smoothing(logits):
    z, _ = logits
    targets = np.eye(4, dtype=np.float32)[[0, 1, 2, 3, 0, 1]]
    smooth = targets * 0.9 + 0.1 / 4
    expected = -(smooth * np.log(softmax(z))).sum(-1).mean()
    assert float(tasks.cross_entropy(Tensor(z), Tensor(targets), 0.1)) == pytest.approx(expected, rel=1e-5)


def test_distill_kl_is_hintons(logits):
    s, t = logits
    p, q = softmax(t / 3), softmax(s / 3)
    expected = (p * np.log(p / q)).sum(-1).mean() * 9
    assert float(tasks.distill_kl(Tensor(s), Tensor(t), 3.0)) == pytest.approx(expected, rel=1e-4)
    assert float(tasks.distill_kl(Tensor(s), Tensor(s), 3.0)) == pytest.approx(0, abs=1e-6)


class Taps(nn.Cell):
    """A linear classifier with one feature map and one attention map, of given channels and grid."""

    def __init__(self, channels: int, grid: int, seed: int):
        super().__init__()
        rng = np.random.default_rng(seed)
        self.w = ms.Parameter(Tensor(rng.normal(size=(channels, 3, 1, 1)).astype(np.float32)), name="w")
        self.head = ms.Parameter(Tensor(rng.normal(size=(channels, 4)).astype(np.float32)), name="head")
        self.grid = grid

    def construct(self, x):
        return self.taps(x)[0]

    def taps(self, x):
        n, _, h, _ = x.shape
        x = x.reshape(n, 3, self.grid, h // self.grid, self.grid, h // self.grid).mean(5).mean(3)
        f = ops.conv2d(x, self.w)
        a = ops.softmax(f.mean(1).reshape(n, -1), -1).reshape(n, self.grid, self.grid)
        return ops.matmul(f.mean((2, 3)), self.head), (f,), (a,)


@pytest.fixture
def images():
    return np.random.default_rng(1).normal(size=(5, 3, 16, 16)).astype(np.float32)


def distillation(student, teacher, images, **weights):
    shapes = tasks.MapShapes(student.taps(Tensor(images)), teacher.taps(Tensor(images)))
    return tasks.DistillMaps(student, teacher, DistillConfig(**weights), 0.0, shapes)


def test_maps_are_paired_across_grids(images):
    shapes = tasks.MapShapes(Taps(6, 4, 0).taps(Tensor(images)), Taps(8, 8, 1).taps(Tensor(images)))
    assert [(own, its) for own, its, _, _ in shapes.features] == [(0, 0)]
    assert shapes.attention == ((0, 0),)
    apart = tasks.MapShapes(Taps(6, 4, 0).taps(Tensor(images)), Taps(8, 2, 1).taps(Tensor(images)))
    assert len(apart.attention) == 1
    assert not tasks.divides((4, 4), (6, 6))


def test_distill_maps_adds_its_parts(images):
    targets = np.eye(4, dtype=np.float32)[[0, 1, 2, 3, 0]]
    task = distillation(Taps(6, 4, 0), Taps(8, 8, 1), images, feature=0.3, attention=0.7, kl=2.0, alpha=0.5)

    names = task.part_names

    def values(*batch):  # outside of a graph, dicts come as tuples once the process has exported a MindIR
        parts, logits = task(*batch)
        return tuple([parts[name] for name in names]), len(parts), logits

    with graph_mode():
        parts, count, logits = ms.jit(values)(Tensor(images), Tensor(targets), Tensor(images))
    v = {k: float(x) for k, x in zip(names, parts, strict=True)}
    assert count == len(names)
    assert v["loss"] == pytest.approx(2 * v["kl"] + 0.5 * v["ce"] + 0.3 * v["feature"] + 0.7 * v["attention"], rel=1e-5)
    assert min(v.values()) > 0
    assert logits.shape == (5, 4)


def test_attention_loss_of_a_twin_is_zero_and_features_can_be_matched(images):
    task = distillation(Taps(6, 4, 3), Taps(6, 4, 3), images, attention=1.0)
    _, _, (attention,) = task.model.taps(Tensor(images))
    assert float(task.attention_loss(attention, attention)) == pytest.approx(0, abs=1e-6)
    feature = Tensor(np.random.default_rng(0).normal(size=(2, 5, 4, 4)).astype(np.float32))
    assert float(task.feature_loss(feature * 7.0, feature)) == pytest.approx(0, abs=1e-6)


def test_gradients_reach_student_and_projection_but_not_the_teacher(images):
    targets = np.eye(4, dtype=np.float32)[[0, 1, 2, 3, 0]]
    task = distillation(Taps(6, 4, 0), Taps(8, 8, 1), images, feature=1.0, attention=1.0)
    weights = ms.ParameterTuple([task.model.w, task.project[0].weight, task.teacher.w])

    def loss(*batch):
        return task(*batch)[0]["loss"]

    with graph_mode():
        grads = ms.grad(loss, None, weights)(Tensor(images), Tensor(targets), Tensor(images))
    own, projection, its = (float(ops.abs(g).sum()) for g in grads)
    assert own > 0
    assert projection > 0
    assert its == 0
