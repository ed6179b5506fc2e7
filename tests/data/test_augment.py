import time

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from msedge.data.augment import LUMA, augment, cut, erase, random_box, recolor
from msedge.data.randomness import generator
from msedge.data.trivial import OPERATIONS, trivial_augment
from msedge.recipe.schema import AugmentConfig

NONE = AugmentConfig(crop_scale=(1, 1), crop_ratio=(1, 1), hflip=0, color_jitter=0)


def test_with_everything_off_the_image_stays(picture):
    image = picture(50, 50)
    assert np.array_equal(augment(image, 50, NONE, generator(0, "t")), image)


@given(st.integers(8, 60), st.integers(8, 60), st.integers(0, 2**31), st.sampled_from(["none", "trivial"]))
def test_any_image_gives_the_size_and_leaves_the_input(height, width, seed, auto):
    image = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    before = image.copy()
    config = AugmentConfig(rotate=30, gray=0.5, auto=auto, erase=0.5)
    out = augment(image, 16, config, generator(seed, "t"))
    assert out.shape == (16, 16, 3)
    assert out.dtype == np.uint8
    assert np.array_equal(image, before)
    assert np.array_equal(out, augment(image, 16, config, generator(seed, "t")))


@given(
    st.integers(1, 300),
    st.integers(1, 300),
    st.tuples(st.floats(0.01, 1), st.floats(0.01, 1)).map(sorted),
    st.tuples(st.floats(0.2, 1), st.floats(1, 5)),
    st.integers(0, 99),
)
def test_random_boxes_lie_inside(height, width, scale, ratio, seed):
    left, top, w, h = random_box(height, width, tuple(scale), ratio, np.random.default_rng(seed))
    assert w > 0
    assert h > 0
    assert left >= 0
    assert top >= 0
    assert left + w <= width + 1e-6
    assert top + h <= height + 1e-6
    assert ratio[0] - 1e-6 <= w / h <= ratio[1] + 1e-6


def test_random_boxes_keep_the_asked_share():
    rng = np.random.default_rng(0)
    shares = []
    for _ in range(400):
        _, _, w, h = random_box(200, 200, (0.3, 0.7), (0.75, 4 / 3), rng)
        shares.append(w * h / 40_000)
    assert 0.3 <= min(shares) < 0.35
    assert 0.65 < max(shares) <= 0.7
    assert abs(np.mean(shares) - 0.5) < 0.03


def test_cut_is_a_crop_a_mirror_and_a_turn(picture):
    image = picture(64, 64)
    crop = cut(image, (10, 20, 32, 32), 32)
    assert np.array_equal(crop, image[20:52, 10:42])
    assert np.array_equal(cut(image, (10, 20, 32, 32), 32, flip=True), crop[:, ::-1])
    for degrees, turns in ((90, 1), (180, 2), (-90, -1)):
        turned = cut(image, (0, 0, 64, 64), 64, degrees=degrees).astype(int)
        assert np.abs(turned - np.rot90(image, turns)).max() <= 1
    half = cut(image, (0, 0, 64, 64), 32)
    assert np.abs(half.astype(int) - cv2.resize(image, (32, 32))).max() <= 2


def test_recolor_follows_its_definition(picture):
    image = np.clip(picture(30, 30), 90, 160)
    assert np.array_equal(recolor(image, 1, 1, 1), image)
    assert np.abs(recolor(image, 1.3, 1, 1) - np.minimum(255, 1.3 * image)).max() <= 1
    grey = recolor(image, 1, 1, 0)
    assert np.abs(grey - (image @ LUMA)[..., None]).max() <= 1
    mean = (image @ LUMA).mean()
    assert np.abs(recolor(image, 1, 0.5, 1) - (0.5 * image + 0.5 * mean)).max() <= 1


def test_erase_fills_one_rectangle_with_noise():
    image = np.full((60, 60, 3), 7, np.uint8)
    shares = []
    for seed in range(50):
        changed = (erase(image, np.random.default_rng(seed)) != 7).any(-1)
        rows, columns = np.flatnonzero(changed.any(1)), np.flatnonzero(changed.any(0))
        box = changed[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
        assert box.mean() > 0.95
        shares.append(changed.mean())
    assert min(shares) > 0.005
    assert max(shares) < 0.36
    assert (image == 7).all()


@pytest.mark.parametrize("name", OPERATIONS)
def test_trivial_operations(picture, name):
    image = picture(40, 50)
    operation = OPERATIONS[name]
    for strength in (-1.0, 0.0, 1.0):
        out = operation(image, strength)
        assert out.shape == image.shape
        assert out.dtype == np.uint8
    changed = [float(np.abs(operation(image, v).astype(int) - image).mean()) for v in (0.0, 0.3, 1.0)]
    if name == "identity":
        assert changed == [0, 0, 0]
    elif name in ("autocontrast", "equalize"):
        assert changed[0] == changed[1] == changed[2]
    else:
        assert changed[0] == 0
        assert 0 <= changed[1] < changed[2]


def test_trivial_chooses_every_operation(picture, monkeypatch):
    counts = dict.fromkeys(OPERATIONS, 0)
    for name in counts:
        monkeypatch.setitem(OPERATIONS, name, lambda image, v, name=name: counts.update({name: counts[name] + 1}))
    for i in range(700):
        trivial_augment(picture(4, 4), generator(i, "t"))
    assert min(counts.values()) > 20


def test_one_image_takes_less_than_two_milliseconds(picture):
    image = picture(160, 160)
    config = AugmentConfig(rotate=10, gray=0.2, auto="trivial", erase=0.3)
    took = []
    for i in range(60):
        start = time.thread_time()
        augment(image, 128, config, generator(0, "t", i))
        took.append(time.thread_time() - start)
    assert np.median(took) < 2e-3
