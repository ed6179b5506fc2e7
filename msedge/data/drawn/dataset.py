"""The drawn set as a folder of JPEG files, and single images of it."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import numpy as np

from msedge.artifact import cache_dir, remove_tree, write_json, writing
from msedge.data.drawn.animal import Palette, sample_animal
from msedge.data.drawn.bodies import POSES
from msedge.data.drawn.camera import photograph
from msedge.data.drawn.scenes import background, occlude
from msedge.data.drawn.shapes import Frame
from msedge.data.processes import WorkerDied, call_in_processes
from msedge.data.randomness import generator
from msedge.errors import ArtifactError, DataError
from msedge.recipe.schema import DrawnConfig

KINDS = ("cat", "dog")
VERSION = 6  # raise when the pictures change
ABOUT = "drawn.json"
_SUPERSAMPLING = 1.6
_OCCLUDED = 0.18


def draw(kind: str, size: int, rng: np.random.Generator) -> bytes:
    """One JPEG file of a `kind` ('cat' or 'dog'), size x size pixels."""
    side = round(_SUPERSAMPLING * max(size, 64))
    canvas = background(side, rng)
    animal = sample_animal(kind, rng)
    names = list(POSES)
    shares = [POSES[n][1] for n in names]
    pose, _, (left, top, right, bottom) = POSES[names[rng.choice(len(names), p=shares)]]
    fit = side / max(right - left, bottom - top)
    unit = fit * rng.uniform(0.82, 1.08)
    mirror = bool(rng.random() < 0.5)
    x = side / 2 - unit * (left + right) / 2 * (-1 if mirror else 1) + rng.normal(0, 0.05) * side
    y = side / 2 - unit * (top + bottom) / 2 + rng.normal(0, 0.04) * side
    palette = Palette(canvas, animal, unit, rng)
    pose(palette, Frame(x, y, unit, rng.normal(0, 0.09), mirror))
    if rng.random() < _OCCLUDED:
        occlude(canvas, rng)
    return photograph(canvas.pixels, size, rng)


def draw_order(order: tuple[str, int, DrawnConfig]) -> bytes:
    """Image number i of a split of the set; cats and dogs take turns."""
    split, i, config = order
    return draw(KINDS[i % 2], config.size, generator(config.seed, f"draw {split}", i))


def make_drawn(out: Path, config: DrawnConfig, progress: Callable[[int, int], None] | None = None) -> None:
    """Draw `config.train` and `config.val` images, half cats and half dogs, as out/{train,val}/{cat,dog}/*.jpg.

    The same configuration gives the same bytes (under the same OpenCV). The folder appears under its name only when
    complete. `progress(done, total)` is called after each image. Raises DataError if `out` exists and is not empty,
    ArtifactError where the disk refuses.
    """
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise DataError(f"{out} exists already", "choose a new folder or remove it")
    temporary = out.with_name(f".{out.name}.{os.getpid()}.part")
    orders = [(split, i, config) for split, n in (("train", config.train), ("val", config.val)) for i in range(n)]
    with writing(out):
        try:
            for split in ("train", "val"):
                for kind in KINDS:
                    (temporary / split / kind).mkdir(parents=True)
            for done, ((split, i, _), data) in enumerate(call_in_processes(draw_order, orders), start=1):
                if isinstance(data, WorkerDied):
                    raise data
                kind = KINDS[i % 2]
                (temporary / split / kind / f"{kind}_{i // 2:05d}.jpg").write_bytes(data)
                if progress:
                    progress(done, len(orders))
            write_json(temporary / ABOUT, {"kind": "drawn cats and dogs", "version": VERSION, **asdict(config)})
            if out.is_dir():
                out.rmdir()
            temporary.replace(out)
        finally:
            remove_tree(temporary)


def ensure_drawn(config: DrawnConfig, progress: Callable[[int, int], None] | None = None) -> Path:
    """The set of this configuration in the user cache; drawn on first use. Raises ArtifactError."""
    key = hashlib.sha256(json.dumps({"version": VERSION, **asdict(config)}, sort_keys=True).encode()).hexdigest()
    folder = cache_dir() / "data" / f"catdog-{key[:12]}"
    if (folder / ABOUT).is_file():
        return folder
    shutil.rmtree(folder, ignore_errors=True)
    try:
        with writing(folder):
            folder.parent.mkdir(parents=True, exist_ok=True)
        make_drawn(folder, config, progress)
    except ArtifactError as e:
        raise ArtifactError(e.message, "free some space, or set MSEDGE_CACHE to a folder that you may write to") from e
    return folder
