"""One training step as one graph: forward, gradients, clipping, AdamW. Call the cells inside `graph_mode()`."""

from __future__ import annotations

import numpy as np

from msedge.mindspore_setup import load_mindspore
from msedge.recipe import TrainConfig

ms = load_mindspore()

from mindspore import Parameter, ParameterTuple, Tensor, nn, ops  # noqa: E402

from msedge.models.native import operators as native  # noqa: E402

_NO_DECAY = ("relative_position_bias_table", "attention_biases", "pos_embed", "cls_token")


def decays(parameter: Parameter) -> bool:
    """Weight decay is for matrices and kernels; not for biases, norms, position tables and class tokens."""
    return parameter.ndim > 1 and not parameter.name.endswith(_NO_DECAY)


class TrainStep(nn.Cell):
    """AdamW (Loshchilov and Hutter, arXiv:1711.05101) on everything in `task` that requires gradients, `frozen` apart.

    The cell keeps no hidden state besides `state()`: learning rate and step number come in with each call, so a step is a
    pure function of (parameters, moments, batch, step). `shares` are each parameter's shares of the learning rate.
    """

    def __init__(self, task: nn.Cell, trained: list[Parameter], config: TrainConfig):
        super().__init__()
        self.task = task
        self.parameters = ParameterTuple(trained)
        self.first = self.parameters.clone("adam_m", "zeros")
        self.second = self.parameters.clone("adam_v", "zeros")
        self.weight_decay = config.weight_decay
        self.decays = tuple(decays(p) for p in trained)
        self.shares = np.ones(len(trained), np.float32)
        self.beta1, self.beta2 = config.betas
        self.eps = config.eps
        self.clip_norm = config.clip_norm
        self.native = native.available()
        self.adam = native.AdamW(self.decays) if self.native else ops.AdamWeightDecay()

        def forward(*batch):
            parts, logits = task(*batch)
            return parts["loss"], tuple(parts.values()), logits

        self.gradients = ms.value_and_grad(forward, None, self.parameters, has_aux=True)

    def state(self) -> list[Parameter]:
        return [*self.first, *self.second]

    def construct(self, settings, shares, *batch):
        (_, parts, logits), grads = self.gradients(*batch)
        if self.native:
            norm = self.adam(settings, shares, self.parameters, self.first, self.second, grads)
            return ops.depend(parts, norm), logits
        rate, decay = settings[0], settings[1]
        scale = 1.0
        if self.clip_norm:
            total = ops.square(grads[0]).sum()
            for g in grads[1:]:
                total = total + ops.square(g).sum()
            scale = ops.minimum(self.clip_norm / (ops.sqrt(total) + 1e-6), 1.0)
        for i in range(len(grads)):
            g = grads[i] * scale if self.clip_norm else grads[i]
            weight_decay = decay if self.decays[i] else 0.0
            moments = (self.first[i], self.second[i])
            self.adam(self.parameters[i], *moments, rate * shares[i], self.beta1, self.beta2, self.eps, weight_decay, g)
        return parts, logits

    def run(self, lr: float, step: int, *batch: np.ndarray) -> tuple[dict[str, float], np.ndarray]:
        """Train on one batch. `step` counts from 1. Returns the loss parts and the logits [N, C]."""
        correction = np.sqrt(1 - self.beta2**step) / (1 - self.beta1**step)  # of both moments, which start at zero
        rates = (lr * correction, self.weight_decay / correction)
        settings = Tensor(np.array([*rates, self.beta1, self.beta2, self.eps, self.clip_norm], np.float32))
        parts, logits = self(settings, Tensor(self.shares), *(Tensor(b) for b in batch))
        return {n: float(v.asnumpy()) for n, v in zip(self.task.part_names, parts, strict=True)}, logits.asnumpy()


class Average(nn.Cell):
    """Running average of the parameters and statistics `source` into `target`."""

    def __init__(self, source: list[Parameter], target: list[Parameter], decay: float):
        super().__init__()
        self.source = ParameterTuple(source)
        self.target = ParameterTuple(target)
        self.decay = decay

    def construct(self, keep):
        for i in range(len(self.source)):
            s, t = self.source[i], self.target[i]
            ops.assign(t, t * keep + s * (1.0 - keep))
        return keep

    def update(self, step: int) -> None:
        """Average after step number `step`; young averages forget faster: min(decay, (1 + step) / (10 + step))."""
        self(Tensor(np.float32(min(self.decay, (1 + step) / (10 + step)))))


def learning_rate(config: TrainConfig, step: int, steps_per_epoch: int) -> float:
    """Linear warm-up, then cosine to `min_lr`. `step` counts from 1."""
    warmup = round(config.warmup_epochs * steps_per_epoch)
    total = config.epochs * steps_per_epoch
    if step <= warmup:
        return config.lr * step / warmup
    done = (step - warmup) / max(1, total - warmup)
    return config.min_lr + 0.5 * (config.lr - config.min_lr) * (1 + float(np.cos(np.pi * min(1.0, done))))
