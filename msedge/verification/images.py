"""The images that two models are compared on: labelled or not, read once, prepared for each model."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from msedge.data.folder import class_names, load_eval, load_flat, resolve_root, split_folders
from msedge.data.images import read_image
from msedge.data.preprocess import Preprocess
from msedge.errors import DataError
from msedge.progress import Say

_CHUNK = 32


@dataclass(frozen=True)
class ImageSet:
    """Image files; `labels` (int [n] into `classes`) and `classes` are None where the folder has no classes."""

    source: str
    paths: tuple[Path, ...]
    labels: np.ndarray | None
    classes: tuple[str, ...] | None

    def __len__(self) -> int:
        return len(self.paths)

    def tell_unread(self, problems: Sequence[str], say: Say) -> None:
        """Say how many images could not be read (a line of `problems` each). Raises DataError where none could."""
        if len(problems) == len(self):
            raise DataError(f"none of the {len(self)} images of {self.source} can be read", problems[0])
        if problems:
            say(f"{len(problems)} of {len(self)} images cannot be read and are left out, the first: {problems[0]}")


def load_images(data: Path | str, classes: Sequence[str] | None, limit: int | None = None) -> ImageSet:
    """`builtin:catdog`, a folder of class folders (its val/ where it has one), or any folder of images.

    `classes` are the model's names where it has any, and the labels then follow them. `limit` takes at most so many,
    balanced over the classes. Raises DataError.
    """
    if limit is not None and limit < 1:
        raise DataError(f"a limit of {limit} images leaves none", "1 or more")
    root = resolve_root(data)
    if has_classes(root):
        samples = load_eval(root, classes=classes, limit=limit)
        return ImageSet(str(data), samples.paths, np.asarray(samples.labels, np.int64), samples.classes)
    paths = load_flat(root)
    if limit is not None and limit < len(paths):
        paths = [paths[i] for i in np.linspace(0, len(paths) - 1, limit).round().astype(int)]
    return ImageSet(str(data), tuple(paths), None, None)


def has_classes(folder: Path) -> bool:
    """Whether a folder holds class folders (directly or below train/ and val/) and not just images."""
    train, val = split_folders(folder)
    if train or val:
        return True
    try:
        class_names(folder, at_least=1)
    except DataError:
        return False
    return True


def prepared(
    paths: Sequence[Path], preprocesses: Sequence[Preprocess], chunk: int = _CHUNK
) -> Iterator[tuple[list[int], list[np.ndarray], list[str]]]:
    """Yield, chunk by chunk: indices of the images that could be read, one float32 [n, 3, size, size] for each
    preprocessing, and one line for each image that could not be read."""
    for start in range(0, len(paths), chunk):
        images, indices, problems = [], [], []
        for i in range(start, min(start + chunk, len(paths))):
            try:
                images.append(read_image(paths[i]))
                indices.append(i)
            except DataError as e:
                problems.append(str(e))
        yield indices, _tensors(images, preprocesses), problems


def _tensors(images: list[np.ndarray], preprocesses: Sequence[Preprocess]) -> list[np.ndarray]:
    done: dict[Preprocess, np.ndarray] = {}
    for p in preprocesses:
        if p not in done:
            done[p] = p.batch(images)
    return [done[p] for p in preprocesses]
