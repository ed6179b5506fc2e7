"""Whole animals in five poses. One unit is half of the head's width; (0, 0) is about the middle of the pose."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from msedge.data.drawn.animal import Palette
from msedge.data.drawn.cat_head import front_cat, side_cat
from msedge.data.drawn.dog_head import front_dog, side_dog
from msedge.data.drawn.shapes import Frame, ellipse, limb, mirrored, spline


def front_head(palette: Palette, frame: Frame) -> None:
    """A head that looks at the viewer."""
    (front_cat if palette.animal.kind == "cat" else front_dog)(palette, frame)


def side_head(palette: Palette, frame: Frame) -> None:
    """A head in profile, looking to +x."""
    (side_cat if palette.animal.kind == "cat" else side_dog)(palette, frame)


def portrait(palette: Palette, frame: Frame) -> None:
    """Head, neck and shoulders from the front."""
    a = palette.animal
    wide = (1.25 if a.kind == "cat" else 1.4) * a.bulk
    chest = [(0, 0.1), (0.62, 0.2), (0.8, 0.8), (wide, 1.3), (wide * 1.15, 2.2), (wide * 1.2, 3.4), (0, 3.4)]
    palette.part(frame(spline(mirrored(chest))), shade=0.3)
    if a.coat.pattern == "bib":
        bib = spline(mirrored([(0, 0.5), (0.4, 0.9), (0.55, 1.6), (0.45, 2.6), (0, 3.2)]))
        palette.part(frame(bib), palette.light, shade=0.1, soft=0.06 * palette.unit)
    front_head(palette, frame)


def _leg(palette: Palette, frame: Frame, points, widths, far: bool = False, paw: float = 1.0) -> None:
    coat = palette.animal.coat
    paint = palette.dark if coat.pattern == "points" else None
    palette.part(frame(limb(points, widths)), paint, shade=0.62 if far else 0.42, hair=0.6)
    x, y = points[-1]
    toe = ellipse(x + 0.1 * paw, y + 0.02, 0.27 * paw, 0.15)
    palette.part(frame(toe), palette.light if coat.pattern == "bib" else paint, shade=0.6 if far else 0.4, hair=0.4)


def _tail(palette: Palette, frame: Frame, points) -> None:
    """A tail along `points`, in the animal's own way: thin, bushy, curled up over the back, or a stub."""
    a = palette.animal
    points = np.array(points, np.float64)
    widths = {"thin": [0.17, 0.14, 0.12, 0.09], "bushy": [0.17, 0.34, 0.32, 0.1]}.get(a.tail, [0.2, 0.22, 0.16])
    if a.kind == "dog" and a.tail == "thin":
        points, widths = points[0] + (points - points[0]) * 0.75, [0.18, 0.12, 0.05]
    if a.tail == "stub":
        points = points[0] + (points - points[0]) * 0.25
    if a.tail == "curled":
        start = points[0]
        side = np.sign(points[-1, 0] - start[0]) or 1
        points = start + np.array(
            [(0, 0), (0.35 * side, -0.5), (0.2 * side, -0.95), (-0.25 * side, -0.9), (-0.3 * side, -0.55)]
        )
    paint = palette.dark if a.coat.pattern == "points" else None
    palette.part(frame(limb(points, widths)), paint, shade=0.45, hair=1.6 if a.tail == "bushy" else 0.8)


