import threading
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from msedge.data.batches import EvalBatches, TrainBatches
from msedge.data.folder import load_samples
from msedge.data.preprocess import Preprocess
from msedge.errors import DataError
from msedge.recipe.schema import AugmentConfig, DataConfig

FULL = AugmentConfig(rotate=15, gray=0.2, auto="trivial", erase=0.3, mixup=0.3, cutmix=0.8, mix_prob=0.8)
SIZE = 24


@pytest.fixture(scope="module")
def samples(tmp_path_factory, picture):
    import cv2

    root = tmp_path_factory.mktemp("three")
    for k, (name, n) in enumerate({"a": 12, "b": 9, "c": 6}.items()):
        for split, count in (("train", n), ("val", 3)):
            (root / split / name).mkdir(parents=True)
            for i in range(count):
                image = picture(40 + i, 70 - i, seed=100 * k + i)
                cv2.imwrite(str(root / split / name / f"{i}.png"), image)
    return load_samples(root, "train")


def batches_of(samples, augment=FULL, *, seed=1, batch_size=5, workers=2, size=SIZE) -> TrainBatches:
    config = DataConfig(batch_size=batch_size, workers=workers, augment=augment)
    return TrainBatches(samples, Preprocess(size), config, size=size, seed=seed)


def same(a, b) -> bool:
    pairs = ((a.images, b.images), (a.targets, b.targets), (a.indices, b.indices))
    return all(np.array_equal(x, y) for x, y in pairs)


def test_shapes_and_targets(samples):
    batches = batches_of(samples, AugmentConfig())
    assert batches.steps_per_epoch == 5  # 27 images, the last two dropped
    found = list(batches.epoch(0))
    assert len(found) == 5
    for batch in found:
        assert batch.images.shape == (5, 3, SIZE, SIZE)
        assert batch.images.dtype == np.float32
        assert batch.images.flags.c_contiguous
        assert batch.indices.dtype == np.int32
        assert np.array_equal(batch.targets, np.eye(3, dtype=np.float32)[samples.labels[batch.indices]])
    seen = np.concatenate([b.indices for b in found])
    assert len(set(seen)) == 25


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    seed=st.integers(0, 2**32),
    epoch=st.integers(0, 50),
    start=st.integers(0, 5),
    workers=st.integers(0, 3),
)
def test_a_batch_is_a_pure_function_of_seed_epoch_and_step(samples, seed, epoch, start, workers):
    whole = list(batches_of(samples, seed=seed, workers=0).epoch(epoch))
    rest = list(batches_of(samples, seed=seed, workers=workers).epoch(epoch, start))
    assert len(rest) == 5 - start
    assert all(same(a, b) for a, b in zip(whole[start:], rest, strict=True))


def test_epochs_and_seeds_differ(samples):
    first = next(iter(batches_of(samples).epoch(0)))
    assert not same(first, next(iter(batches_of(samples).epoch(1))))
    assert not same(first, next(iter(batches_of(samples, seed=2).epoch(0))))


def test_the_augment_seed_replaces_the_recipes(samples):
    fixed = replace(FULL, seed=9)
    a, b = batches_of(samples, fixed, seed=1), batches_of(samples, fixed, seed=2)
    assert all(same(x, y) for x, y in zip(a.epoch(3), b.epoch(3), strict=True))
    assert a.stream_key() == b.stream_key() == batches_of(samples, replace(FULL, seed=None), seed=9).stream_key()


def test_views_repeat_whole_epochs_with_their_order(samples):
    batches = batches_of(samples, replace(FULL, views=3))
    epochs = [list(batches.epoch(e)) for e in range(5)]
    assert all(same(a, b) for a, b in zip(epochs[0], epochs[3], strict=True))
    assert all(same(a, b) for a, b in zip(epochs[1], epochs[4], strict=True))
    assert not same(epochs[0][0], epochs[1][0])
    assert not same(epochs[1][0], epochs[2][0])


def test_stream_key_follows_all_that_changes_the_stream(samples):
    base = batches_of(samples).stream_key()
    assert batches_of(samples, workers=0).stream_key() == base
    assert len(base) == 64
    others = [
        batches_of(samples, seed=2),
        batches_of(samples, batch_size=4),
        batches_of(samples, size=32),
        batches_of(samples, replace(FULL, hflip=0.4)),
        batches_of(samples, replace(FULL, views=2)),
        batches_of(samples.pick(range(26))),
    ]
    keys = {b.stream_key() for b in others}
    assert len(keys) == len(others)
    assert base not in keys


def test_keeping_images_in_memory_changes_nothing(samples):
    kept, fresh = batches_of(samples), batches_of(samples)
    fresh._store.ram_bytes = 0
    for _ in range(2):
        assert all(same(a, b) for a, b in zip(kept.epoch(0), fresh.epoch(0), strict=True))
    assert fresh._store._used == 0
    assert kept._store._used > 0


def data_threads() -> list[threading.Thread]:
    return [t for t in threading.enumerate() if t.name.startswith("msedge-data")]


@pytest.mark.parametrize("ending", ["exhausted", "closed", "dropped", "raised", "interrupted"])
def test_no_thread_outlives_the_iterator(samples, ending):
    batches = batches_of(samples).epoch(0)
    if ending == "exhausted":
        list(batches)
    elif ending == "closed":
        next(batches)
        assert data_threads()
        batches.close()
    elif ending == "dropped":
        next(batches)
        del batches
    else:
        error = ValueError if ending == "raised" else KeyboardInterrupt
        next(batches)
        with pytest.raises(error):
            batches.throw(error())
    assert not data_threads()


def test_a_file_that_goes_away_is_named(samples, tmp_path):
    gone = replace(samples, paths=(tmp_path / "gone.png", *samples.paths[1:]))
    with pytest.raises(DataError, match=r"gone\.png"):
        list(batches_of(gone).epoch(0))
    assert not data_threads()


def test_fewer_images_than_a_batch(samples):
    with pytest.raises(DataError, match="27 training images are fewer than a batch of 28"):
        batches_of(samples, batch_size=28)


@pytest.mark.parametrize("batch_size", [1, 4, 9, 20])
def test_eval_batches_have_one_shape_and_count_the_valid(samples, batch_size):
    val = load_samples(samples.root, "val")
    preprocess = Preprocess(SIZE, crop_pct=0.9)
    batches = EvalBatches(val, preprocess, batch_size)
    for _ in range(2):
        found = list(batches)
        assert len(found) == len(batches) == -(-9 // batch_size)
        assert all(images.shape == (batch_size, 3, SIZE, SIZE) for images, _, _ in found)
        images = np.concatenate([b.images[: b.valid] for b in found])
        labels = np.concatenate([b.labels[: b.valid] for b in found])
        assert np.array_equal(images, preprocess.batch(val.paths))
        assert np.array_equal(labels, val.labels)
        assert all((b.labels[b.valid :] == -1).all() and (b.images[b.valid :] == 0).all() for b in found)


def test_bgr_models_get_bgr_in_training_too(samples):
    config = DataConfig(batch_size=5, augment=AugmentConfig())
    plain = {"mean": (0, 0, 0), "std": (1, 1, 1)}
    rgb = TrainBatches(samples, Preprocess(SIZE, **plain), config, size=SIZE, seed=0)
    bgr = TrainBatches(samples, Preprocess(SIZE, channel_order="BGR", **plain), config, size=SIZE, seed=0)
    assert np.array_equal(next(rgb.epoch(0)).images[:, ::-1], next(bgr.epoch(0)).images)
