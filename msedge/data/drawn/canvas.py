"""A canvas of RGB pixels with filled, shaded and textured shapes."""

from __future__ import annotations

import numpy as np

from msedge.data.opencv import cv2

_SHIFT = 4  # fractional bits of OpenCV's drawing coordinates
Color = tuple[float, float, float]


class Canvas:
    """`pixels` is uint8 [side, side, 3]; all coordinates are pixels."""

    def __init__(self, pixels: np.ndarray):
        self.pixels = pixels
        self.side = pixels.shape[0]

    def fill(
        self,
        outline: np.ndarray,
        paint: np.ndarray | Color,
        *,
        alpha: float = 1.0,
        soft: float = 0.0,
        shade: float = 0.0,
        shadow: float = 0.0,
    ) -> None:
        """Fill a closed outline with a colour or a texture of the canvas's size.

        `soft` blurs the edge (pixels), `shade` darkens towards edges and away from the light above (0..1), `shadow`
        darkens what lies around and below (0..1).
        """
        low, high = outline.min(0), outline.max(0)
        extent = float(max(high - low))
        pad = int(2 + 3 * soft + (0.25 * extent if shadow else 0))
        x0, y0 = np.maximum(np.floor(low).astype(int) - pad, 0)
        x1, y1 = np.minimum(np.ceil(high).astype(int) + pad + 1, self.side)
        if x1 <= x0 or y1 <= y0:
            return
        mask = np.zeros((y1 - y0, x1 - x0), np.uint8)
        points = np.round((outline - (x0, y0)) * (1 << _SHIFT)).astype(np.int32)
        cv2.fillPoly(mask, [points], 255, cv2.LINE_AA, _SHIFT)
        area = self.pixels[y0:y1, x0:x1]
        if shadow:
            self._darken(area, _blurred(mask, 0.12 * extent, down=0.05 * extent), shadow)
        if soft:
            mask = _blurred(mask, soft)
        source = paint[y0:y1, x0:x1] if isinstance(paint, np.ndarray) else flat(paint, *area.shape[:2])
        if shade:
            depth = _blurred(mask, 0.16 * extent, down=0.12 * extent)
            factor = cv2.convertScaleAbs(depth, alpha=shade, beta=255 * (1 - shade))
            source = cv2.multiply(source, _three(factor), scale=1 / 255)
        cover = _three(mask if alpha == 1 else cv2.convertScaleAbs(mask, alpha=alpha))
        kept = cv2.multiply(area, 255 - cover, scale=1 / 255)
        area[:] = cv2.add(kept, cv2.multiply(source, cover, scale=1 / 255))

    @staticmethod
    def _darken(area: np.ndarray, mask: np.ndarray, amount: float) -> None:
        area[:] = cv2.multiply(area, _three(cv2.convertScaleAbs(mask, alpha=-amount, beta=255)), scale=1 / 255)

    def line(self, points: np.ndarray, color: Color, width: float, closed: bool = False) -> None:
        """A polyline of at least one pixel; a thinner `width` becomes one pixel that is partly seen through."""
        thick = max(1, round(width))
        scaled = np.round(points * (1 << _SHIFT)).astype(np.int32)
        if width >= 0.9:
            cv2.polylines(self.pixels, [scaled], closed, color, thick, cv2.LINE_AA, _SHIFT)
            return
        layer = self.pixels.copy()
        cv2.polylines(layer, [scaled], closed, color, thick, cv2.LINE_AA, _SHIFT)
        cv2.addWeighted(layer, width, self.pixels, 1 - width, 0, dst=self.pixels)


def flat(color: Color, height: int, width: int) -> np.ndarray:
    """uint8 [height, width, 3] of one colour."""
    return np.frombuffer(bytes(int(c) for c in color) * (height * width), np.uint8).reshape(height, width, 3)


def _three(mask: np.ndarray) -> np.ndarray:
    return cv2.merge((mask, mask, mask))


def _blurred(mask: np.ndarray, radius: float, down: float = 0.0) -> np.ndarray:
    """A wide soft blur, made on a smaller copy; `down` moves it by so many pixels."""
    height, width = mask.shape
    factor = max(1, int(radius / 2))
    k = 2 * max(1, round(radius / factor)) + 1
    if factor > 1:
        size = (max(1, width // factor), max(1, height // factor))
        mask = cv2.resize(mask, size, interpolation=cv2.INTER_AREA)
    mask = cv2.GaussianBlur(mask, (k, k), 0, borderType=cv2.BORDER_CONSTANT)
    if factor > 1:
        mask = cv2.resize(mask, (width, height), interpolation=cv2.INTER_LINEAR)
    shift = int(down)
    return np.concatenate([np.repeat(mask[:1], shift, 0), mask[:-shift]]) if 1 <= shift < height else mask


def low_noise(side: int, cells: int, rng: np.random.Generator) -> np.ndarray:
    """Smooth noise in about -1..1, float32 [side, side], with `cells` bumps across."""
    small = rng.standard_normal((cells + 2, cells + 2), dtype=np.float32)
    return cv2.resize(small, (side, side), interpolation=cv2.INTER_CUBIC) * np.float32(0.7)
