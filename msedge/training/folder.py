"""A run's folder: started with its recipe, resumed only by the same recipe, finished with a manifest."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from msedge.artifact import MANIFEST, make_dir, read_json, read_manifest, write_manifest, write_text
from msedge.errors import ArtifactError
from msedge.models.spec import ModelSpec
from msedge.recipe import Recipe, load_recipe, recipe_hash, to_yaml
from msedge.training.loop import BEST, HISTORY, LAST

RECIPE = "recipe.yaml"
# Keys that have no effect on the weights and may differ when a run goes on.
_FREE = ("name", "data.workers", "data.eval_batch_size", "train.save_minutes", "distill.cache", "convert")


def finished(folder: Path) -> bool:
    return (folder / MANIFEST).is_file()


def open_folder(folder: Path, recipe: Recipe, spec: ModelSpec, *, resume: bool) -> bool:
    """Prepare `folder` for this recipe; True if a state is there to go on from.

    Raises ArtifactError when the folder holds another run, or the same one and `resume` was not asked for.
    """
    make_dir(folder)
    started = (folder / RECIPE).is_file()
    if started and not resume:
        raise ArtifactError(f"{folder} already holds a run", "add --resume to go on with it, or choose another --out")
    if started:
        check_same(folder, recipe)
        return (folder / LAST).is_file()
    spec.save(folder)
    write_text(folder / RECIPE, to_yaml(recipe))
    return False


def check_same(folder: Path, recipe: Recipe) -> None:
    before, now = _flat(load_recipe(folder / RECIPE)), _flat(recipe)
    for key in now:
        if before.get(key) != now[key] and not any(key == f or key.startswith(f + ".") for f in _FREE):
            raise ArtifactError(
                f"{folder} was started with {key} = {before.get(key)}, not {now[key]}",
                "resume with the same recipe, or choose another --out",
            )


def _flat(value, prefix: str = "") -> dict:
    items = dataclasses.asdict(value) if dataclasses.is_dataclass(value) else value
    flat = {}
    for name, child in items.items():
        key = f"{prefix}.{name}" if prefix else name
        flat |= _flat(child, key) if isinstance(child, dict) and child else {key: child}
    return flat


def close_folder(folder: Path, recipe: Recipe, *, best_accuracy: float, best_epoch: int, **extra) -> None:
    files = ["model.json", BEST, LAST, HISTORY, RECIPE]
    write_manifest(
        folder,
        "checkpoint",
        files,
        recipe_sha256=recipe_hash(recipe),
        val_accuracy=best_accuracy,
        best_epoch=best_epoch + 1,
        **extra,
    )


def result(folder: Path) -> dict:
    """What a finished folder says of itself: val_accuracy, best_epoch, images and where they came from."""
    manifest = read_manifest(folder, "checkpoint")
    model = read_json(folder / "model.json", "the model description")
    keys = ("val_accuracy", "best_epoch", "val_images", "data")
    return {"folder": str(folder), "model": model["architecture"], **{k: manifest.get(k) for k in keys}}
