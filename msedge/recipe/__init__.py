"""Recipes: YAML files that say, completely, what a run does."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Iterable
from pathlib import Path

from msedge.packaged import asset_folder
from msedge.recipe.build import build, suggest
from msedge.recipe.rules import check, quant_name
from msedge.recipe.schema import (
    AugmentConfig,
    ConvertConfig,
    DataConfig,
    DistillConfig,
    DrawnConfig,
    GateConfig,
    ModelConfig,
    QatConfig,
    Recipe,
    TeacherConfig,
    TrainConfig,
)
from msedge.recipe.tree import override, read

__all__ = [
    "AugmentConfig",
    "ConvertConfig",
    "DataConfig",
    "DistillConfig",
    "DrawnConfig",
    "GateConfig",
    "ModelConfig",
    "QatConfig",
    "Recipe",
    "TeacherConfig",
    "TrainConfig",
    "find_recipe",
    "load_recipe",
    "quant_name",
    "recipe_hash",
    "suggest",
    "to_yaml",
]


def find_recipe(path: str | Path) -> Path:
    """The file itself, or, where there is none, the recipe of that name that came with the package."""
    path = Path(path)
    if path.exists() or path.suffix not in (".yaml", ".yml"):
        return path
    packaged = asset_folder("recipes") / path.name
    return packaged if packaged.is_file() else path


def load_recipe(path: str | Path, overrides: Iterable[str] = ()) -> Recipe:
    """Read a recipe with its `_base_` files and `a.b=c` overrides.

    Raises RecipeError, naming file, line and key, for unknown keys, wrong types and values that make no sense.
    """
    root = read(find_recipe(path))
    for assignment in overrides:
        root = override(root, assignment)
    recipe = build(Recipe, root)
    check(recipe, root)
    if recipe.teacher and recipe.teacher.recipe:
        beside = find_recipe(path).parent / recipe.teacher.recipe
        teacher = dataclasses.replace(recipe.teacher, recipe=str(beside.resolve()))
        recipe = dataclasses.replace(recipe, teacher=teacher)
    return recipe


def _plain(value):
    if isinstance(value, dict):
        return {k: _plain(v) for k, v in value.items()}
    return [_plain(v) for v in value] if isinstance(value, list | tuple) else value


def to_yaml(recipe: Recipe) -> str:
    """The fully resolved recipe as YAML that `load_recipe` reads back to an equal one."""
    import yaml

    return yaml.safe_dump(_plain(dataclasses.asdict(recipe)), sort_keys=False, default_flow_style=None, width=110)


def recipe_hash(recipe: Recipe) -> str:
    """sha256 of everything in the recipe that has an effect on the result."""
    return hashlib.sha256(json.dumps(_plain(dataclasses.asdict(recipe)), sort_keys=True).encode()).hexdigest()
