"""What the heads of both kinds share: colours, ears that stand, whiskers, the turn of a face."""

from __future__ import annotations

import numpy as np

from msedge.data.drawn.animal import Palette
from msedge.data.drawn.fur import mixed
from msedge.data.drawn.shapes import Frame, spline

PINK = (214, 152, 146)
TONGUE = (216, 112, 118)
MOUTH = (70, 34, 36)


def turned(points, yaw: float, depth: float) -> np.ndarray:
    """Move features with the face: those further out of the head's plane (`depth`) move more."""
    p = np.array(points, np.float64).reshape(-1, 2)
    p[:, 0] = p[:, 0] * (1 - 0.12 * abs(yaw)) + yaw * depth
    return p


def upright_ear(palette: Palette, frame: Frame, side: int, inner_at: float, base, tip) -> None:
    """An ear that stands: `base` the x of its two feet, `tip` its end; rounded and folded ears are lower."""
    a = palette.animal
    size = a.ear_size
    far = 1 - 0.18 * max(0.0, -side * a.yaw)
    in_x, out_x = base[0] * a.width, base[1] * a.width * far
    tip_x, tip_y = tip[0] * a.width * far + 0.12 * a.yaw * side, -0.62 + (tip[1] + 0.62) * size
    mid = (in_x + out_x) / 2
    if a.ears == "rounded":
        tip_x, tip_y = mid + 0.1, tip_y * 0.9
        points = [(in_x, -0.72), (in_x + 0.02, tip_y * 0.86), (tip_x, tip_y), (out_x + 0.05, tip_y * 0.8), (out_x, -0.3)]
    elif a.ears == "folded":
        tip_y *= 0.82
        points = [(in_x, -0.7), (in_x + 0.15, tip_y), (out_x - 0.08, tip_y * 0.98), (out_x + 0.1, -0.62), (out_x, -0.3)]
    else:
        points = [
            (in_x, -0.72),
            (0.45 * in_x + 0.55 * tip_x - 0.03, 0.5 * (tip_y - 0.8)),
            (tip_x - 0.03, tip_y + 0.04),
            (tip_x + 0.03, tip_y + 0.05),
            (0.5 * (out_x + tip_x) + 0.09, 0.5 * (tip_y - 0.4)),
            (out_x, -0.25),
        ]
    outline = spline(np.array([*points, (mid, -0.3)]) * (side, 1))
    paint = palette.dark if a.coat.dark_ears else palette.fur
    palette.part(frame(outline), paint, shade=0.35, shadow=0.2)
    if a.ears == "folded":
        flap = [(in_x + 0.1, tip_y), (out_x - 0.05, tip_y), (out_x - 0.02, -0.66), (mid + 0.02, -0.6)]
        palette.part(frame(spline(np.array(flap) * (side, 1))), paint, shade=0.5, shadow=0.4)
        return
    centre = np.array([side * (0.75 * mid + 0.25 * tip_x), -0.62 + 0.22 * (tip_y + 0.62)])
    inner = centre + (outline - centre) * inner_at
    skin = mixed(PINK, a.coat.base, palette.rng.uniform(0.2, 0.65))
    palette.part(frame(inner), skin, shade=0.5, hair=0.4, soft=1.5)


def side_ear(palette: Palette, frame: Frame, x: float, behind: bool) -> None:
    """An ear that stands, at `x` of a head in profile; the one `behind` the head is darker."""
    a = palette.animal
    height = {"pricked": 1.55, "rounded": 1.32, "folded": 1.05}.get(a.ears, 1.5) * (0.45 + 0.55 * a.ear_size)
    blunt = 0.14 if a.ears == "rounded" else 0.04
    points = [
        (x - 0.34, -0.55),
        (x - 0.26, -0.95),
        (x - blunt, -height),
        (x + blunt, -height),
        (x + 0.3, -0.88),
        (x + 0.36, -0.6),
    ]
    paint = palette.dark if a.coat.dark_ears else palette.fur
    palette.part(frame(spline(points)), paint, shade=0.55 if behind else 0.35, shadow=0 if behind else 0.25)
    if not behind and a.ears != "folded":
        inner = np.array([(x - 0.18, -0.66), (x - 0.02, -height * 0.88), (x + 0.2, -0.7)])
        skin = mixed(PINK, a.coat.base, 0.5)
        palette.part(frame(spline(inner)), skin, shade=0.4, hair=0.4, soft=1.2)


def draw_whiskers(palette: Palette, frame: Frame) -> None:
    """Three whiskers a side, bright on a dark coat."""
    a, rng = palette.animal, palette.rng
    bright = sum(a.coat.base) < 520 or rng.random() < 0.3
    color = (240, 240, 236) if bright else (70, 64, 60)
    for side in (-1, 1):
        for y in (0.44, 0.53, 0.62):
            reach = side * rng.uniform(1.15, 1.5)
            end = y + (y - 0.5) * 2.2 + rng.normal(0, 0.06)
            points = spline([(side * 0.28, y), (reach * 0.6, (y + end) / 2 - 0.07), (reach, end)], closed=False)
            palette.canvas.line(frame(turned(points, a.yaw, 0.2)), color, a.whiskers * 0.028 * palette.unit)
