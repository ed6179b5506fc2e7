"""Decoded training images, kept in memory as far as they fit: decode once, train many epochs."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np

from msedge.data.images import read_image
from msedge.data.opencv import cv2

RAM_BYTES = 2 << 30


def shrink(image: np.ndarray, side: int) -> np.ndarray:
    """Area-resize so that the shorter side is `side` pixels; smaller images stay as they are."""
    height, width = image.shape[:2]
    shorter = min(height, width)
    if shorter <= side:
        return image
    size = (side * width // shorter, side * height // shorter)
    return cv2.resize(image, size, interpolation=cv2.INTER_AREA)


class ImageStore:
    """`store[i]` is `prepare(decoded image i)`, uint8 RGB; kept while the sum stays below `ram_bytes`.

    What a caller gets never depends on whether it was kept. Safe to read from several threads.
    """

    def __init__(
        self,
        paths: tuple[Path, ...],
        prepare: Callable[[np.ndarray], np.ndarray],
        ram_bytes: int = RAM_BYTES,
    ):
        self.paths, self.prepare, self.ram_bytes = paths, prepare, ram_bytes
        self._kept: list[np.ndarray | None] = [None] * len(paths)
        self._used = 0

    def __getitem__(self, i: int) -> np.ndarray:
        image = self._kept[i]
        if image is None:
            image = np.ascontiguousarray(self.prepare(read_image(self.paths[i], trusted=True)))
            if self._used + image.nbytes <= self.ram_bytes:
                self._kept[i] = image
                self._used += image.nbytes
        return image
