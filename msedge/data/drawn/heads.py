"""Heads from the front and from the side. One unit is half of the head's width."""

from __future__ import annotations

import math

import numpy as np

from msedge.data.drawn.animal import Palette
from msedge.data.drawn.fur import mixed, scaled
from msedge.data.drawn.shapes import Frame, ellipse, mirrored, spline

_PINK = (214, 152, 146)
_TONGUE = (216, 112, 118)
_MOUTH = (70, 34, 36)
_CAT_HALF = [(0, -0.8), (0.42, -0.84), (0.8, -0.58), (1.0, -0.08), (0.92, 0.38), (0.62, 0.72), (0.26, 0.9), (0, 0.93)]
_DOG_HALF = [
    (0, -0.86),
    (0.4, -0.85),
    (0.74, -0.6),
    (0.84, -0.15),
    (0.72, 0.28),
    (0.52, 0.62),
    (0.42, 0.95),
    (0.2, 1.12),
    (0, 1.15),
]


def front_head(palette: Palette, frame: Frame) -> None:
    """A head that looks at the viewer, turned aside by the animal's yaw."""
    (_front_cat if palette.animal.kind == "cat" else _front_dog)(palette, frame)


def side_head(palette: Palette, frame: Frame) -> None:
    """A head in profile, looking to +x."""
    (_side_cat if palette.animal.kind == "cat" else _side_dog)(palette, frame)


def _turned(points, yaw: float, depth: float) -> np.ndarray:
    """Move features with the face: those further out of the head's plane (`depth`) move more."""
    p = np.array(points, np.float64).reshape(-1, 2)
    p[:, 0] = p[:, 0] * (1 - 0.12 * abs(yaw)) + yaw * depth
    return p


def _front_cat(palette: Palette, frame: Frame) -> None:
    a, coat = palette.animal, palette.animal.coat
    wide = (a.width, 1.0)
    for side in (-1, 1):
        _upright_ear(palette, frame, side, inner_at=0.62, base=(0.2, 0.98), tip=(0.86, -1.6))
    outline = spline(mirrored(_CAT_HALF) * wide)
    palette.part(frame(outline), shade=0.38, shadow=0.35)
    if coat.pattern == "points":
        palette.part(frame(_turned(ellipse(0, 0.25, 0.6, 0.55), a.yaw, 0.2)), palette.dark, soft=0.16 * palette.unit)
    if coat.pattern == "stripes":
        _forehead_stripes(palette, frame)
    if coat.light_muzzle:
        muzzle = _turned(ellipse(0, 0.56, 0.5, 0.36), a.yaw, 0.22)
        palette.part(frame(muzzle), palette.light, shade=0, soft=0.1 * palette.unit)
    for side in (-1, 1):
        eye = _turned([(side * 0.44 * a.width, -0.04)], a.yaw, 0.16)[0]
        _cat_eye(palette, frame.at(*eye, turn=side * -0.18), 0.265 * (1 - 0.25 * max(0, -side * a.yaw)))
    paint = palette.light if coat.light_muzzle else palette.fur
    for side in (-1, 1):
        palette.part(frame(_turned(ellipse(side * 0.19, 0.53, 0.25, 0.19), a.yaw, 0.27)), paint, shade=0.3, hair=0.3, soft=1.5)
    palette.part(frame(_turned(ellipse(0, 0.74, 0.2, 0.13), a.yaw, 0.25)), paint, shade=0.35, hair=0.3, soft=1.5)
    _cat_mouth(palette, frame)
    if a.whiskers:
        _whiskers(palette, frame)


def _upright_ear(palette: Palette, frame: Frame, side: int, inner_at: float, base, tip) -> None:
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
    skin = mixed(_PINK, a.coat.base, palette.rng.uniform(0.2, 0.65))
    palette.part(frame(inner), skin, shade=0.5, hair=0.4, soft=1.5)


