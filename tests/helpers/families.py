"""Narrow models of each family that compile in seconds."""

from __future__ import annotations

import numpy as np
import pytest

# name: (image size, widths)
SMALL = {
    "mobilevit_xxs": (
        64,
        {
            "stem": 4,
            "hidden": [[6], [8], [8], [10], [12]],
            "out": [4, 6, 8, 8, 10],
            "local": [6, 8, 9],
            "dim": [8, 10, 12],
            "heads": [[2], [1], [2]],
            "head_dim": [[4], [6], [5]],
            "mlp": [[12], [14], [16]],
            "proj": [7, 8, 9],
            "final": 16,
        },
    ),
    "swin_nano": (
        32,
        {"dim": [8, 12], "heads": [[2, 1], [2]], "head_dim": [[4, 6], [5]], "mlp": [[16, 12], [20]], "window": 4},
    ),
    "tiny_vit_5m": (
        64,
        {
            "stem": 4,
            "dim": [6, 8, 10, 12],
            "hidden": [12],
            "merge": [8, 9, 12],
            "heads": [[2], [1], [2]],
            "head_dim": [[4], [6], [5]],
            "mlp": [[16], [20], [18]],
        },
    ),
    "poolformer_s12": (64, {"dim": [6, 8, 10, 12], "mlp": [[12], [16, 14], [20], [18]]}),
    "efficientformer_l1": (
        64,
        {
            "stem": 4,
            "dim": [6, 8, 10, 12],
            "mlp": [[12], [16, 14], [20], [18, 20, 16]],
            "heads": [2, 1],
            "key_dim": [4, 6],
            "value_dim": [8, 5],
        },
    ),
    "vit_tiny": (32, {"patch": 8, "dim": 12, "heads": [2, 1, 2], "head_dim": [4, 6, 5], "mlp": [16, 12, 20]}),
}
FAMILIES = pytest.mark.parametrize("name", SMALL)


def small(name: str, num_classes: int = 3, **changes):
    """A narrow model of the family, with all biases, scales and statistics away from their trivial first values."""
    from msedge.models import create_model

    size, widths = SMALL[name]
    model = create_model(name, num_classes, size, **{**widths, **changes})
    scatter(model)
    return model


def scatter(model, seed: int = 0) -> None:
    from mindspore import Tensor

    rng = np.random.default_rng(seed)
    for name, p in model.parameters_dict().items():
        value = p.asnumpy() + 0.2 * rng.standard_normal(p.shape)
        p.set_data(Tensor((abs(value) + 0.1 if name.endswith("running_var") else value).astype(np.float32)))


def images(model, batch: int = 2, seed: int = 0) -> np.ndarray:
    shape = (batch, 3, model.image_size, model.image_size)
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def taps(model, x: np.ndarray):
    """The three results of `taps` as NumPy arrays, computed in graph mode."""
    from mindspore import Tensor, nn

    class Taps(nn.Cell):
        def __init__(self, model):
            super().__init__(auto_prefix=False)
            self.model = model

        def construct(self, x):
            return self.model.taps(x)

    logits, features, attention = Taps(model).set_train(model.training)(Tensor(x))
    return logits.asnumpy(), [f.asnumpy() for f in features], [a.asnumpy() for a in attention]
