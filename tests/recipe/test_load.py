from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from msedge.errors import RecipeError
from msedge.recipe import Recipe, find_recipe, load_recipe, recipe_hash, to_yaml
from msedge.recipe.tree import parse

RECIPES = sorted((Path(__file__).parents[2] / "recipes").glob("*.yaml"))


@pytest.fixture
def write(tmp_path):
    def _write(text: str, name: str = "r.yaml") -> Path:
        (tmp_path / name).write_text(text)
        return tmp_path / name

    return _write


def test_defaults_apply(write):
    assert load_recipe(write("name: a")) == Recipe(name="a")


def test_base_is_merged_key_by_key(write):
    write("train: {epochs: 7, lr: 1e-2}\ndata: {batch_size: 8}", "base.yaml")
    recipe = load_recipe(write("_base_: base.yaml\ntrain: {epochs: 3}"))
    assert (recipe.train.epochs, recipe.train.lr, recipe.data.batch_size) == (3, 0.01, 8)


def test_later_base_wins(write):
    write("seed: 1", "a.yaml")
    write("seed: 2", "b.yaml")
    assert load_recipe(write("_base_: [a.yaml, b.yaml]")).seed == 2


def test_base_circle_is_named(write):
    write("_base_: r.yaml", "a.yaml")
    with pytest.raises(RecipeError, match=r"circle: r\.yaml -> a\.yaml -> r\.yaml"):
        load_recipe(write("_base_: a.yaml"))


def test_set_overrides_and_creates(write):
    recipe = load_recipe(write("train: {epochs: 7}"), ["train.epochs=2", "teacher.model.name=swin_nano", "model.weights=null"])
    assert recipe.train.epochs == 2
    assert recipe.teacher.model.name == "swin_nano"


@pytest.mark.parametrize("word", ["train.epochs", "=3", "train..epochs=3"])
def test_set_of_wrong_form(write, word):
    with pytest.raises(RecipeError, match="not of the form"):
        load_recipe(write("seed: 0"), [word])


@pytest.mark.parametrize(
    ("text", "line", "said"),
    [
        ("name: a\ntrain:\n  epoch: 3\n", 3, r"unknown key 'train\.epoch' \(did you mean 'epochs'\?\)"),
        ("trian: {}\n", 1, "did you mean 'train'"),
        ("name: a\ntrain:\n\tepochs: 3\n", 3, "tabs"),
        ("train: {epochs: '3'}", 1, r"'train\.epochs' must be a whole number, not '3'"),
        ("train: {epochs: 3.0}", 1, "must be a whole number"),
        ("train: {epochs: true}", 1, "must be a whole number"),
        ("train:\n  lr: .nan", 2, "must be a number"),
        ("train:\n  betas: [0.9]", 2, "must have 2 values, not 1"),
        ("train:\n  betas: 0.9", 2, "must be a list"),
        ("train: 3", 1, "must be a mapping"),
        ("seed: 1\nseed: 2", 2, "stands here twice"),
        ("- 1", 1, "a recipe is a mapping"),
        ("train:\n  epochs: 0", 2, "'train.epochs' is 0 and must be above 0"),
        ("data:\n  augment:\n    crop_scale: [0.9, 0.1]", 3, "two shares"),
        ("train:\n  lr: 1e-6", 1, "'train.min_lr' is above 'train.lr'"),
        ("qat:\n  bits: 17", 2, "'qat.bits' is 17 and must lie between 2 and 8"),
        ("qat:\n  bits: 4", 2, "'qat.mode' int8 has 8 bits and no groups"),
        ("qat:\n  epochs: 2\n  freeze_epochs: 2", 3, "of 2 epochs none learns scales"),
        ("qat:\n  kl: 0", 1, "kl and alpha are both 0"),
        ("qat:\n  activation: minmax", 2, "must be lsq or ema"),
        ("qat:\n  augment:\n    hflip: 2", 3, "'qat.augment.hflip' is 2.0 and must lie between 0 and 1"),
        ("teacher: {}", 1, "exactly one of model, recipe, checkpoint, onnx; it has none"),
        ("teacher:\n  onnx: a\n  checkpoint: b", 1, "it has checkpoint and onnx"),
        ("teacher: {onnx: a}\ndistill:\n  feature: 1", 2, "an ONNX teacher gives logits only"),
        ("convert:\n  quant: [int3]", 2, "has 'int3'"),
        ("name: 'a", 1, "found unexpected end"),
    ],
)
def test_mistakes_name_file_line_and_key(write, text, line, said):
    with pytest.raises(RecipeError, match=said) as e:
        load_recipe(write(text))
    assert f"r.yaml:{line}:" in str(e.value)


def test_missing_and_empty(tmp_path, write):
    with pytest.raises(RecipeError, match="there is no recipe"):
        load_recipe(tmp_path / "none.yaml")
    with pytest.raises(RecipeError, match="empty"):
        load_recipe(write(""))


@pytest.mark.parametrize("path", RECIPES, ids=lambda p: p.stem)
def test_every_recipe_loads_and_survives_a_round_trip(path, write):
    recipe = load_recipe(path)
    assert recipe.name == path.stem
    again = load_recipe(write(to_yaml(recipe)))
    assert again == recipe
    assert recipe_hash(again) == recipe_hash(recipe)


def test_hash_sees_every_field():
    base = recipe_hash(Recipe())
    assert recipe_hash(dataclasses.replace(Recipe(), seed=1)) != base


def test_packaged_recipe_is_found_from_anywhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert load_recipe("recipes/catdog_distill.yaml").name == "catdog_distill"
    assert find_recipe("recipes/catdog_distill.yaml").is_file()


@given(st.text(max_size=80))
def test_any_text_gives_a_tree_or_a_recipe_error(text):
    try:
        parse(text, "x.yaml")
    except RecipeError as e:
        assert "x.yaml" in str(e)