def _forehead_stripes(palette: Palette, frame: Frame) -> None:
    """The tabby's M and the lines that run back from the eyes."""
    a = palette.animal
    for x, top, bottom in ((-0.3, -0.82, -0.4), (-0.1, -0.84, -0.3), (0.1, -0.84, -0.3), (0.3, -0.82, -0.4)):
        points = _turned([(x * 1.1, top), (x, (top + bottom) / 2), (x * 0.75, bottom)], a.yaw, 0.12)
        palette.canvas.line(frame(points), a.coat.second, 0.075 * palette.unit)
    for side in (-1, 1):
        for y in (0.12, 0.34):
            points = _turned([(side * 0.66, y), (side * 0.84, y + 0.02), (side * 0.97 * a.width, y + 0.08)], a.yaw, 0.05)
            palette.canvas.line(frame(points), a.coat.second, 0.06 * palette.unit)


def _cat_eye(palette: Palette, frame: Frame, size: float) -> None:
    a, canvas = palette.animal, palette.canvas
    height = size * 0.82 * (1 - min(0.85, a.lids))
    almond = spline([(-size, 0.02), (-0.35 * size, -height), (0.5 * size, -0.85 * height), (size, 0), (0, 0.85 * height)])
    canvas.fill(frame(almond * 1.22), scaled(a.coat.base, 0.3), soft=1)
    if height < 0.3 * size:
        return
    canvas.fill(frame(almond), a.eyes, shade=0.35)
    pupil = ellipse(0, 0, max(0.12, a.slit) * size, 0.84 * height)
    canvas.fill(frame(pupil), (16, 14, 16), soft=0.5)
    canvas.fill(frame(ellipse(-0.25 * size, -0.38 * height, 0.17 * size, 0.17 * size)), (250, 250, 250))


def _cat_mouth(palette: Palette, frame: Frame) -> None:
    a, canvas = palette.animal, palette.canvas
    nose = spline([(-0.14, 0.3), (0, 0.27), (0.14, 0.3), (0.04, 0.41), (-0.04, 0.41)], per=4)
    dark = scaled(a.coat.light if a.coat.light_muzzle else a.coat.base, 0.4)
    width = 0.035 * palette.unit
    for side in (-1, 1):
        curve = spline([(0, 0.42), (side * 0.02, 0.56), (side * 0.15, 0.65), (side * 0.3, 0.6)], closed=False)
        canvas.line(frame(_turned(curve, a.yaw, 0.28)), dark, width)
    if a.mouth != "closed":
        gape = ellipse(0, 0.72, 0.13, 0.12 if a.mouth == "open" else 0.08)
        canvas.fill(frame(_turned(gape, a.yaw, 0.26)), _MOUTH, soft=1)
        tongue = ellipse(0, 0.76, 0.08, 0.07 if a.mouth == "open" else 0.11)
        canvas.fill(frame(_turned(tongue, a.yaw, 0.26)), _TONGUE, soft=1)
    canvas.fill(frame(_turned(nose, a.yaw, 0.3)), a.nose, shade=0.35, soft=0.6)


def _whiskers(palette: Palette, frame: Frame) -> None:
    a, rng = palette.animal, palette.rng
    bright = sum(a.coat.base) < 520 or rng.random() < 0.3
    color = (240, 240, 236) if bright else (70, 64, 60)
    for side in (-1, 1):
        for y in (0.44, 0.53, 0.62):
            reach = side * rng.uniform(1.15, 1.5)
            end = y + (y - 0.5) * 2.2 + rng.normal(0, 0.06)
            points = spline([(side * 0.28, y), (reach * 0.6, (y + end) / 2 - 0.07), (reach, end)], closed=False)
            palette.canvas.line(frame(_turned(points, a.yaw, 0.2)), color, a.whiskers * 0.028 * palette.unit)


