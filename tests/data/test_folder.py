import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from msedge.data.folder import Samples, load_eval, load_flat, load_samples
from msedge.errors import DataError
from msedge.recipe.schema import DrawnConfig

SPLIT = {"train/cat": 5, "train/dog": 7, "train/ant": 3, "val/cat": 2, "val/dog": 2, "val/ant": 1}


def test_split_folders_and_sorted_classes(make_folder):
    root = make_folder(SPLIT)
    train, val = load_samples(root, "train"), load_samples(root, "val")
    assert train.classes == val.classes == ("ant", "cat", "dog")
    assert train.counts() == {"ant": 3, "cat": 5, "dog": 7}
    assert val.counts() == {"ant": 1, "cat": 2, "dog": 2}
    assert train.labels.dtype == np.int32
    assert all(p.parent.name == train.classes[label] for p, label in zip(train.paths, train.labels, strict=True))


@pytest.mark.parametrize("name", ["val", "valid", "validation", "test"])
def test_other_names_of_val(make_folder, name):
    root = make_folder({"train/a": 1, "train/b": 1, f"{name}/a": 2, f"{name}/b": 1})
    assert len(load_samples(root, "val")) == 3
    assert len(load_eval(root)) == 3


@pytest.mark.parametrize("inside", ["", "train/"])
def test_class_folders_without_val_are_split_by_file_name(make_folder, inside):
    root = make_folder({f"{inside}a": 40, f"{inside}b": 30, f"{inside}c": 2})
    train, val = (load_samples(root, s, val_fraction=0.2, seed=3) for s in ("train", "val"))
    assert not set(train.paths) & set(val.paths)
    assert len(train) + len(val) == 72
    assert 5 <= len(val) <= 25
    assert min(val.counts().values()) >= 1
    assert train.counts()["c"] == val.counts()["c"] == 1
    again = load_samples(root, "val", val_fraction=0.2, seed=3)
    assert again == val
    assert load_samples(root, "val", val_fraction=0.2, seed=4) != val


def test_the_split_of_a_file_does_not_depend_on_the_others(make_folder):
    root = make_folder({"a": 60, "b": 60})
    before = {p.name for p in load_samples(root, "val", val_fraction=0.3).paths if p.parent.name == "a"}
    for p in sorted((root / "a").iterdir())[::2]:
        if p.name not in before:
            p.unlink()
    after = {p.name for p in load_samples(root, "val", val_fraction=0.3).paths if p.parent.name == "a"}
    assert after == before


def test_hidden_files_other_suffixes_and_nested_folders(make_folder):
    root = make_folder({"train/a": 2, "train/b": 2, "val/a": 1, "val/b": 1, "train/a/deep": 2, ".cache/x": 1})
    (root / "train/a/Thumbs.db").touch()
    (root / "train/a/.hidden.png").touch()
    (root / "train/.ipynb_checkpoints").mkdir()
    samples = load_samples(root, "train")
    assert samples.counts() == {"a": 4, "b": 2}
    assert "train/a/deep/000.png" in samples.names()


@pytest.mark.parametrize(
    ("folders", "message"),
    [
        ({}, "no class folders"),
        ({"a": 3}, r"only one class \('a'\)"),
        ({"train/a": 3, "val/a": 3}, "only one class"),
        ({"train/a": 3, "train/b": 0, "val/a": 1, "val/b": 1}, r"train.b: the class folder has no image"),
        ({"a": 3, "b": 1}, "single image"),
        ({"val/a": 3, "val/b": 3}, "no train/"),
    ],
)
def test_useless_folders_are_named(make_folder, folders, message):
    root = make_folder(folders) if folders else make_folder({"x": 0})
    if not folders:
        shutil.rmtree(root / "x")
    with pytest.raises(DataError, match=message):
        load_samples(root, "train")


def test_images_without_class_folders(make_folder):
    root = make_folder({"x": 3})
    with pytest.raises(DataError, match="images but no class folders"):
        load_samples(root / "x", "train")


def test_missing_folder_file_and_unknown_builtin(tmp_path):
    with pytest.raises(DataError, match="is missing"):
        load_samples(tmp_path / "none", "train")
    (tmp_path / "file").touch()
    with pytest.raises(DataError, match="is a file"):
        load_samples(tmp_path / "file", "train")
    with pytest.raises(DataError, match=r"builtin:catdog"):
        load_samples("builtin:cats", "train")
    with pytest.raises(DataError, match="split is 'test'"):
        load_samples(tmp_path, "test")


