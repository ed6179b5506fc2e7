"""Cells that tests of gradients need: functions as cells, a loss over all that a model gives, gradients by its parameters."""

from __future__ import annotations

import numpy as np

from msedge.mindspore_setup import load_mindspore

load_mindspore()

from mindspore import Tensor, nn, ops  # noqa: E402


class Reference(nn.Cell):
    """A function as a cell."""

    def __init__(self, function):
        super().__init__()
        self.function = function

    def construct(self, *inputs):
        return self.function(*inputs)


class WithGradients(nn.Cell):
    """(result, gradients by all inputs) of inputs and, last, the gradient of the result."""

    def __init__(self, cell):
        super().__init__()
        self.cell = cell
        self.by_all = ops.GradOperation(get_all=True, sens_param=True)

    def construct(self, *inputs):
        return self.cell(*inputs[:-1]), self.by_all(self.cell)(*inputs)


def tensors(*shapes) -> list[Tensor]:
    rng = np.random.default_rng(0)
    return [Tensor((1 + rng.standard_normal(s)).astype(np.float32)) for s in shapes]


class TapsLoss(nn.Cell):
    """Smooth in everything that `taps` gives."""

    def __init__(self, model: nn.Cell):
        super().__init__(auto_prefix=False)
        self.model = model

    def construct(self, x, weights):
        logits, features, attention = self.model.taps(x)
        loss = (ops.tanh(logits) * weights).sum()
        for f in features:
            loss = loss + ops.square(f).mean()
        for a in attention:
            loss = loss + ops.square(a).sum()
        return loss


class ParameterGradients(nn.Cell):
    """The loss, and its gradients by all learned parameters."""

    def __init__(self, loss: nn.Cell):
        super().__init__(auto_prefix=False)
        self.run = ops.value_and_grad(loss, None, loss.trainable_params())

    def construct(self, x, weights):
        return self.run(x, weights)