def _front_dog(palette: Palette, frame: Frame) -> None:
    a, coat, canvas = palette.animal, palette.animal.coat, palette.canvas
    hanging = a.ears in ("floppy", "hound")
    for side in (-1, 1):
        if not hanging:
            _standing_dog_ear(palette, frame, side)
    long = 0.88 + 0.2 * a.muzzle
    outline = np.array(_DOG_HALF) * (a.width, 1)
    outline[:, 1] = np.where(outline[:, 1] > 0, outline[:, 1] * long, outline[:, 1])
    palette.part(frame(spline(mirrored(outline))), shade=0.4, shadow=0.35)
    if coat.pattern == "bib" or (coat.light_muzzle and coat.pattern != "points"):
        blaze = [(0, -0.8), (0.1, -0.3), (0.16, 0.1), (0.4, 0.4), (0.42, 0.8), (0, 1.1)]
        blaze_outline = spline(mirrored(blaze) * (1, long))
        palette.part(frame(_turned(blaze_outline, a.yaw, 0.2)), palette.light, shade=0, soft=0.06 * palette.unit)
    if coat.pattern == "points":
        palette.part(frame(_turned(ellipse(0, 0.6, 0.5, 0.5), a.yaw, 0.22)), palette.dark, soft=0.12 * palette.unit)
    for side in (-1, 1):
        x, y = _turned([(side * 0.38 * a.width, -0.14)], a.yaw, 0.16)[0]
        _dog_eye(palette, frame.at(x, y, turn=side * 0.12), 0.125)
    _dog_muzzle(palette, frame, long)
    for side in (-1, 1):
        if hanging:
            _hanging_ear(palette, frame, side)
    if a.whiskers:
        _whiskers(palette, frame.at(0, 0.05, 0.85))
    del canvas


def _dog_muzzle(palette: Palette, frame: Frame, long: float) -> None:
    a, canvas, unit = palette.animal, palette.canvas, palette.unit
    light = a.coat.light_muzzle
    paint = palette.dark if a.coat.pattern == "points" else palette.light if light else palette.fur
    top = 0.28
    muzzle = spline(mirrored([(0, top - 0.1), (0.28, top), (0.43, 0.6 * long), (0.36, 0.86 * long), (0, 0.98 * long)]))
    palette.part(frame(_turned(muzzle, a.yaw, 0.3)), paint, shade=0.42, shadow=0.25, hair=0.5, soft=2)
    lip = 0.76 * long
    if a.mouth != "closed":
        drop = 0.22 if a.mouth == "open" else 0.2
        gape = spline([(-0.3, lip - 0.02), (0, lip + 0.05), (0.3, lip - 0.02), (0.2, lip + drop), (-0.2, lip + drop)])
        canvas.fill(frame(_turned(gape, a.yaw, 0.3)), _MOUTH, soft=1)
        reach = 0.2 if a.mouth == "open" else palette.rng.uniform(0.42, 0.66)
        bend = palette.rng.normal(0, 0.06)
        tongue = spline(
            [
                (-0.15, lip + 0.08),
                (0.15, lip + 0.08),
                (0.16 + bend, lip + reach),
                (bend, lip + reach + 0.08),
                (-0.16 + bend, lip + reach),
            ]
        )
        canvas.fill(frame(_turned(tongue, a.yaw, 0.31)), _TONGUE, shade=0.35, soft=0.8)
        middle = _turned([(0, lip + 0.1), (bend, lip + reach - 0.02)], a.yaw, 0.31)
        canvas.line(frame(middle), scaled(_TONGUE, 0.75), 0.03 * unit)
    dark = scaled(a.coat.light if light else a.coat.base, 0.35)
    canvas.line(frame(_turned([(0, 0.5), (0, lip)], a.yaw, 0.34)), dark, 0.035 * unit)
    for side in (-1, 1):
        jowl = spline([(0, lip), (side * 0.16, lip + 0.05), (side * 0.36, lip - 0.08)], closed=False)
        canvas.line(frame(_turned(jowl, a.yaw, 0.31)), dark, 0.045 * unit)
    nose = spline(mirrored([(0, 0.2), (0.2, 0.21), (0.28, 0.34), (0.13, 0.5), (0, 0.53)]))
    canvas.fill(frame(_turned(nose, a.yaw, 0.36)), a.nose, shade=0.4, soft=0.8)
    for side in (-1, 1):
        canvas.fill(frame(_turned(ellipse(side * 0.09, 0.38, 0.045, 0.035), a.yaw, 0.36)), scaled(a.nose, 0.4))
    canvas.fill(frame(_turned(ellipse(-0.04, 0.29, 0.07, 0.025), a.yaw, 0.36)), scaled(a.nose, 2.6), alpha=0.6, soft=1)


