"""Calibration sets for post-training quantisation: which images, and the files that the converter reads."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from msedge.artifact import make_dir, sha256_file, writing
from msedge.data.calibration_set import is_calibration, load_calibration
from msedge.data.folder import Samples, class_names, image_files, load_flat, load_samples, resolve_root, split_folders
from msedge.data.images import SUFFIXES, read_image
from msedge.data.preprocess import Preprocess
from msedge.errors import DataError


@dataclass(frozen=True)
class CalibrationSet:
    """A folder of .bin files, each one image as float32 NHWC [1, size, size, 3] in C order."""

    folder: Path
    sources: tuple[Path, ...]  # the image of each file, in the order of the file names
    preprocess: Preprocess

    def to_dict(self) -> dict[str, Any]:
        """What to keep in a manifest: the images with their hashes, and how they were prepared."""
        return {
            "images": [{"file": str(p), "sha256": sha256_file(p)} for p in self.sources],
            "preprocess": self.preprocess.to_dict(),
            "layout": "NHWC",
            "dtype": "float32",
        }


def choose_calibration(root_or_samples: Path | str | Samples, n: int = 128, seed: int = 0) -> list[Path]:
    """At most `n` readable images, even over the classes and chosen by `seed`.

    Takes samples, an image folder as `load_samples` does (its train split), a folder of unlabelled images, or a set that
    `msedge calib make` wrote, which is taken whole. Damaged images are passed over. Raises DataError where no readable
    image is left, or an image of a set is missing or changed.
    """
    if n < 1:
        raise DataError(f"{n} calibration images are too few", "128 is a good number")
    if not isinstance(root_or_samples, Samples) and is_calibration(root_or_samples):
        return load_calibration(root_or_samples)
    samples = root_or_samples if isinstance(root_or_samples, Samples) else calibration_samples(root_or_samples)
    rng = np.random.default_rng((seed, 0x63616C))
    queues = [list(rng.permutation(np.flatnonzero(samples.labels == k))) for k in range(len(samples.classes))]
    chosen: list[Path] = []
    while len(chosen) < n and any(queues):
        for queue in queues:
            while queue and len(chosen) < n:
                path = samples.paths[queue.pop()]
                if _readable(path):
                    chosen.append(path)
                    break
    if not chosen:
        raise DataError(f"{samples.root}: no readable image to calibrate with", "give a folder with JPEG or PNG images")
    return chosen


def calibration_samples(root: Path | str) -> Samples:
    """The train split of a dataset, else all images of class folders, else those of a folder without classes (then the one
    class is called ''). Raises DataError where there is no image."""
    folder = resolve_root(root)
    train, val = split_folders(folder)
    if train and val:
        return load_samples(folder, "train")
    base = train or val or folder
    if any(p.suffix.lower() in SUFFIXES for p in base.iterdir()) or not any(p.is_dir() for p in base.iterdir()):
        files = load_flat(base)
        return Samples(folder, "all", tuple(files), np.zeros(len(files), np.int32), ("",))
    names = class_names(base, at_least=1)
    files = [(path, label) for label, name in enumerate(names) for path in image_files(base / name)]
    if not files:
        load_flat(base)  # says what is missing
    return Samples(folder, "all", tuple(p for p, _ in files), np.array([label for _, label in files], np.int32), names)


def _readable(path: Path) -> bool:
    try:
        read_image(path)
    except DataError:
        return False
    return True


def write_calib_bins(paths: Sequence[Path], preprocess: Preprocess, out_dir: Path) -> CalibrationSet:
    """Write each image as a .bin file (float32 NHWC, which the converter's FULL_QUANT needs) into the new folder.

    The folder holds nothing else, since the converter reads every file in it. Raises DataError for no images, an
    unreadable one, or a folder with files in it; ArtifactError where the disk refuses.
    """
    if not paths:
        raise DataError("no images to calibrate with", "give a folder with JPEG or PNG images")
    make_dir(out_dir)
    if any(out_dir.iterdir()):
        raise DataError(f"{out_dir} is not empty", "the converter would read every file in it: choose a new folder")
    for i, path in enumerate(paths):
        tensor = preprocess(read_image(path)).transpose(1, 2, 0)
        with writing(out_dir):
            (out_dir / f"{i:06d}.bin").write_bytes(np.ascontiguousarray(tensor, np.float32).tobytes())
    return CalibrationSet(out_dir, tuple(paths), preprocess)
