"""Gradients of every parameter against finite differences of the loss along them, in training mode."""

from __future__ import annotations

import numpy as np
import pytest
from families import FAMILIES, images, small
from gradient_cells import ParameterGradients, TapsLoss

from msedge.mindspore_setup import load_mindspore

load_mindspore()

from mindspore import Tensor  # noqa: E402

from msedge.models import drop_path_sites  # noqa: E402


@FAMILIES
def test_gradients_are_those_of_the_loss(name):
    model = small(name, drop_path=0.3)
    for i, site in enumerate(drop_path_sites(model)):
        site.refresh(np.random.default_rng(i), 4)
    rng = np.random.default_rng(0)
    batch = (Tensor(images(model, 4)), Tensor(rng.standard_normal((4, 3)).astype(np.float32)))
    run = ParameterGradients(TapsLoss(model)).set_train(True)
    parameters = model.trainable_params()
    _, gradients = run(*batch)
    gradients = [g.asnumpy() for g in gradients]
    largest = max(np.linalg.norm(g) for g in gradients)
    checked = 0
    for parameter, gradient in zip(parameters, gradients, strict=True):
        norm = np.linalg.norm(gradient)
        if norm < 1e-2 * largest:  # lost in the rounding of the loss
            continue
        value, step = parameter.asnumpy(), 3e-3
        sides = []
        for sign in (1, -1):
            parameter.set_data(Tensor((value + sign * step * gradient / norm).astype(np.float32)))
            sides.append(float(run(*batch)[0].asnumpy()))
        parameter.set_data(Tensor(value))
        assert (sides[0] - sides[1]) / (2 * step) == pytest.approx(norm, rel=0.03, abs=2e-3 * largest), parameter.name
        checked += 1
    assert checked > len(parameters) / 3