def _dog_eye(palette: Palette, frame: Frame, size: float) -> None:
    a, canvas = palette.animal, palette.canvas
    height = size * (1 - min(0.85, a.lids))
    canvas.fill(frame(ellipse(0, 0, 1.4 * size, 1.3 * max(height, 0.35 * size))), scaled(a.coat.base, 0.3), soft=1)
    if height < 0.35 * size:
        return
    canvas.fill(frame(ellipse(0, 0, 1.08 * size, height)), scaled((236, 230, 222), 0.9))
    canvas.fill(frame(ellipse(0, 0, 0.92 * size, height)), a.eyes, shade=0.3)
    canvas.fill(frame(ellipse(0, 0, a.slit * 0.75 * size, min(height, a.slit * 0.8 * size))), (14, 12, 12))
    canvas.fill(frame(ellipse(-0.3 * size, -0.38 * height, 0.22 * size, 0.2 * size)), (252, 252, 252))
    if a.coat.light_muzzle and palette.rng.random() < 0.4:
        palette.part(frame(ellipse(0.05, -2.1 * size, 0.9 * size, 0.5 * size)), palette.light, soft=1.5, hair=0.3, shade=0)


def _standing_dog_ear(palette: Palette, frame: Frame, side: int) -> None:
    if palette.animal.ears != "tipped":
        _upright_ear(palette, frame, side, inner_at=0.58, base=(0.24, 0.8), tip=(0.66, -1.48))
        return
    a = palette.animal
    size = a.ear_size
    paint = palette.dark if a.coat.dark_ears else palette.fur
    base = [(0.28, -0.76), (0.42, -1.05 * size - 0.1), (0.82, -1.02 * size - 0.08), (0.84, -0.42), (0.55, -0.4)]
    palette.part(frame(spline(np.array(base) * (side * a.width, 1))), paint, shade=0.35, shadow=0.2)
    flap = [(0.38, -1.06 * size - 0.08), (0.84, -1.06 * size - 0.06), (1.08 * size, -0.5), (0.98, -0.46), (0.62, -0.8)]
    palette.part(frame(spline(np.array(flap) * (side * a.width, 1))), paint, shade=0.5, shadow=0.45)


def _hanging_ear(palette: Palette, frame: Frame, side: int) -> None:
    a = palette.animal
    size = a.ear_size * (1.3 if a.ears == "hound" else 1.0)
    swing = palette.rng.normal(0, 0.05)
    far = 1 - 0.25 * max(0.0, -side * a.yaw)
    points = np.array(
        [
            (0.5, -0.8),
            (0.82, -0.78),
            (1.08 + swing, -0.2 * size),
            (1.16 + swing, 0.5 * size),
            (0.96 + swing, 0.82 * size),
            (0.76 + swing, 0.5 * size),
            (0.7, -0.1),
        ]
    )
    paint = palette.dark if a.coat.dark_ears or a.coat.pattern in ("bib", "points") else palette.fur
    outline = spline(points * (side * a.width * far, 1)) + (0.08 * a.yaw, 0)
    palette.part(frame(outline), paint, shade=0.5, shadow=0.5, hair=1.3)


def _side_cat(palette: Palette, frame: Frame) -> None:
    a, canvas = palette.animal, palette.canvas
    _side_ear(palette, frame, -0.02, behind=True)
    outline = [
        (-0.92, 0.05),
        (-0.66, -0.62),
        (-0.05, -0.9),
        (0.5, -0.7),
        (0.78, -0.3),
        (0.98, 0.06),
        (1.0, 0.28),
        (0.84, 0.52),
        (0.4, 0.78),
        (-0.4, 0.8),
    ]
    palette.part(frame(spline(outline)), shade=0.4, shadow=0.3)
    if a.coat.pattern == "points":
        palette.part(frame(ellipse(0.65, 0.15, 0.42, 0.45)), palette.dark, soft=0.12 * palette.unit)
    if a.coat.light_muzzle:
        palette.part(frame(ellipse(0.66, 0.42, 0.34, 0.24)), palette.light, shade=0, soft=0.07 * palette.unit)
    palette.part(frame(ellipse(0.76, 0.34, 0.25, 0.18)), palette.light if a.coat.light_muzzle else None, shade=0.3, hair=0.3)
    canvas.fill(frame(ellipse(0.98, 0.1, 0.09, 0.07)), a.nose, soft=0.6)
    canvas.line(frame([(0.98, 0.2), (0.88, 0.4), (0.6, 0.46)]), scaled(a.coat.base, 0.4), 0.04 * palette.unit)
    _cat_eye(palette, frame.at(0.46, -0.14, turn=-0.1), 0.19)
    _side_ear(palette, frame, -0.28, behind=False)
    if a.whiskers:
        for y in (0.3, 0.38, 0.46):
            reach = palette.rng.uniform(0.9, 1.2)
            points = spline([(0.72, y), (0.72 - 0.4 * reach, y + 0.1), (0.72 - 0.8 * reach, y + 0.35)], closed=False)
            canvas.line(frame(points), (238, 238, 234), 0.028 * a.whiskers * palette.unit)


