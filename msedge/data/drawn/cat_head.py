"""A cat's head from the front and in profile (looking to +x). One unit is half of its width."""

from __future__ import annotations

from msedge.data.drawn.animal import Palette
from msedge.data.drawn.fur import scaled
from msedge.data.drawn.head_parts import MOUTH, TONGUE, draw_whiskers, side_ear, turned, upright_ear
from msedge.data.drawn.shapes import Frame, ellipse, mirrored, spline

_CAT_HALF = [(0, -0.8), (0.42, -0.84), (0.8, -0.58), (1.0, -0.08), (0.92, 0.38), (0.62, 0.72), (0.26, 0.9), (0, 0.93)]


def front_cat(palette: Palette, frame: Frame) -> None:
    """A head that looks at the viewer, turned aside by the animal's yaw."""
    a, coat = palette.animal, palette.animal.coat
    wide = (a.width, 1.0)
    for side in (-1, 1):
        upright_ear(palette, frame, side, inner_at=0.62, base=(0.2, 0.98), tip=(0.86, -1.6))
    outline = spline(mirrored(_CAT_HALF) * wide)
    palette.part(frame(outline), shade=0.38, shadow=0.35)
    if coat.pattern == "points":
        palette.part(frame(turned(ellipse(0, 0.25, 0.6, 0.55), a.yaw, 0.2)), palette.dark, soft=0.16 * palette.unit)
    if coat.pattern == "stripes":
        _forehead_stripes(palette, frame)
    if coat.light_muzzle:
        muzzle = turned(ellipse(0, 0.56, 0.5, 0.36), a.yaw, 0.22)
        palette.part(frame(muzzle), palette.light, shade=0, soft=0.1 * palette.unit)
    for side in (-1, 1):
        eye = turned([(side * 0.44 * a.width, -0.04)], a.yaw, 0.16)[0]
        _cat_eye(palette, frame.at(*eye, turn=side * -0.18), 0.265 * (1 - 0.25 * max(0, -side * a.yaw)))
    paint = palette.light if coat.light_muzzle else palette.fur
    for side in (-1, 1):
        palette.part(frame(turned(ellipse(side * 0.19, 0.53, 0.25, 0.19), a.yaw, 0.27)), paint, shade=0.3, hair=0.3, soft=1.5)
    palette.part(frame(turned(ellipse(0, 0.74, 0.2, 0.13), a.yaw, 0.25)), paint, shade=0.35, hair=0.3, soft=1.5)
    _cat_mouth(palette, frame)
    if a.whiskers:
        draw_whiskers(palette, frame)


def _forehead_stripes(palette: Palette, frame: Frame) -> None:
    """The tabby's M and the lines that run back from the eyes."""
    a = palette.animal
    for x, top, bottom in ((-0.3, -0.82, -0.4), (-0.1, -0.84, -0.3), (0.1, -0.84, -0.3), (0.3, -0.82, -0.4)):
        points = turned([(x * 1.1, top), (x, (top + bottom) / 2), (x * 0.75, bottom)], a.yaw, 0.12)
        palette.canvas.line(frame(points), a.coat.second, 0.075 * palette.unit)
    for side in (-1, 1):
        for y in (0.12, 0.34):
            points = turned([(side * 0.66, y), (side * 0.84, y + 0.02), (side * 0.97 * a.width, y + 0.08)], a.yaw, 0.05)
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
        canvas.line(frame(turned(curve, a.yaw, 0.28)), dark, width)
    if a.mouth != "closed":
        gape = ellipse(0, 0.72, 0.13, 0.12 if a.mouth == "open" else 0.08)
        canvas.fill(frame(turned(gape, a.yaw, 0.26)), MOUTH, soft=1)
        tongue = ellipse(0, 0.76, 0.08, 0.07 if a.mouth == "open" else 0.11)
        canvas.fill(frame(turned(tongue, a.yaw, 0.26)), TONGUE, soft=1)
    canvas.fill(frame(turned(nose, a.yaw, 0.3)), a.nose, shade=0.35, soft=0.6)


def side_cat(palette: Palette, frame: Frame) -> None:
    """A head in profile."""
    a, canvas = palette.animal, palette.canvas
    side_ear(palette, frame, -0.02, behind=True)
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
    side_ear(palette, frame, -0.28, behind=False)
    if a.whiskers:
        for y in (0.3, 0.38, 0.46):
            reach = palette.rng.uniform(0.9, 1.2)
            points = spline([(0.72, y), (0.72 - 0.4 * reach, y + 0.1), (0.72 - 0.8 * reach, y + 0.35)], closed=False)
            canvas.line(frame(points), (238, 238, 234), 0.028 * a.whiskers * palette.unit)