def sitting_front(palette: Palette, frame: Frame) -> None:
    """Sitting, seen from the front: haunches at the sides, two straight legs in the middle."""
    a = palette.animal
    b = a.bulk
    side = 1 if palette.rng.random() < 0.5 else -1
    if a.kind == "cat":
        _tail(palette, frame, [(side * 0.9 * b, 1.9), (side * 1.7, 1.95), (side * 1.95, 1.5), (side * 1.7, 1.15)])
    else:
        _tail(palette, frame, [(side * 0.9 * b, 1.8), (side * 1.6, 1.6), (side * 2.0, 1.0)])
    for s in (-1, 1):
        palette.part(frame(ellipse(s * 0.78 * b, 1.5, 0.55 * b, 0.72, turn=-s * 0.3)), shade=0.5)
        palette.part(frame(ellipse(s * 0.85 * b, 2.12, 0.4, 0.17)), shade=0.45, hair=0.5)
    torso = [(0, -1.0), (0.5, -0.8), (0.78 * b, 0.1), (0.85 * b, 1.1), (0.7 * b, 1.8), (0, 1.95)]
    palette.part(frame(spline(mirrored(torso))), shade=0.45, shadow=0.3)
    if a.coat.pattern == "bib" or a.coat.light_muzzle:
        bib = spline(mirrored([(0, -0.6), (0.32, -0.2), (0.4, 0.4), (0.2, 1.0), (0, 1.1)]))
        palette.part(frame(bib), palette.light, shade=0.1, soft=0.08 * palette.unit)
    for s in (-1, 1):
        _leg(palette, frame, [(s * 0.36, 0.6), (s * 0.34, 1.4), (s * 0.33, 2.1)], [0.27 * b, 0.2, 0.2], paw=0.8)
    head = frame.at(palette.rng.normal(0, 0.08), -1.55, 0.92 if a.kind == "cat" else 0.95, palette.rng.normal(0, 0.12))
    front_head(palette, head)


def sitting_side(palette: Palette, frame: Frame) -> None:
    """Sitting, seen from the side, the face turned to the viewer or ahead."""
    a = palette.animal
    b = a.bulk
    if a.kind == "cat":
        _tail(palette, frame, [(-1.2, 1.85), (-1.9, 2.05), (-2.3, 1.7), (-2.2, 1.25)])
    else:
        _tail(palette, frame, [(-1.15, 1.7), (-1.8, 1.7), (-2.3, 1.25)])
    _leg(palette, frame, [(0.72, 0.3), (0.8, 1.3), (0.82, 2.05)], [0.3, 0.2, 0.17], far=True)
    back = [
        (0.2, -1.1),
        (-0.5, -0.6),
        (-1.1 * b, 0.5),
        (-1.3 * b, 1.4),
        (-1.0, 2.0),
        (0.1, 2.05),
        (0.75, 1.0),
        (0.85, 0.0),
        (0.7, -0.8),
    ]
    palette.part(frame(spline(back)), shade=0.45)
    if a.coat.pattern == "bib":
        palette.part(frame(ellipse(0.68, 0.0, 0.26, 0.7, turn=0.1)), palette.light, shade=0.1, soft=0.08 * palette.unit)
    palette.part(frame(ellipse(-0.55, 1.45, 0.72 * b, 0.62, turn=-0.3)), shade=0.45, shadow=0.2)
    _leg(palette, frame, [(-0.4, 1.98), (-0.1, 2.05), (0.05, 2.08)], [0.18, 0.15, 0.14])
    _leg(palette, frame, [(0.45, 0.4), (0.48, 1.3), (0.5, 2.1)], [0.36 * b, 0.22, 0.19])
    if palette.rng.random() < 0.6:
        front_head(palette, frame.at(0.5, -1.6, 0.9, palette.rng.normal(0, 0.15)))
    else:
        side_head(palette, frame.at(0.5, -1.6, 0.9, palette.rng.normal(0, 0.15)))