def _side_ear(palette: Palette, frame: Frame, x: float, behind: bool) -> None:
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
        skin = mixed(_PINK, a.coat.base, 0.5)
        palette.part(frame(spline(inner)), skin, shade=0.4, hair=0.4, soft=1.2)


def _side_dog(palette: Palette, frame: Frame) -> None:
    a, canvas, unit = palette.animal, palette.canvas, palette.unit
    nose_x = 1.18 + 0.5 * a.muzzle
    standing = a.ears in ("pricked", "rounded")
    if standing:
        _side_ear(palette, frame, -0.1, behind=True)
    outline = [
        (-0.88, 0.05),
        (-0.62, -0.64),
        (-0.05, -0.86),
        (0.42, -0.68),
        (0.64, -0.3),
        (0.5 * (0.64 + nose_x), -0.2),
        (nose_x, -0.12),
        (nose_x + 0.04, 0.1),
        (nose_x - 0.1, 0.3),
        (0.75, 0.46),
        (0.3, 0.72),
        (-0.45, 0.82),
    ]
    palette.part(frame(spline(outline)), shade=0.42, shadow=0.3)
    snout = spline([(0.5, -0.1), (nose_x - 0.1, -0.14), (nose_x, 0.1), (nose_x - 0.16, 0.3), (0.6, 0.44), (0.42, 0.2)])
    if a.coat.pattern == "points":
        palette.part(frame(snout), palette.dark, shade=0.2, soft=0.06 * unit)
    elif a.coat.light_muzzle:
        palette.part(frame(snout), palette.light, shade=0.2, soft=0.06 * unit)
    dark = scaled(a.coat.base, 0.35)
    corner = 0.58
    if a.mouth != "closed":
        jaw = spline([(corner, 0.3), (nose_x - 0.2, 0.28), (nose_x - 0.3, 0.5), (corner + 0.1, 0.46)])
        canvas.fill(frame(jaw), _MOUTH, soft=1)
        reach = 0.55 if a.mouth == "open" else 0.85
        tongue = spline([(corner + 0.25, 0.34), (nose_x - 0.3, 0.32), (nose_x - 0.22, reach), (nose_x - 0.42, reach + 0.03)])
        canvas.fill(frame(tongue), _TONGUE, shade=0.3, soft=0.8)
    canvas.line(frame([(corner, 0.3), (0.5 * (corner + nose_x), 0.32), (nose_x - 0.08, 0.2)]), dark, 0.045 * unit)
    canvas.fill(frame(ellipse(nose_x - 0.02, -0.08, 0.15, 0.12)), a.nose, shade=0.3, soft=0.6)
    canvas.fill(frame(ellipse(nose_x - 0.04, -0.14, 0.05, 0.025)), scaled(a.nose, 2.6), alpha=0.6, soft=0.6)
    _dog_eye(palette, frame.at(0.36, -0.26, turn=0.1), 0.12)
    if standing:
        _side_ear(palette, frame, -0.34, behind=False)
        return
    paint = palette.dark if a.coat.dark_ears or a.coat.pattern in ("bib", "points") else palette.fur
    length = {"hound": 1.15, "floppy": 0.75, "tipped": 0.1}[a.ears] * a.ear_size
    swing = math.sin(palette.rng.normal(0, 0.3)) * 0.15
    points = [
        (-0.42, -0.72),
        (-0.02, -0.7),
        (0.12 + swing, -0.1),
        (0.04 + swing, length - 0.1),
        (-0.2 + swing, length),
        (-0.46, length - 0.35),
    ]
    palette.part(frame(spline(points)), paint, shade=0.5, shadow=0.45, hair=1.2)
