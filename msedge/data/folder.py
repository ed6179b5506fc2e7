"""Labelled image folders: which files, which labels, which split."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np

from msedge.data.drawn import BUILTIN, ensure_drawn
from msedge.data.images import SUFFIXES
from msedge.errors import DataError
from msedge.recipe.build import suggest
from msedge.recipe.schema import DrawnConfig

TRAIN_NAMES = ("train", "training")
VAL_NAMES = ("val", "valid", "validation", "test")
_LAYOUT_HINT = "expected DIR/train/<class>/ and DIR/val/<class>/, or DIR/<class>/, with image files inside"
_FINGERPRINT_BYTES = 1 << 16


@dataclass(frozen=True)
class Samples:
    """Image files with integer labels into `classes`; everything that follows takes its order from here."""

    root: Path
    split: str
    paths: tuple[Path, ...]
    labels: np.ndarray  # int32 [n]
    classes: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.paths)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Samples) and self._identity == other._identity

    def __hash__(self) -> int:
        return hash(self._identity)

    @property
    def _identity(self) -> tuple:
        return self.root, self.split, self.paths, self.labels.tobytes(), self.classes

    def names(self) -> list[str]:
        """Paths relative to the root, with forward slashes."""
        return [Path(os.path.relpath(p, self.root)).as_posix() for p in self.paths]

    def counts(self) -> dict[str, int]:
        """Images per class."""
        numbers = np.bincount(self.labels, minlength=len(self.classes))
        return dict(zip(self.classes, map(int, numbers), strict=True))

    def pick(self, indices: Sequence[int] | np.ndarray) -> Samples:
        """The samples at `indices`, in that order."""
        indices = np.asarray(indices, np.int64)
        return replace(self, paths=tuple(self.paths[i] for i in indices), labels=self.labels[indices])

    def fingerprint(self) -> str:
        """sha256 over classes and, per file, relative path, label, size and the sha256 of its first 64 KiB.

        Raises DataError where a file has gone.
        """
        return self._fingerprint

    @cached_property
    def _fingerprint(self) -> str:
        digest = hashlib.sha256(os.fsencode("\n".join(self.classes)))
        for path, name, label in zip(self.paths, self.names(), self.labels, strict=True):
            try:
                with path.open("rb") as f:
                    size, head = os.fstat(f.fileno()).st_size, f.read(_FINGERPRINT_BYTES)
            except OSError as e:
                raise DataError(f"{path}: cannot be read: {(e.strerror or str(e)).lower()}") from None
            digest.update(os.fsencode(f"{name}\0{label}\0{size}\0{hashlib.sha256(head).hexdigest()}\n"))
        return digest.hexdigest()

    def take_balanced(self, n: int, seed: int) -> Samples:
        """At most `n` samples, as even over the classes as the counts allow; deterministic, in the original order."""
        if n >= len(self):
            return self
        rng = np.random.default_rng((seed, 0x62616C))
        shuffled = [rng.permutation(np.flatnonzero(self.labels == label)) for label in range(len(self.classes))]
        order = [int(c[turn]) for turn in range(max(map(len, shuffled))) for c in shuffled if turn < len(c)]
        return self.pick(sorted(order[:n]))


def image_files(folder: Path) -> list[Path]:
    """Image files below `folder` (by suffix), sorted, hidden ones left out. Raises DataError if it is no folder."""
    if not folder.is_dir():
        raise DataError(f"{folder} is {'not a folder' if folder.exists() else 'missing'}")
    found = []
    for at, folders, files in os.walk(folder):
        folders[:] = sorted(f for f in folders if not f.startswith("."))
        found += [Path(at, f) for f in files if Path(f).suffix.lower() in SUFFIXES and not f.startswith(".")]
    return sorted(found, key=lambda p: p.relative_to(folder).as_posix())


def load_flat(folder: Path | str) -> list[Path]:
    """Image files of an unlabelled folder, subfolders included. Raises DataError if there are none."""
    files = image_files(Path(folder))
    if not files:
        raise DataError(f"{folder}: no image in this folder", f"files with {', '.join(sorted(SUFFIXES))} are taken")
    return files


def load_samples(
    root: Path | str,
    split: str,
    *,
    val_fraction: float = 0.1,
    seed: int = 0,
    drawn: DrawnConfig | None = None,
    limit: int | None = None,
) -> Samples:
    """The `train` or `val` samples of `root`; classes are the sorted folder names.

    `root` is `builtin:catdog`, or a folder with train/ and val/ (also valid, validation, test), or a folder with one
    subfolder per class, of which a stable hash of each file's name (with `seed`) puts about `val_fraction` into val,
    at least one image of each class and never all. `limit` takes at most so many, balanced over the classes.
    Raises DataError.
    """
    if split not in ("train", "val"):
        raise DataError(f"split is {split!r}", "train or val")
    folder = resolve_root(root, drawn)
    train, val = split_folders(folder)
    if train and val:
        names, others = class_names(train), class_names(val)
        _same_classes(names, others, train, val)
        samples = _collect(folder, split, train if split == "train" else val, names)
    elif val:
        raise DataError(f"{folder}: {val.name}/ but no train/", _LAYOUT_HINT)
    else:
        base = train or folder
        names = class_names(base)
        samples = _hash_split(_collect(folder, split, base, names), split, base, val_fraction, seed)
    return samples if limit is None else samples.take_balanced(limit, seed)


def load_eval(
    root: Path | str,
    *,
    classes: Sequence[str] | None = None,
    drawn: DrawnConfig | None = None,
    limit: int | None = None,
    seed: int = 0,
) -> Samples:
    """All labelled images to evaluate on: the val/ of `root`, or `root` itself if it holds the class folders.

    With `classes` (a model's names, in label order) the labels follow them; a folder that is none of them raises
    DataError, a class without a folder does not.
    """
    folder = resolve_root(root, drawn)
    train, val = split_folders(folder)
    if train and not val:
        raise DataError(f"{folder}: no val/ beside {train.name}/", f"give the folder to evaluate on, as {train}")
    base = val or folder
    names = class_names(base, at_least=1)
    if classes is not None:
        if strange := [name for name in names if name not in classes]:
            raise DataError(f"{base / strange[0]}: '{strange[0]}' is no class of the model", suggest(strange[0], classes))
        names = tuple(classes)
    samples = _collect(folder, "val", base, names, may_miss=classes is not None)
    return samples if limit is None else samples.take_balanced(limit, seed)


def resolve_root(root: Path | str, drawn: DrawnConfig | None = None) -> Path:
    """The folder that `root` names; draws `builtin:catdog` into the user cache on first use. Raises DataError."""
    text = str(root)
    if text == BUILTIN:
        return ensure_drawn(drawn or DrawnConfig())
    if text.startswith("builtin:"):
        raise DataError(f"there is no '{text}'", f"the one drawn set is {BUILTIN}")
    folder = Path(root).expanduser()
    if not folder.exists():
        raise DataError(f"the image folder {folder} is missing", _LAYOUT_HINT)
    if not folder.is_dir():
        raise DataError(f"{folder} is a file, not an image folder", _LAYOUT_HINT)
    return folder


def split_folders(folder: Path) -> tuple[Path | None, Path | None]:
    """The train and val folders inside `folder`, where it has them."""

    def first(names: Sequence[str]) -> Path | None:
        return next((folder / name for name in names if (folder / name).is_dir()), None)

    return first(TRAIN_NAMES), first(VAL_NAMES)


def class_names(folder: Path, at_least: int = 2) -> tuple[str, ...]:
    """Sorted names of the class folders in `folder`. Raises DataError for none, or fewer than `at_least`."""
    try:
        entries = list(folder.iterdir())
    except OSError as e:
        raise DataError(f"{folder}: cannot be read: {(e.strerror or str(e)).lower()}") from None
    names = sorted(p.name for p in entries if p.is_dir() and not p.name.startswith("."))
    if not names:
        flat = any(p.suffix.lower() in SUFFIXES for p in entries)
        found = "images but no class folders" if flat else "no class folders"
        raise DataError(f"{folder}: {found}", _LAYOUT_HINT)
    if len(names) < at_least:
        raise DataError(f"{folder}: only one class ('{names[0]}')", "a classifier needs at least two class folders")
    return tuple(names)


def _same_classes(train_names: Sequence[str], val_names: Sequence[str], train: Path, val: Path) -> None:
    for names, others, where, other in ((val_names, train_names, val, train), (train_names, val_names, train, val)):
        if strange := [name for name in names if name not in others]:
            hint = suggest(strange[0], [n for n in others if n not in names] or others)
            raise DataError(f"{where / strange[0]}: class '{strange[0]}' is not in {other}", hint)


def _collect(root: Path, split: str, base: Path, names: Sequence[str], may_miss: bool = False) -> Samples:
    paths: list[Path] = []
    labels: list[int] = []
    for label, name in enumerate(names):
        if may_miss and not (base / name).is_dir():
            continue
        files = image_files(base / name)
        if not files:
            raise DataError(f"{base / name}: the class folder has no image", "add images or remove the folder")
        paths += files
        labels += [label] * len(files)
    return Samples(root, split, tuple(paths), np.asarray(labels, np.int32), tuple(names))


def _hash_split(samples: Samples, split: str, base: Path, val_fraction: float, seed: int) -> Samples:
    keys = np.empty(len(samples), np.float64)
    for i, path in enumerate(samples.paths):
        name = path.relative_to(base).as_posix()
        keys[i] = int.from_bytes(hashlib.sha256(os.fsencode(f"{seed}/{name}")).digest()[:6], "big") / 2**48
    in_val = keys < val_fraction
    for label, name in enumerate(samples.classes):
        own = np.flatnonzero(samples.labels == label)
        if len(own) < 2:
            raise DataError(f"{base / name}: a single image cannot serve training and validation", "add images")
        in_val[own[np.argmin(keys[own])]] = True
        in_val[own[np.argmax(keys[own])]] = False
    return samples.pick(np.flatnonzero(in_val == (split == "val")))
