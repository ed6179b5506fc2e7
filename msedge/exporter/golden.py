"""Golden inputs: a few images and what the cell answers, kept beside every export for all later comparisons."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np

from msedge.artifact import write_bytes
from msedge.data.preprocess import Preprocess
from msedge.errors import DataError


def golden_inputs(preprocess: Preprocess, count: int, images: np.ndarray | None = None, seed: int = 0) -> np.ndarray:
    """float32 [count, 3, size, size]: the first of `images` (already preprocessed) where given, else drawn ones.

    Raises DataError where `images` do not fit.
    """
    if count < 1:
        raise DataError(f"{count} golden inputs are asked for", "at least one is needed")
    if images is None:
        return preprocess.normalize(smooth_images(count, preprocess.size, seed))
    wanted = (3, preprocess.size, preprocess.size)
    if images.ndim != 4 or images.shape[1:] != wanted or not len(images):
        raise DataError(f"golden images must be [N, 3, {wanted[1]}, {wanted[2]}], not {list(images.shape)}")
    return np.ascontiguousarray(images[:count], np.float32)


def write_golden(path: Path, inputs: np.ndarray, logits: np.ndarray) -> None:
    """Write `golden.npz`: inputs float32 [n, 3, size, size] and logits float32 [n, classes]."""
    buffer = io.BytesIO()
    np.savez_compressed(buffer, inputs=inputs, logits=logits)
    write_bytes(path, buffer.getvalue())


def smooth_images(count: int, size: int, seed: int) -> np.ndarray:
    """uint8 [count, size, size, 3]: sums of coarse and fine random colours.

    Like photos, most of their power is in low frequencies: white noise would leave deep layers near their means and hide
    errors.
    """
    rng = np.random.default_rng(seed)
    total = np.zeros((count, size, size, 3))
    for cells in (2, 4, 8, 16):
        rough = rng.standard_normal((count, cells, cells, 3))
        spread = _interpolation(size, cells)
        total += np.einsum("hi,nijc,wj->nhwc", spread, rough, spread) / cells**0.5
    total += 0.05 * rng.standard_normal(total.shape)
    low, high = (f(total, axis=(1, 2, 3), keepdims=True) for f in (np.min, np.max))
    return np.round((total - low) / (high - low) * 255).astype(np.uint8)


def _interpolation(size: int, cells: int) -> np.ndarray:
    """[size, cells] weights of linear interpolation between `cells` points spread over `size` pixels."""
    at = np.linspace(0, cells - 1, size)
    return np.maximum(0, 1 - np.abs(at[:, None] - np.arange(cells)))
