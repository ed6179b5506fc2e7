"""TrivialAugmentWide (Müller and Hutter, ICCV 2021, arXiv:2103.10158): one operation of one strength per image.

Strengths are the paper's wide ranges in 31 steps; translation goes to a quarter of the side, the share that its 32
pixels are of a 128 pixel image.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from msedge.data.opencv import cv2

_STEPS = 31
_LUMA = (0.299, 0.587, 0.114)


def _warp(image: np.ndarray, matrix: list[list[float]]) -> np.ndarray:
    """`matrix` maps target to source positions relative to the centre."""
    height, width = image.shape[:2]
    a = np.array(matrix, np.float64)
    centre = np.array([(width - 1) / 2, (height - 1) / 2])
    a[:, 2] += centre - a[:, :2] @ centre
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    return cv2.warpAffine(image, a, (width, height), flags=flags, borderMode=cv2.BORDER_REFLECT_101)


def _rotate(image: np.ndarray, v: float) -> np.ndarray:
    c, s = math.cos(math.radians(135 * v)), math.sin(math.radians(135 * v))
    return _warp(image, [[c, -s, 0], [s, c, 0]])


def _blend(image: np.ndarray, other: np.ndarray | float, v: float) -> np.ndarray:
    """Away from `other` for v > 0, towards it for v < 0."""
    factor = 1 + 0.99 * v
    if isinstance(other, np.ndarray):
        return cv2.addWeighted(image, factor, other, 1 - factor, 0)
    return cv2.convertScaleAbs(image, alpha=factor, beta=(1 - factor) * other)


def _contrast(image: np.ndarray, v: float) -> np.ndarray:
    factor = 1 + 0.99 * v
    mean = float(np.dot(_LUMA, cv2.mean(image)[:3]))
    table = np.clip(np.arange(256) * factor + (1 - factor) * mean, 0, 255).astype(np.uint8)
    return cv2.LUT(image, table)


def _saturation(image: np.ndarray, v: float) -> np.ndarray:
    return _blend(image, cv2.cvtColor(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB), v)


def _posterize(image: np.ndarray, v: float) -> np.ndarray:
    return image & np.uint8(0xFF & ~((1 << round(6 * abs(v))) - 1))


def _solarize(image: np.ndarray, v: float) -> np.ndarray:
    levels = np.arange(256)
    return cv2.LUT(image, np.where(levels >= 256 * (1 - abs(v)), 255 - levels, levels).astype(np.uint8))


def _autocontrast(image: np.ndarray, v: float) -> np.ndarray:
    tables = []
    for channel in cv2.split(image):
        low, high, _, _ = cv2.minMaxLoc(channel)
        gain = 255 / (high - low) if high > low else 1.0
        offset = low if high > low else 0.0
        tables.append(np.clip((np.arange(256) - offset) * gain, 0, 255).astype(np.uint8))
    return cv2.LUT(image, np.stack(tables, -1)[:, None])


def _equalize(image: np.ndarray, v: float) -> np.ndarray:
    return cv2.merge([cv2.equalizeHist(channel) for channel in cv2.split(image)])


OPERATIONS: dict[str, Callable[[np.ndarray, float], np.ndarray]] = {
    "identity": lambda image, v: image,
    "shear_x": lambda image, v: _warp(image, [[1, 0.99 * v, 0], [0, 1, 0]]),
    "shear_y": lambda image, v: _warp(image, [[1, 0, 0], [0.99 * v, 1, 0]]),
    "translate_x": lambda image, v: _warp(image, [[1, 0, v * image.shape[1] / 4], [0, 1, 0]]),
    "translate_y": lambda image, v: _warp(image, [[1, 0, 0], [0, 1, v * image.shape[0] / 4]]),
    "rotate": _rotate,
    "brightness": lambda image, v: _blend(image, 0.0, v),
    "saturation": _saturation,
    "contrast": _contrast,
    "sharpness": lambda image, v: _blend(image, cv2.blur(image, (3, 3)), v),
    "posterize": _posterize,
    "solarize": _solarize,
    "autocontrast": _autocontrast,
    "equalize": _equalize,
}


def trivial_augment(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Apply one operation, uniformly chosen, with a uniformly chosen signed strength. uint8 RGB in and out."""
    operation = list(OPERATIONS.values())[rng.integers(len(OPERATIONS))]
    strength = float(rng.integers(_STEPS)) / (_STEPS - 1) * float(rng.choice((-1.0, 1.0)))
    return operation(image, strength)
