import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from msedge.data.mix import cutmix, mix, mixup, one_hot
from msedge.recipe.schema import AugmentConfig


def batch(n: int = 6, size: int = 8) -> tuple[np.ndarray, np.ndarray]:
    images = np.repeat(np.arange(n, dtype=np.float32), 3 * size * size).reshape(n, 3, size, size)
    return images, one_hot(np.arange(n) % 4, 4)


def test_one_hot():
    assert one_hot(np.array([2, 0], np.int32), 3).tolist() == [[0, 0, 1], [1, 0, 0]]
    assert one_hot(np.array([2]), 3).dtype == np.float32


@given(st.integers(0, 10_000), st.floats(0, 2), st.floats(0, 2), st.floats(0, 1))
def test_targets_stay_distributions_that_match_the_pixels(seed, alpha_mixup, alpha_cutmix, prob):
    images, _ = batch()
    own = one_hot(np.arange(6), 6)
    config = AugmentConfig(mixup=alpha_mixup, cutmix=alpha_cutmix, mix_prob=prob)
    mixed, targets = mix(images, own, config, np.random.default_rng(seed))
    assert mixed.dtype == targets.dtype == np.float32
    assert np.allclose(targets.sum(1), 1, atol=1e-6)
    # image k is k everywhere, so the mean pixel says how much of each image is there
    assert np.allclose(mixed.mean((1, 2, 3)), targets @ np.arange(6), atol=1e-4)


def test_off_and_probability():
    images, targets = batch()
    assert mix(images, targets, AugmentConfig(), np.random.default_rng(0))[0] is images
    config = AugmentConfig(mixup=0.5, mix_prob=0.25)
    mixed = [mix(images, targets, config, np.random.default_rng(i))[0] is not images for i in range(400)]
    assert 0.17 < np.mean(mixed) < 0.33


def test_both_modes_take_turns():
    images, targets = batch()
    config = AugmentConfig(mixup=1.0, cutmix=1.0)
    whole = [
        all(len(np.unique(image)) == 1 for image in mix(images, targets, config, np.random.default_rng(i))[0])
        for i in range(200)
    ]
    assert 0.3 < np.mean(whole) < 0.7


def test_mixup_and_cutmix_do_not_write_into_their_inputs():
    images, targets = batch()
    before = images.copy(), targets.copy()
    for mode in (mixup, cutmix):
        mode(images, targets, 0.4, np.roll(np.arange(6), 1), np.random.default_rng(1))
        assert np.array_equal(images, before[0])
        assert np.array_equal(targets, before[1])


@pytest.mark.parametrize("share", [0.0, 1.0])
def test_the_ends(share):
    images, targets = batch()
    partner = np.roll(np.arange(6), 1)
    mixed, soft = mixup(images, targets, share, partner, np.random.default_rng(0))
    assert np.array_equal(mixed, images if share else images[partner])
    assert np.array_equal(soft, targets if share else targets[partner])
    mixed, soft = cutmix(images, targets, 1.0, partner, np.random.default_rng(0))
    assert np.array_equal(mixed, images)
    assert np.array_equal(soft, targets)
