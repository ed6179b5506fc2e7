"""The gradients of whole models with the compiled operators against those without."""

from __future__ import annotations

import numpy as np
import pytest
from families import FAMILIES, images, small
from gradient_cells import ParameterGradients, TapsLoss

from msedge.mindspore_setup import load_mindspore
from msedge.models.native import operators as native

load_mindspore()

from mindspore import Tensor  # noqa: E402

pytestmark = pytest.mark.skipif(not native.available(), reason="no C compiler")


@FAMILIES
def test_gradients_are_those_of_the_plain_cells(name, monkeypatch):
    """Loss and gradients within 1e-4 of their scale, running statistics too."""
    results = []
    for plain in (False, True):
        if plain:
            monkeypatch.setattr(native, "available", lambda: False)
            for module in ("layers", "attention"):
                monkeypatch.setattr(f"msedge.models.{module}.on_cpu", lambda: False)
        model = small(name)
        x, weights = Tensor(images(model, 4)), Tensor(np.ones((4, 3), np.float32))
        loss, gradients = ParameterGradients(TapsLoss(model)).set_train()(x, weights)
        statistics = [p.asnumpy() for n, p in model.parameters_dict().items() if "running" in n]
        results.append((loss.asnumpy(), [g.asnumpy() for g in gradients], statistics))
    (loss, gradients, statistics), (plain_loss, plain_gradients, plain_statistics) = results
    assert loss == pytest.approx(plain_loss, rel=1e-5)
    largest = max(abs(g).max() for g in plain_gradients)
    for parameter, ours, theirs in zip(model.trainable_params(), gradients, plain_gradients, strict=True):
        scale = max(abs(theirs).max(), 1e-2 * largest)
        assert ours == pytest.approx(theirs, abs=1e-4 * scale), parameter.name
    for ours, theirs in zip(statistics, plain_statistics, strict=True):
        assert ours == pytest.approx(theirs, abs=1e-4 * abs(theirs).max())
