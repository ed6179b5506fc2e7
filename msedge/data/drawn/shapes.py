"""Outlines: splines, ellipses, limbs, fur edges, and the frame that carries them onto the canvas."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Frame:
    """A local coordinate system (x right, y down): origin and scale in pixels, turn in radians, optional mirror."""

    x: float
    y: float
    scale: float
    turn: float = 0.0
    mirror: bool = False

    def __call__(self, points) -> np.ndarray:
        """Local points [n, 2] to canvas pixels [n, 2]."""
        p = np.asarray(points, np.float64).reshape(-1, 2)
        if self.mirror:
            p = p * (-1, 1)
        c, s = math.cos(self.turn) * self.scale, math.sin(self.turn) * self.scale
        return p @ np.array([[c, s], [-s, c]]) + (self.x, self.y)

    def at(self, x: float, y: float, scale: float = 1.0, turn: float = 0.0, mirror: bool | None = None) -> Frame:
        """A frame at a local point, `scale` times as large and turned further; it mirrors as this one unless told."""
        ((px, py),) = self([(x, y)])
        mirrored = self.mirror if mirror is None else mirror
        return Frame(px, py, self.scale * scale, self.turn + (-turn if self.mirror else turn), mirrored)


def spline(points, closed: bool = True, per: int = 6) -> np.ndarray:
    """Catmull-Rom curve through `points`, `per` samples a segment."""
    p = np.asarray(points, np.float64)
    before, after = (p[-1:], p[:2]) if closed else (2 * p[:1] - p[1:2], 2 * p[-1:] - p[-2:-1])
    padded = np.concatenate([before, p, after])
    t = np.linspace(0, 1, per, endpoint=False)[:, None]
    a, b, c, d = (padded[i : len(padded) - 3 + i, None] for i in range(4))
    curve = 0.5 * (2 * b + (c - a) * t + (2 * a - 5 * b + 4 * c - d) * t**2 + (3 * b - a - 3 * c + d) * t**3)
    curve = curve.reshape(-1, 2)
    return curve if closed else np.concatenate([curve, p[-1:]])


def mirrored(half) -> np.ndarray:
    """Close a right half (top to bottom, x >= 0) with its mirror image; points on the axis are not repeated."""
    half = np.asarray(half, np.float64)
    left = half[half[:, 0] > 1e-9][::-1] * (-1, 1)
    return np.concatenate([half, left])


def ellipse(x: float, y: float, rx: float, ry: float, turn: float = 0.0, n: int = 28) -> np.ndarray:
    t = np.linspace(0, 2 * math.pi, n, endpoint=False)
    px, py = rx * np.cos(t), ry * np.sin(t)
    c, s = math.cos(turn), math.sin(turn)
    return np.stack([x + c * px - s * py, y + s * px + c * py], -1)


def limb(points, widths, per: int = 5) -> np.ndarray:
    """The outline of a limb along a spline, with half-widths that run from point to point, and round ends."""
    line = spline(points, closed=False, per=per)
    half = np.interp(np.linspace(0, len(widths) - 1, len(line)), np.arange(len(widths)), widths)
    along = np.gradient(line, axis=0)
    along /= np.linalg.norm(along, axis=1, keepdims=True) + 1e-9
    across = along[:, ::-1] * (-1, 1) * half[:, None]
    t = np.linspace(-math.pi / 2, math.pi / 2, 7)[1:-1, None]
    end = line[-1] + half[-1] * (np.cos(t) * along[-1] - np.sin(t) * across[-1] / max(half[-1], 1e-9))
    start = line[0] + half[0] * (-np.cos(t) * along[0] + np.sin(t) * across[0] / max(half[0], 1e-9))
    return np.concatenate([line + across, end, (line - across)[::-1], start])


def furry(outline: np.ndarray, length: float, rng: np.random.Generator, spacing: float = 2.5) -> np.ndarray:
    """Break a closed outline (pixels) into tufts up to `length` pixels long, about `spacing` pixels apart."""
    if length < 0.5:
        return outline
    closed = np.concatenate([outline, outline[:1]])
    walked = np.concatenate([[0], np.cumsum(np.linalg.norm(np.diff(closed, axis=0), axis=1))])
    n = int(min(400, max(16, walked[-1] / spacing)))
    t = np.linspace(0, walked[-1], n, endpoint=False)
    p = np.stack([np.interp(t, walked, closed[:, 0]), np.interp(t, walked, closed[:, 1])], -1)
    along = np.roll(p, -1, 0) - np.roll(p, 1, 0)
    along /= np.linalg.norm(along, axis=1, keepdims=True) + 1e-9
    normal = along[:, ::-1] * (1, -1)
    area = np.sum(p[:, 0] * np.roll(p[:, 1], -1) - np.roll(p[:, 0], -1) * p[:, 1])
    out = length * (rng.random(n) ** 1.5) * np.where(np.arange(n) % 2, 1.0, -0.35)
    return p + normal * (out * np.sign(area or 1.0))[:, None]
