"""Contact sheets: many images of a folder on one picture, to look at."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from msedge.artifact import write_bytes
from msedge.data.images import read_image
from msedge.data.opencv import cv2
from msedge.errors import DataError


def contact_sheet(paths: Sequence[Path], out: Path, *, columns: int = 10, tile: int = 128) -> None:
    """Write a PNG with the images in rows of `columns`, each fitted into tile x tile pixels; unreadable ones are red."""
    rows = -(-len(paths) // columns)
    sheet = np.full((rows * tile, columns * tile, 3), 255, np.uint8)
    for i, path in enumerate(paths):
        y, x = divmod(i, columns)
        cell = sheet[y * tile : (y + 1) * tile, x * tile : (x + 1) * tile]
        try:
            image = read_image(path)
        except DataError:
            cell[:] = (200, 40, 40)
            continue
        scale = tile / max(image.shape[:2])
        size = tuple(max(1, round(scale * n)) for n in image.shape[1::-1])
        small = cv2.resize(image, size, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR)
        top, left = (tile - small.shape[0]) // 2, (tile - small.shape[1]) // 2
        cell[top : top + small.shape[0], left : left + small.shape[1]] = small
    done, data = cv2.imencode(".png", cv2.cvtColor(sheet, cv2.COLOR_RGB2BGR))
    assert done
    write_bytes(out, data.tobytes())
