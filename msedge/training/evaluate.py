"""Accuracy of a cell over evaluation batches, compiled once."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from msedge.mindspore_setup import load_mindspore

ms = load_mindspore()

from mindspore import Tensor, nn  # noqa: E402


class Evaluator(nn.Cell):
    """Runs `model` in inference mode; call it inside `graph_mode()`."""

    def __init__(self, model: nn.Cell):
        super().__init__(auto_prefix=False)  # the parameters keep their names, which checkpoints are read by
        self.model = model
        self.set_train(False)

    def construct(self, images):
        return self.model(images)

    def logits(self, images: np.ndarray) -> np.ndarray:
        """Float32 NCHW to float32 [N, C]."""
        return self(Tensor(images)).asnumpy()

    def accuracy(self, batches: Iterable) -> float:
        """Top-1 accuracy over (images, labels, valid) batches; only the first `valid` rows of each count."""
        right = total = 0
        for images, labels, valid in batches:
            right += int((self.logits(images).argmax(1) == labels)[:valid].sum())
            total += valid
        return right / total
