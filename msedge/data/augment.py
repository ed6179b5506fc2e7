"""Random changes of a training image: pure functions of the image and a generator, uint8 RGB in and out."""

from __future__ import annotations

import math

import numpy as np

from msedge.data.opencv import cv2
from msedge.data.trivial import trivial_augment
from msedge.recipe.schema import AugmentConfig

LUMA = np.array([0.299, 0.587, 0.114])  # ITU-R BT.601
_CROP_TRIES = 10


def augment(image: np.ndarray, size: int, config: AugmentConfig, rng: np.random.Generator) -> np.ndarray:
    """uint8 [h, w, 3] to uint8 [size, size, 3]: crop, flip, rotate, colours, TrivialAugment, erasing, in this order."""
    box = random_box(image.shape[0], image.shape[1], config.crop_scale, config.crop_ratio, rng)
    flip = rng.random() < config.hflip
    angle = rng.uniform(-config.rotate, config.rotate) if config.rotate else 0.0
    image = cut(image, box, size, flip=flip, degrees=angle)
    strength = config.color_jitter
    gray = config.gray > 0 and rng.random() < config.gray
    if strength or gray:
        low, high = max(0.0, 1 - strength), 1 + strength
        brightness, contrast, saturation = rng.uniform(low, high, 3)
        image = recolor(image, brightness, contrast, 0.0 if gray else saturation)
    if config.auto == "trivial":
        image = trivial_augment(image, rng)
    if config.erase and rng.random() < config.erase:
        image = erase(image, rng)
    return image


def random_box(
    height: int, width: int, scale: tuple[float, float], ratio: tuple[float, float], rng: np.random.Generator
) -> tuple[float, float, float, float]:
    """(left, top, width, height) of a crop with an area share in `scale` and width / height in `ratio` (log-uniform).

    After ten boxes that do not fit: the largest centred box with a ratio in bounds (Inception crop, Szegedy 2015).
    """
    for _ in range(_CROP_TRIES):
        area = height * width * rng.uniform(*scale)
        aspect = math.exp(rng.uniform(math.log(ratio[0]), math.log(ratio[1])))
        w, h = math.sqrt(area * aspect), math.sqrt(area / aspect)
        if w <= width and h <= height:
            return rng.uniform(0, width - w), rng.uniform(0, height - h), w, h
    aspect = min(max(width / height, ratio[0]), ratio[1])
    w, h = min(width, height * aspect), min(height, width / aspect)
    return (width - w) / 2, (height - h) / 2, w, h


def cut(
    image: np.ndarray, box: tuple[float, float, float, float], size: int, *, flip: bool = False, degrees: float = 0.0
) -> np.ndarray:
    """Resample `box` (left, top, width, height, in pixels) to size x size, mirrored and turned about its centre.

    One bilinear warp does all three; what lies outside the image is its reflection.
    """
    left, top, width, height = box
    turn = math.radians(degrees)
    sx, sy = width / size * (-1 if flip else 1), height / size
    a = np.array([[math.cos(turn) * sx, -math.sin(turn) * sy], [math.sin(turn) * sx, math.cos(turn) * sy]])
    centre = np.array([left + width / 2 - 0.5, top + height / 2 - 0.5])
    shift = centre - a @ np.full(2, (size - 1) / 2)
    return cv2.warpAffine(
        image,
        np.column_stack([a, shift]),
        (size, size),
        flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
        borderMode=cv2.BORDER_REFLECT_101,
    )


def recolor(image: np.ndarray, brightness: float, contrast: float, saturation: float) -> np.ndarray:
    """Scale brightness, the distance to the mean luma, and the distance to each pixel's luma; 1 leaves as it is.

    The three are one 3 x 4 matrix, so values are clipped once, at the end.
    """
    mean_luma = float(LUMA @ cv2.mean(image)[:3])
    colors = saturation * np.eye(3) + (1 - saturation) * np.tile(LUMA, (3, 1))
    matrix = np.column_stack([brightness * contrast * colors, np.full(3, (1 - contrast) * brightness * mean_luma)])
    return cv2.transform(image, matrix)


def erase(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Fill a rectangle of 2 to 33 % of the area with noise (random erasing, Zhong et al. 2017)."""
    height, width = image.shape[:2]
    left, top, w, h = random_box(height, width, (0.02, 0.33), (0.3, 3.3), rng)
    rows = slice(int(top), max(int(top) + 1, int(top + h)))
    columns = slice(int(left), max(int(left) + 1, int(left + w)))
    image = image.copy()
    image[rows, columns] = rng.integers(0, 256, image[rows, columns].shape, dtype=np.uint8)
    return image
