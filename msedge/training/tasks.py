"""Losses. A task is a cell that maps a batch to (parts, logits): `parts` is a dict with `loss` and its named parts.

The training loop knows nothing of distillation; it differentiates `parts["loss"]` and logs the rest.
"""

from __future__ import annotations

from msedge.mindspore_setup import load_mindspore
from msedge.recipe import DistillConfig

ms = load_mindspore()

from mindspore import nn, ops  # noqa: E402


def cross_entropy(logits, targets, smoothing: float):
    """Mean cross entropy of logits [N, C] with soft targets [N, C], smoothed towards uniform."""
    if smoothing:
        targets = targets * (1.0 - smoothing) + smoothing / targets.shape[-1]
    return -(targets * ops.log_softmax(logits, -1)).sum(-1).mean()


def distill_kl(student, teacher, temperature: float):
    """KL(teacher || student) at `temperature`, times its square (Hinton et al. 2015, arXiv:1503.02531). Logits [N, C]."""
    log_p = ops.log_softmax(teacher / temperature, -1)
    log_q = ops.log_softmax(student / temperature, -1)
    return (ops.exp(log_p) * (log_p - log_q)).sum(-1).mean() * (temperature * temperature)


def resize_map(x, size: tuple[int, int]):
    """Bring [N, C, H, W] to `size` by area averaging or repetition; both sides must divide."""
    h, w = x.shape[-2:]
    if h > size[0]:
        n, c = x.shape[:2]
        x = x.reshape(n * c, size[0], h // size[0], size[1], w // size[1])
        return x.mean(4).mean(2).reshape(n, c, size[0], size[1])
    return x


class Classify(nn.Cell):
    """Cross entropy with label smoothing. `construct(images, targets)`."""

    part_names = ("loss",)

    def __init__(self, model: nn.Cell, smoothing: float):
        super().__init__()
        self.model = model
        self.smoothing = smoothing

    def construct(self, images, targets):
        logits = self.model(images)
        return {"loss": cross_entropy(logits, targets, self.smoothing)}, logits


class DistillLogits(nn.Cell):
    """kl * KL(T) * T^2 + alpha * CE. `construct(images, targets, teacher_logits)`."""

    part_names = ("loss", "kl", "ce")

    def __init__(self, model: nn.Cell, config: DistillConfig, smoothing: float):
        super().__init__()
        self.model = model
        self.smoothing = smoothing
        self.temperature = config.temperature
        self.kl = config.kl
        self.alpha = config.alpha

    def construct(self, images, targets, teacher_logits):
        logits = self.model(images)
        kl = distill_kl(logits, teacher_logits, self.temperature)
        ce = cross_entropy(logits, targets, self.smoothing)
        return {"loss": self.kl * kl + self.alpha * ce, "kl": kl, "ce": ce}, logits


class DistillMaps(nn.Cell):
    """DistillLogits plus features and attention: the teacher runs beside the student, on its own view of the images.

    Features: the last `len(pairs)` stages, matched from the end; a 1x1 projection (trained, not saved) lifts the student's
    channels, both are normalised per position and compared by mean square (FitNets, arXiv:1412.6550). Attention: KL of the
    maps that say how much attention each position receives. `construct(images, targets, teacher_images)`.
    """

    part_names = ("loss", "kl", "ce", "feature", "attention")

    def __init__(self, model: nn.Cell, teacher: nn.Cell, config: DistillConfig, smoothing: float, shapes: MapShapes):
        super().__init__()
        self.model = model
        self.teacher = teacher
        self.smoothing = smoothing
        self.temperature = config.temperature
        self.kl = config.kl
        self.alpha = config.alpha
        self.feature = config.feature if shapes.features else 0.0
        self.attention = config.attention if shapes.attention else 0.0
        self.features = shapes.features
        self.attentions = shapes.attention
        self.project = nn.CellList(
            [nn.Conv2d(s[1], t[1], 1, has_bias=True) for _, _, s, t in self.features] if self.feature else []
        )

    def construct(self, images, targets, teacher_images):
        logits, features, attention = self.model.taps(images)
        t_logits, t_features, t_attention = self.teacher.taps(teacher_images)
        kl = distill_kl(logits, ops.stop_gradient(t_logits), self.temperature)
        ce = cross_entropy(logits, targets, self.smoothing)
        feature = kl * 0.0
        if self.feature:
            for i, (own, its, _, _) in enumerate(self.features):
                feature = feature + self.feature_loss(self.project[i](features[own]), t_features[its])
            feature = feature / len(self.features)
        attention_kl = kl * 0.0
        if self.attention:
            for own, its in self.attentions:
                attention_kl = attention_kl + self.attention_loss(attention[own], t_attention[its])
            attention_kl = attention_kl / len(self.attentions)
        loss = self.kl * kl + self.alpha * ce + self.feature * feature + self.attention * attention_kl
        return {"loss": loss, "kl": kl, "ce": ce, "feature": feature, "attention": attention_kl}, logits

    def feature_loss(self, student, teacher):
        size = common_size(student.shape[-2:], teacher.shape[-2:])
        student = unit(resize_map(student, size))
        teacher = ops.stop_gradient(unit(resize_map(teacher, size)))
        return ops.square(student - teacher).sum(1).mean()

    def attention_loss(self, student, teacher):
        size = common_size(student.shape[-2:], teacher.shape[-2:])
        p = ops.stop_gradient(mass(teacher, size))
        q = mass(student, size)
        return (p * (ops.log(p) - ops.log(q))).sum(-1).mean()


class MapShapes:
    """Which student stage is compared with which teacher stage, found once from the shapes of the taps.

    `features`: (student index, teacher index, student shape, teacher shape); `attention`: (student index, teacher index).
    """

    def __init__(self, student, teacher):
        _, own_features, own_attention = student
        _, its_features, its_attention = teacher
        pairs = min(len(own_features), len(its_features))
        self.features = tuple(
            (len(own_features) - i, len(its_features) - i, own_features[-i].shape, its_features[-i].shape)
            for i in range(pairs, 0, -1)
            if divides(own_features[-i].shape[-2:], its_features[-i].shape[-2:])
        )
        pairs = min(len(own_attention), len(its_attention))
        self.attention = tuple(
            (len(own_attention) - i, len(its_attention) - i)
            for i in range(pairs, 0, -1)
            if divides(own_attention[-i].shape[-2:], its_attention[-i].shape[-2:])
        )


def divides(a, b) -> bool:
    """Whether the grids a and b (height, width) can be brought to their common size by whole factors."""
    return all(max(x, y) % min(x, y) == 0 for x, y in zip(a, b, strict=True))


def common_size(a, b) -> tuple[int, int]:
    return min(a[0], b[0]), min(a[1], b[1])


def unit(x):
    """Scale [N, C, H, W] to length one over the channels."""
    return x / ops.sqrt(ops.square(x).sum(1, keepdims=True) + 1e-6)


def mass(x, size):
    """Attention maps [N, H, W] as distributions [N, h*w] on the grid `size`."""
    x = resize_map(x.expand_dims(1), size).reshape(x.shape[0], -1) + 1e-6
    return x / x.sum(-1, keepdims=True)
