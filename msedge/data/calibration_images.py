"""The images that a quantisation is calibrated with, told to the user where they are few."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from msedge.artifact import sha256_file
from msedge.data.calib import choose_calibration
from msedge.data.calibration_set import is_calibration
from msedge.errors import DataError
from msedge.progress import Say

WANTED_AT_LEAST = 16


@dataclass(frozen=True)
class Calibration:
    """The images that were chosen, balanced over the classes, and where they are from."""

    source: str
    paths: tuple[Path, ...]

    def to_dict(self) -> dict[str, Any]:
        """What to keep in a manifest: the images with their hashes."""
        return {"images": [{"file": str(p), "sha256": sha256_file(p)} for p in self.paths]}


def choose(source: Path | str, count: int, say: Say) -> Calibration:
    """Up to `count` readable images, fewer with a notice; a set of `msedge calib make` whole. Raises DataError where there
    are none, ArtifactError for a damaged set."""
    paths = tuple(choose_calibration(source, count))
    if len(paths) < (WANTED_AT_LEAST if is_calibration(source) else count):
        few = " (a few more would make better scales)" if len(paths) < WANTED_AT_LEAST else ""
        say(f"{source} has {len(paths)} readable images to calibrate with, {count} were asked for: all are used{few}")
    return Calibration(str(source), paths)


def check_classes(calibration: Calibration, classes: Sequence[str]) -> None:
    """Raise DataError where the images are of one class folder and the model knows more classes."""
    folders = {p.parent.name for p in calibration.paths}
    if len(folders) == 1 and len(classes) > 1 and folders <= set(classes):
        (only,) = folders
        missing = ", ".join([c for c in classes if c != only][:3])
        raise DataError(
            f"{calibration.source} calibrates with images of {only} only; the model also knows {missing}",
            "give images of all classes: the ranges of the others would be guessed",
        )
