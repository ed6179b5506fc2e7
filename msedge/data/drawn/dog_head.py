"""A dog's head from the front and in profile (looking to +x). One unit is half of its width."""

from __future__ import annotations

import math

import numpy as np

from msedge.data.drawn.animal import Palette
from msedge.data.drawn.fur import scaled
from msedge.data.drawn.head_parts import MOUTH, TONGUE, draw_whiskers, side_ear, turned, upright_ear
from msedge.data.drawn.shapes import Frame, ellipse, mirrored, spline

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


def front_dog(palette: Palette, frame: Frame) -> None:
    """A head that looks at the viewer, turned aside by the animal's yaw."""
    a, coat = palette.animal, palette.animal.coat
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
        palette.part(frame(turned(blaze_outline, a.yaw, 0.2)), palette.light, shade=0, soft=0.06 * palette.unit)
    if coat.pattern == "points":
        palette.part(frame(turned(ellipse(0, 0.6, 0.5, 0.5), a.yaw, 0.22)), palette.dark, soft=0.12 * palette.unit)
    for side in (-1, 1):
        x, y = turned([(side * 0.38 * a.width, -0.14)], a.yaw, 0.16)[0]
        _dog_eye(palette, frame.at(x, y, turn=side * 0.12), 0.125)
    _dog_muzzle(palette, frame, long)
    for side in (-1, 1):
        if hanging:
            _hanging_ear(palette, frame, side)
    if a.whiskers:
        draw_whiskers(palette, frame.at(0, 0.05, 0.85))


def _dog_muzzle(palette: Palette, frame: Frame, long: float) -> None:
    a, canvas, unit = palette.animal, palette.canvas, palette.unit
    light = a.coat.light_muzzle
    paint = palette.dark if a.coat.pattern == "points" else palette.light if light else palette.fur
    top = 0.28
    muzzle = spline(mirrored([(0, top - 0.1), (0.28, top), (0.43, 0.6 * long), (0.36, 0.86 * long), (0, 0.98 * long)]))
    palette.part(frame(turned(muzzle, a.yaw, 0.3)), paint, shade=0.42, shadow=0.25, hair=0.5, soft=2)
    lip = 0.76 * long
    if a.mouth != "closed":
        drop = 0.22 if a.mouth == "open" else 0.2
        gape = spline([(-0.3, lip - 0.02), (0, lip + 0.05), (0.3, lip - 0.02), (0.2, lip + drop), (-0.2, lip + drop)])
        canvas.fill(frame(turned(gape, a.yaw, 0.3)), MOUTH, soft=1)
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
        canvas.fill(frame(turned(tongue, a.yaw, 0.31)), TONGUE, shade=0.35, soft=0.8)
        middle = turned([(0, lip + 0.1), (bend, lip + reach - 0.02)], a.yaw, 0.31)
        canvas.line(frame(middle), scaled(TONGUE, 0.75), 0.03 * unit)
    dark = scaled(a.coat.light if light else a.coat.base, 0.35)
    canvas.line(frame(turned([(0, 0.5), (0, lip)], a.yaw, 0.34)), dark, 0.035 * unit)
    for side in (-1, 1):
        jowl = spline([(0, lip), (side * 0.16, lip + 0.05), (side * 0.36, lip - 0.08)], closed=False)
        canvas.line(frame(turned(jowl, a.yaw, 0.31)), dark, 0.045 * unit)
    nose = spline(mirrored([(0, 0.2), (0.2, 0.21), (0.28, 0.34), (0.13, 0.5), (0, 0.53)]))
    canvas.fill(frame(turned(nose, a.yaw, 0.36)), a.nose, shade=0.4, soft=0.8)
    for side in (-1, 1):
        canvas.fill(frame(turned(ellipse(side * 0.09, 0.38, 0.045, 0.035), a.yaw, 0.36)), scaled(a.nose, 0.4))
    canvas.fill(frame(turned(ellipse(-0.04, 0.29, 0.07, 0.025), a.yaw, 0.36)), scaled(a.nose, 2.6), alpha=0.6, soft=1)


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
        upright_ear(palette, frame, side, inner_at=0.58, base=(0.24, 0.8), tip=(0.66, -1.48))
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


def side_dog(palette: Palette, frame: Frame) -> None:
    """A head in profile."""
    a, canvas, unit = palette.animal, palette.canvas, palette.unit
    nose_x = 1.18 + 0.5 * a.muzzle
    standing = a.ears in ("pricked", "rounded")
    if standing:
        side_ear(palette, frame, -0.1, behind=True)
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
        canvas.fill(frame(jaw), MOUTH, soft=1)
        reach = 0.55 if a.mouth == "open" else 0.85
        tongue = spline([(corner + 0.25, 0.34), (nose_x - 0.3, 0.32), (nose_x - 0.22, reach), (nose_x - 0.42, reach + 0.03)])
        canvas.fill(frame(tongue), TONGUE, shade=0.3, soft=0.8)
    canvas.line(frame([(corner, 0.3), (0.5 * (corner + nose_x), 0.32), (nose_x - 0.08, 0.2)]), dark, 0.045 * unit)
    canvas.fill(frame(ellipse(nose_x - 0.02, -0.08, 0.15, 0.12)), a.nose, shade=0.3, soft=0.6)
    canvas.fill(frame(ellipse(nose_x - 0.04, -0.14, 0.05, 0.025)), scaled(a.nose, 2.6), alpha=0.6, soft=0.6)
    _dog_eye(palette, frame.at(0.36, -0.26, turn=0.1), 0.12)
    if standing:
        side_ear(palette, frame, -0.34, behind=False)
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
