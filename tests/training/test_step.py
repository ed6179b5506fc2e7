from __future__ import annotations

import itertools

import numpy as np
import pytest

from msedge.mindspore_setup import graph_mode, load_mindspore
from msedge.recipe import TrainConfig
from msedge.training.step import Average, TrainStep, decays, learning_rate

ms = load_mindspore()

from mindspore import Parameter, Tensor, nn  # noqa: E402


class Quadratic(nn.Cell):
    """loss = mean((x w + b - y)^2): gradients are known in closed form."""

    part_names = ("loss",)

    def __init__(self, w, b):
        super().__init__()
        self.w = Parameter(Tensor(w), name="w")
        self.b = Parameter(Tensor(b), name="b")

    def construct(self, x, y):
        out = ms.ops.matmul(x, self.w) + self.b
        return {"loss": ((out - y) ** 2).mean()}, out


def reference(w, b, x, y, config, lrs):
    """AdamW by the paper, in float64."""
    values, m, v = [w.astype(np.float64), b.astype(np.float64)], [0, 0], [0, 0]
    for t, lr in enumerate(lrs, 1):
        d = 2 * (x @ values[0] + values[1] - y) / y.size
        grads = [x.T @ d, d.sum(0)]
        norm = np.sqrt(sum((g**2).sum() for g in grads))
        if config.clip_norm:
            grads = [g * min(1, config.clip_norm / (norm + 1e-6)) for g in grads]
        for i, g in enumerate(grads):
            m[i] = config.betas[0] * m[i] + (1 - config.betas[0]) * g
            v[i] = config.betas[1] * v[i] + (1 - config.betas[1]) * g**2
            decay = config.weight_decay if values[i].ndim > 1 else 0
            values[i] = values[i] * (1 - lr * decay)
            correction = np.sqrt(1 - config.betas[1] ** t) / (1 - config.betas[0] ** t)
            values[i] = values[i] - lr * correction * m[i] / (np.sqrt(v[i]) + config.eps)
    return values


@pytest.mark.parametrize("clip", [0.0, 0.5])
def test_step_is_adamw(clip):
    rng = np.random.default_rng(0)
    w, b = rng.normal(size=(4, 3)).astype(np.float32), rng.normal(size=3).astype(np.float32)
    x, y = rng.normal(size=(8, 4)).astype(np.float32), rng.normal(size=(8, 3)).astype(np.float32)
    config, lrs = TrainConfig(clip_norm=clip, weight_decay=0.3), [1e-2, 5e-3, 2e-2, 1e-2]
    task = Quadratic(w, b)
    step = TrainStep(task, [task.w, task.b], config)
    with graph_mode():
        losses = [step.run(lr, t, x, y)[0]["loss"] for t, lr in enumerate(lrs, 1)]
    expected = reference(w, b, x, y, config, lrs)
    np.testing.assert_allclose(task.w.asnumpy(), expected[0], atol=2e-5)
    np.testing.assert_allclose(task.b.asnumpy(), expected[1], atol=2e-5)
    assert losses[-1] < losses[0]


def test_average_forgets_fast_when_young():
    source, target = Parameter(Tensor(np.float32([1.0])), name="s"), Parameter(Tensor(np.float32([0.0])), name="t")
    average = Average([source], [target], 0.9)
    with graph_mode():
        average.update(1)
        assert target.asnumpy()[0] == pytest.approx(1 - 2 / 11, rel=1e-5)
        average.update(10_000)
    assert target.asnumpy()[0] == pytest.approx(0.9 * (1 - 2 / 11) + 0.1, rel=1e-5)


def test_learning_rate_warms_up_peaks_and_ends():
    config = TrainConfig(epochs=10, lr=1e-2, min_lr=1e-4, warmup_epochs=2)
    rates = [learning_rate(config, s, 5) for s in range(1, 51)]
    assert rates[0] == pytest.approx(1e-3)
    assert rates[9] == max(rates) == pytest.approx(1e-2)
    assert rates[-1] == pytest.approx(1e-4)
    assert all(a > b for a, b in itertools.pairwise(rates[9:]))


def test_learning_rate_without_warmup():
    assert learning_rate(TrainConfig(epochs=1, lr=1.0, min_lr=0.0, warmup_epochs=0), 1, 2) == pytest.approx(0.5)


def test_tables_of_positions_and_class_tokens_do_not_decay():
    from families import SMALL, small

    names = {p.name for model in SMALL for p in small(model).trainable_params() if p.ndim > 1 and not decays(p)}
    assert {n.rpartition(".")[2] for n in names} == {
        "relative_position_bias_table",
        "attention_biases",
        "pos_embed",
        "cls_token",
    }
