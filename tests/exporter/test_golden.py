from __future__ import annotations

import numpy as np
import pytest

from msedge.data.preprocess import Preprocess
from msedge.errors import DataError
from msedge.exporter.golden import golden_inputs, smooth_images


def test_drawn_images_are_smooth_and_different():
    images = smooth_images(4, 64, 0).astype(np.float64)
    assert images.shape == (4, 64, 64, 3)
    assert images.min() == 0
    assert images.max() == 255
    noise = np.random.default_rng(0).integers(0, 256, images.shape)
    steps, noise_steps = (np.abs(np.diff(x, axis=2)).mean() / x.std() for x in (images, noise))
    assert steps < 0.2 * noise_steps
    flat = images.reshape(4, -1)
    assert np.abs(np.corrcoef(flat) - np.eye(4)).max() < 0.6


def test_drawn_images_follow_the_seed():
    np.testing.assert_array_equal(smooth_images(2, 16, 5), smooth_images(2, 16, 5))
    assert (smooth_images(2, 16, 5) != smooth_images(2, 16, 6)).any()


def test_golden_inputs_are_preprocessed():
    preprocess = Preprocess(16, mean=(0.5, 0.5, 0.5), std=(0.25, 0.5, 1.0), channel_order="BGR")
    inputs = golden_inputs(preprocess, 3)
    assert inputs.shape == (3, 3, 16, 16)
    assert inputs.dtype == np.float32
    pixels = np.moveaxis(smooth_images(3, 16, 0)[..., ::-1], -1, 1) / 255
    std = np.asarray(preprocess.std).reshape(3, 1, 1)
    np.testing.assert_allclose(inputs, (pixels - 0.5) / std, atol=1e-5)


def test_given_images_come_first():
    given = np.random.default_rng(0).standard_normal((5, 3, 16, 16))
    np.testing.assert_array_equal(golden_inputs(Preprocess(16), 3, given), given[:3].astype(np.float32))
    assert len(golden_inputs(Preprocess(16), 9, given)) == 5


@pytest.mark.parametrize("shape", [(0, 3, 16, 16), (2, 3, 16, 15), (2, 1, 16, 16), (3, 16, 16)])
def test_images_that_do_not_fit(shape):
    with pytest.raises(DataError, match=r"golden images must be \[N, 3, 16, 16\]"):
        golden_inputs(Preprocess(16), 2, np.zeros(shape, np.float32))


def test_no_golden_input_at_all():
    with pytest.raises(DataError, match="at least one"):
        golden_inputs(Preprocess(16), 0)
