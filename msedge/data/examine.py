"""Look at every image file once: does it decode, how large is it, what does it resemble."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from msedge.data.headers import read_header
from msedge.data.images import read_image
from msedge.data.opencv import cv2
from msedge.data.processes import WorkerDied, call_in_processes
from msedge.errors import DataError

_ENOUGH = 64  # files that are worth a further helper process
_FORMAT_OF_SUFFIX = {
    **dict.fromkeys((".jpg", ".jpeg", ".jpe", ".jfif"), "JPEG"),
    **dict.fromkeys((".tif", ".tiff"), "TIFF"),
    **dict.fromkeys((".ppm", ".pgm", ".pnm"), "PNM"),
    ".png": "PNG",
    ".gif": "GIF",
    ".bmp": "BMP",
    ".webp": "WebP",
}


@dataclass(frozen=True)
class Examined:
    path: Path
    problem: str = ""  # why it cannot be used; '' for a good image
    note: str = ""  # what is unusual about a good one
    width: int = 0  # pixels, as decoded
    height: int = 0
    sha256: str = ""  # of the file
    phash: int | None = None  # 64 bits; None for an image without structure


def examine(path: Path) -> Examined:
    """Decode one file and describe it; never raises for the file's sake."""
    return examine_pixels(path)[0]


def examine_pixels(path: Path) -> tuple[Examined, np.ndarray | None]:
    """As `examine`; also the image, uint8 RGB [height, width, 3], None where it cannot be used."""
    try:
        image = read_image(path)
        data = path.read_bytes()
    except DataError as e:
        return Examined(path, e.message.removeprefix(f"{path}: ")), None
    except OSError as e:
        return Examined(path, f"cannot be read: {(e.strerror or str(e)).lower()}"), None
    return _described(path, image, data), image


def _described(path: Path, image: np.ndarray, data: bytes) -> Examined:
    height, width = image.shape[:2]
    notes = []
    header = read_header(data)
    expected = _FORMAT_OF_SUFFIX.get(path.suffix.lower(), header.format)
    if header.format != expected:
        notes.append(f"a {header.format} with the suffix {path.suffix}")
    if header.trait:
        notes.append(header.trait)
    if (header.height, header.width) == (width, height) != (height, width):
        notes.append("rotated by EXIF")
    if min(height, width) < 32:
        notes.append(f"tiny ({width} x {height})")
    if max(height, width) > 4 * min(height, width):
        notes.append(f"very long ({width} x {height})")
    return Examined(path, "", ", ".join(notes), width, height, hashlib.sha256(data).hexdigest(), perceptual_hash(image))


def examine_all(paths: Sequence[Path], progress: Callable[[int, int], None] | None = None) -> list[Examined]:
    """Examine files in helper processes: a decoder that crashes costs one file, not the run."""
    found: list[Examined] = []
    workers = min(os.cpu_count() or 1, -(-len(paths) // _ENOUGH))
    for path, result in call_in_processes(examine, paths, workers):
        died = isinstance(result, WorkerDied)
        found.append(Examined(path, "the decoder crashed on this file") if died else result)
        if progress:
            progress(len(found), len(paths))
    return found


def perceptual_hash(image: np.ndarray) -> int | None:
    """64 bits of the image's coarse structure (pHash: signs of low DCT frequencies against their median).

    Resizing, recompression and small changes of light flip few bits. None where the image is almost of one colour.
    """
    grey = cv2.resize(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), (32, 32), interpolation=cv2.INTER_AREA).astype(np.float32)
    if float(grey.std()) < 2:
        return None
    low = cv2.dct(grey)[:8, :8].ravel()
    bits = low > np.median(low[1:])
    return int.from_bytes(np.packbits(bits).tobytes(), "big")