def test_differing_classes_get_a_near_miss(make_folder):
    root = make_folder({"train/cat": 1, "train/dog": 1, "val/cats": 1, "val/dog": 1})
    with pytest.raises(DataError, match=r"val.cats: class 'cats' is not in .*train \(did you mean 'cat'\?\)"):
        load_samples(root, "train")
    (root / "val/cats").rename(root / "val/cat")
    shutil.copytree(root / "train/dog", root / "train/ox")
    with pytest.raises(DataError, match=r"train.ox: class 'ox' is not in"):
        load_samples(root, "val")


def test_load_eval_takes_a_split_folder_and_a_models_classes(make_folder):
    root = make_folder(SPLIT)
    assert len(load_eval(root)) == 5
    assert len(load_eval(root / "train")) == 15
    samples = load_eval(root / "val", classes=("dog", "owl", "cat", "ant"))
    assert samples.classes == ("dog", "owl", "cat", "ant")
    assert samples.counts() == {"dog": 2, "owl": 0, "cat": 2, "ant": 1}
    with pytest.raises(DataError, match=r"'ant' is no class of the model .*did you mean 'ants'"):
        load_eval(root, classes=("cat", "dog", "ants"))
    shutil.rmtree(root / "val")
    with pytest.raises(DataError, match="no val/"):
        load_eval(root)


def test_load_flat(make_folder):
    root = make_folder({"a": 2, "b/c": 1})
    assert [p.relative_to(root).as_posix() for p in load_flat(root)] == ["a/000.png", "a/001.png", "b/c/000.png"]
    (root / "empty").mkdir()
    with pytest.raises(DataError, match="no image"):
        load_flat(root / "empty")
    with pytest.raises(DataError, match="missing"):
        load_flat(root / "none")


def test_fingerprint_sees_content_label_and_name_and_not_the_place(make_folder, tmp_path):
    root = make_folder(SPLIT)
    original = load_samples(root, "train").fingerprint()
    copy = tmp_path / "copy"
    shutil.copytree(root, copy)
    assert load_samples(copy, "train").fingerprint() == original
    first = load_samples(copy, "train").paths[0]
    data = first.read_bytes()
    first.write_bytes(data[:-5] + bytes([data[-5] ^ 1]) + data[-4:])
    assert load_samples(copy, "train").fingerprint() != original
    first.write_bytes(data)
    assert load_samples(copy, "train").fingerprint() == original
    first.rename(first.with_name("renamed.png"))
    assert load_samples(copy, "train").fingerprint() != original
    samples = load_samples(root, "train")
    samples.paths[0].unlink()
    with pytest.raises(DataError, match="cannot be read"):
        samples.fingerprint()


@settings(max_examples=60)
@given(st.lists(st.integers(0, 12), min_size=2, max_size=5).filter(any), st.integers(1, 40), st.integers(0, 5))
def test_take_balanced_is_even_and_deterministic(counts, n, seed):
    labels = np.repeat(np.arange(len(counts)), counts).astype(np.int32)
    paths = tuple(Path(f"{i}.png") for i in range(len(labels)))
    samples = Samples(Path(), "train", paths, labels, tuple(map(str, range(len(counts)))))
    taken = samples.take_balanced(n, seed)
    assert len(taken) == min(n, len(samples))
    assert taken == samples.take_balanced(n, seed)
    got, had = np.array(list(taken.counts().values())), np.array(counts)
    short = got < had
    if short.any():
        assert got.max() - got[short].min() <= 1
    assert list(taken.paths) == [p for p in samples.paths if p in set(taken.paths)]


def test_limit(make_folder):
    root = make_folder(SPLIT)
    assert load_samples(root, "train", limit=6).counts() == {"ant": 2, "cat": 2, "dog": 2}
    assert load_eval(root, limit=2).counts() == {"ant": 1, "cat": 1, "dog": 0}


def test_the_drawn_set_is_made_in_the_cache_once(own_cache):
    config = DrawnConfig(train=8, val=4, size=32, seed=5)
    samples = load_samples("builtin:catdog", "train", drawn=config)
    assert samples.counts() == {"cat": 4, "dog": 4}
    assert samples.root.is_relative_to(own_cache)
    stamp = samples.paths[0].stat().st_mtime_ns
    assert load_eval("builtin:catdog", drawn=config).counts() == {"cat": 2, "dog": 2}
    assert load_samples("builtin:catdog", "train", drawn=config).paths[0].stat().st_mtime_ns == stamp


def test_names_that_are_no_unicode(make_folder):
    root = make_folder({"a": 3, "b": 3})
    first = root / "a/000.png"
    first.rename(Path(os.fsdecode(os.fsencode(root) + b"/a/\xff.png")))
    train, val = load_samples(root, "train"), load_samples(root, "val")
    assert len(train) + len(val) == 6
    assert len({train.fingerprint(), val.fingerprint()}) == 2
