"""Mixing the images of a batch: mixup (Zhang et al. 2017) and CutMix (Yun et al. 2019), with soft labels."""

from __future__ import annotations

import math

import numpy as np

from msedge.recipe.schema import AugmentConfig


def one_hot(labels: np.ndarray, num_classes: int) -> np.ndarray:
    """int [n] to float32 [n, num_classes]."""
    return np.eye(num_classes, dtype=np.float32)[labels]


def mix(
    images: np.ndarray, targets: np.ndarray, config: AugmentConfig, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Mix float32 [n, c, h, w] and targets [n, classes] with a permutation of themselves, or return them unchanged.

    A share `mix_prob` of the batches is mixed; where both mixup and cutmix are on, each is chosen half of the time.
    """
    modes = [mode for mode, alpha in ((mixup, config.mixup), (cutmix, config.cutmix)) if alpha > 0]
    if not modes or rng.random() >= config.mix_prob:
        return images, targets
    mode = modes[rng.integers(len(modes))]
    alpha = config.mixup if mode is mixup else config.cutmix
    share = float(rng.beta(alpha, alpha))
    return mode(images, targets, share, rng.permutation(len(images)), rng)


def mixup(
    images: np.ndarray, targets: np.ndarray, share: float, partner: np.ndarray, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """`share` of each image and target, the rest from its partner."""
    keep, rest = np.float32(share), np.float32(1 - share)
    return keep * images + rest * images[partner], keep * targets + rest * targets[partner]


def cutmix(
    images: np.ndarray, targets: np.ndarray, share: float, partner: np.ndarray, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Paste a box of the partner that leaves about `share` of the area; targets follow the box as it was clipped."""
    height, width = images.shape[2:]
    side = math.sqrt(1 - share)
    y, x = int(rng.integers(height)), int(rng.integers(width))
    half_h, half_w = int(height * side) // 2, int(width * side) // 2
    top, bottom = max(0, y - half_h), min(height, y + half_h)
    left, right = max(0, x - half_w), min(width, x + half_w)
    mixed = images.copy()
    mixed[:, :, top:bottom, left:right] = images[partner, :, top:bottom, left:right]
    keep = np.float32(1 - (bottom - top) * (right - left) / (height * width))
    return mixed, keep * targets + (1 - keep) * targets[partner]
