"""Learned tables of positions at another size than they were trained at."""

from __future__ import annotations

import math

import numpy as np

_BICUBIC = -0.5  # Keys' constant, as in PIL and in PyTorch's antialiased resampling


def resize_positions(name: str, table: np.ndarray, wanted: tuple[int, ...]) -> np.ndarray | None:
    """A table of positions in the shape `wanted`; None where the parameter is none, or has other widths.

    `relative_position_bias_table` is [positions, heads], `attention_biases` [heads, positions]; `pos_embed` is
    [1, 1 + positions, channels] with the class token first. Positions are those of a square grid.
    """
    if name.endswith("relative_position_bias_table"):
        return _resized(table, wanted, _linear)
    if name.endswith("attention_biases"):
        resized = _resized(table.T, wanted[::-1], _linear)
        return None if resized is None else resized.T
    if name.endswith("pos_embed") and table.ndim == len(wanted) == 3 and table.shape[0] == wanted[0] == 1:
        grid = _resized(table[0, 1:], (wanted[1] - 1, wanted[2]), _bicubic)
        return None if grid is None else np.concatenate([table[:, :1], grid[None]], 1)
    return None


def _resized(grid: np.ndarray, wanted: tuple[int, ...], weights) -> np.ndarray | None:
    """[n * n, columns] to [m * m, columns]."""
    if grid.ndim != 2 or grid.shape[1:] != wanted[1:]:
        return None
    old, new = math.isqrt(len(grid)), math.isqrt(wanted[0])
    if old * old != len(grid) or new * new != wanted[0] or not old or not new:
        return None
    steps = weights(old, new)
    return np.einsum("ai,bj,ijc->abc", steps, steps, grid.reshape(old, old, -1)).reshape(wanted).astype(grid.dtype)


def _linear(old: int, new: int) -> np.ndarray:
    """[new, old] weights that keep the ends: the farthest offsets of the small window become those of the large one."""
    places = np.linspace(0, old - 1, new) if new > 1 else np.array([(old - 1) / 2])
    return np.clip(1 - abs(places[:, None] - np.arange(old)), 0, 1)


def _bicubic(old: int, new: int) -> np.ndarray:
    """[new, old] weights of bicubic resampling with antialiasing, as timm resizes position embeddings."""
    scale = old / new
    stretch = max(scale, 1.0)
    centres = scale * (np.arange(new) + 0.5) - 0.5
    x = abs(np.arange(old) - centres[:, None]) / stretch
    near = ((_BICUBIC + 2) * x - (_BICUBIC + 3)) * x * x + 1
    far = ((x - 5) * x + 8) * x * _BICUBIC - 4 * _BICUBIC
    weights = np.where(x < 1, near, np.where(x < 2, far, 0.0))
    return weights / weights.sum(1, keepdims=True)