def standing(palette: Palette, frame: Frame) -> None:
    """Standing or walking, seen from the side."""
    a, rng = palette.animal, palette.rng
    b, legs = a.bulk, 1.7 * a.legs
    step = rng.uniform(-0.4, 0.4)
    if a.kind == "cat":
        up = rng.random() < 0.6
        _tail(
            palette,
            frame,
            [(-1.75, -0.35), (-2.3, -0.9), (-2.4, -1.7), (-2.1, -2.3)]
            if up
            else [(-1.75, -0.3), (-2.4, 0.1), (-2.8, 0.7), (-3.2, 0.6)],
        )
    else:
        _tail(palette, frame, [(-1.75, -0.35), (-2.3, -0.9), (-2.6, -1.6)])
    for x, s in ((-1.3, -step), (1.15, step)):
        knee = (x + (0.15 if x > 0 else -0.12) + 0.5 * s, 0.55 * legs)
        _leg(palette, frame, [(x, 0.1), knee, (x + s - 0.05, legs)], [0.36, 0.2, 0.15], far=True)
    dip = 0.08 if a.kind == "cat" else -0.04
    body = [
        (-1.85, -0.2),
        (-1.5, -0.68 * b),
        (-0.5, -0.62 * b + dip),
        (0.6, -0.66 * b),
        (1.4, -0.6),
        (1.65, 0.0),
        (1.2, 0.58 * b),
        (0.0, 0.6 * b),
        (-1.0, 0.45 * b),
        (-1.7, 0.3),
    ]
    palette.part(frame(spline(body)), shade=0.5)
    if a.coat.light_muzzle or a.coat.pattern == "bib":
        palette.part(frame(ellipse(1.2, 0.25, 0.5, 0.4)), palette.light, shade=0.2, soft=0.12 * palette.unit)
    for x, s in ((-1.4, step), (1.0, -step)):
        knee = (x + (0.12 if x > 0 else -0.18) + 0.5 * s, 0.55 * legs)
        _leg(palette, frame, [(x, 0.0), knee, (x + s, legs + 0.05)], [0.44 * b, 0.24, 0.17])
    rise = -0.85 if a.kind == "cat" else -1.15
    palette.part(frame(limb([(1.15, -0.1), (1.55, -0.5), (1.85, rise)], [0.6 * b, 0.52, 0.5])), shade=0.35)
    head = frame.at(2.1, rise - 0.25, 0.82 if a.kind == "cat" else 0.86, rng.normal(0, 0.15))
    (front_head if rng.random() < 0.4 else side_head)(palette, head)


def lying(palette: Palette, frame: Frame) -> None:
    """Lying with the paws in front, the face to the viewer."""
    a, rng = palette.animal, palette.rng
    b = a.bulk
    if a.kind == "cat":
        _tail(palette, frame, [(-2.0, 0.9), (-2.6, 1.05), (-2.4, 1.35), (-1.4, 1.3)])
    else:
        _tail(palette, frame, [(-2.0, 0.7), (-2.7, 0.8), (-3.2, 0.4)])
    body = [(-2.1, 0.8), (-1.9, -0.1 * b), (-1.0, -0.55 * b), (0.3, -0.4 * b), (1.2, 0.0), (1.4, 0.9), (0.4, 1.2), (-1.2, 1.2)]
    palette.part(frame(spline(body)), shade=0.48)
    palette.part(frame(ellipse(-1.25, 0.65, 0.75 * b, 0.58, turn=-0.2)), shade=0.45, shadow=0.2)
    for y, reach, far in ((0.95, 2.35, True), (1.1, 2.2, False)):
        _leg(palette, frame, [(0.7, y - 0.15), (1.5, y), (reach, y + 0.03)], [0.32, 0.22, 0.19], far=far)
    if a.coat.pattern == "bib":
        palette.part(frame(ellipse(1.0, 0.4, 0.4, 0.6)), palette.light, shade=0.1, soft=0.1 * palette.unit)
    front_head(palette, frame.at(0.95, -0.55, 0.95, rng.normal(0, 0.18)))


# name: (pose, share, (left, top, right, bottom) in units that a picture of it should hold)
POSES: dict[str, tuple[Callable[[Palette, Frame], None], float, tuple[float, float, float, float]]] = {
    "portrait": (portrait, 0.62, (-1.4, -1.7, 1.4, 1.4)),
    "sitting_front": (sitting_front, 0.16, (-2.0, -3.1, 2.0, 2.4)),
    "sitting_side": (sitting_side, 0.07, (-2.2, -3.0, 1.7, 2.4)),
    "standing": (standing, 0.06, (-2.8, -2.8, 3.3, 2.1)),
    "lying": (lying, 0.09, (-2.6, -2.1, 2.6, 1.5)),
}
