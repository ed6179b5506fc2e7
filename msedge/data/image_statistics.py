"""What an image is like in a few numbers, and how its pixels are spread after preprocessing."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from msedge.data.examine import Examined, examine_pixels
from msedge.data.images import read_image
from msedge.data.opencv import cv2
from msedge.data.preprocess import Preprocess
from msedge.data.processes import WorkerDied, call_in_processes
from msedge.errors import DataError

STATISTICS = ("brightness", "contrast", "colour", "warmth", "sharpness", "size", "shape")
_SIDE = 128
_ENOUGH = 64  # files that are worth a further helper process


@dataclass(frozen=True)
class Measured:
    """`values` follow `STATISTICS` and are empty where the file cannot be used: mean and standard deviation of grey, mean
    distance between a pixel's largest and smallest channel, mean of red minus blue (all on 0..1), log2 of the mean absolute
    Laplacian of a 128-pixel copy (grey steps), log2 of the pixels, log2 of width over height."""

    examined: Examined
    values: tuple[float, ...] = ()

    @property
    def flat(self) -> bool:
        """Whether it shows nothing: almost one colour all over, as a black frame does."""
        return not self.examined.problem and self.examined.phash is None


def measure(path: Path) -> Measured:
    """Decode one file and describe it; never raises for the file's sake."""
    examined, image = examine_pixels(path)
    return Measured(examined) if image is None else Measured(examined, _values(image))


def measure_all(paths: Sequence[Path], progress: Callable[[int, int], None] | None = None) -> list[Measured]:
    """Measure files in helper processes, in their order."""
    found: list[Measured] = []
    for path, result in call_in_processes(measure, paths, _workers(len(paths))):
        died = isinstance(result, WorkerDied)
        found.append(Measured(Examined(path, "the decoder crashed on this file")) if died else result)
        if progress:
            progress(len(found), len(paths))
    return found


def _workers(files: int) -> int:
    return min(os.cpu_count() or 1, -(-files // _ENOUGH))


def _values(image: np.ndarray) -> tuple[float, ...]:
    height, width = image.shape[:2]
    small = cv2.resize(image, (_SIDE, _SIDE), interpolation=cv2.INTER_AREA)
    grey = cv2.cvtColor(small, cv2.COLOR_RGB2GRAY).astype(np.float32)
    rgb = small.astype(np.float32) / 255
    return (
        float(grey.mean() / 255),
        float(grey.std() / 255),
        float((rgb.max(axis=2) - rgb.min(axis=2)).mean()),
        float((rgb[..., 0] - rgb[..., 2]).mean()),
        float(np.log2(np.abs(cv2.Laplacian(grey, cv2.CV_32F)).mean() + 0.01)),
        float(np.log2(height * width)),
        float(np.log2(width / height)),
    )


def pixel_histograms(
    paths: Sequence[Path], preprocess: Preprocess, progress: Callable[[int, int], None] | None = None
) -> np.ndarray:
    """How often each of the 256 values stands in each channel of each readable image after resizing and cropping, int64
    [images, 3, 256], channels in the tensor's order. Raises DataError where no image can be read."""
    found: list[np.ndarray] = []
    jobs = [(path, preprocess) for path in paths]
    for done, (_, counts) in enumerate(call_in_processes(_histogram, jobs, _workers(len(jobs))), 1):
        if isinstance(counts, np.ndarray):
            found.append(counts)
        if progress:
            progress(done, len(paths))
    if not found:
        raise DataError(f"none of {len(paths)} images can be read", f"the first is {paths[0]}" if paths else "")
    return np.stack(found)


def _histogram(job: tuple[Path, Preprocess]) -> np.ndarray | None:
    path, preprocess = job
    try:
        pixels = preprocess.geometry(read_image(path))
    except DataError:
        return None
    channels = pixels if preprocess.channel_order == "RGB" else pixels[..., ::-1]
    return np.stack([np.bincount(channels[..., c].ravel(), minlength=256) for c in range(3)])
