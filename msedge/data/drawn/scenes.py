"""What is behind and in front of the animal."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from msedge.data.drawn.canvas import Canvas, Color, flat, low_noise
from msedge.data.drawn.shapes import ellipse, spline
from msedge.data.opencv import cv2


def _color(rng: np.random.Generator, low: float = 40, high: float = 225, saturation: float = 0.3) -> Color:
    grey = rng.uniform(low, high)
    return tuple(float(np.clip(grey + saturation * rng.normal(0, 55), 5, 250)) for _ in range(3))


def _ramp(side: int, top: Color, bottom: Color) -> np.ndarray:
    t = np.linspace(0, 1, side, dtype=np.float32)[:, None]
    column = np.array(top, np.float32) * (1 - t) + np.array(bottom, np.float32) * t
    return np.repeat(column[:, None].astype(np.uint8), side, 1)


def _grained(pixels: np.ndarray, cells: int, amount: float, rng: np.random.Generator) -> np.ndarray:
    noise = low_noise(pixels.shape[1], cells, rng)[: pixels.shape[0]] * np.float32(amount)
    return cv2.add(pixels, cv2.merge([noise] * 3), dtype=cv2.CV_8U)


def _room(side: int, rng: np.random.Generator) -> np.ndarray:
    canvas = Canvas(_ramp(side, _color(rng, 110, 235, 0.4), _color(rng, 90, 220, 0.4)))
    for _ in range(rng.integers(0, 4)):
        x, y = rng.uniform(-0.1, 0.9, 2) * side
        w, h = rng.uniform(0.12, 0.5, 2) * side
        box = np.array([(x, y), (x + w, y), (x + w, y + h), (x, y + h)])
        canvas.fill(box, _color(rng), shade=0.2)
        if rng.random() < 0.5:
            canvas.fill(box.mean(0) + 0.8 * (box - box.mean(0)), _color(rng))
    floor = int(rng.uniform(0.5, 0.85) * side)
    color = _color(rng, 60, 190)
    canvas.pixels[floor:] = _grained(
        _ramp(side, tuple(0.8 * c for c in color), color)[floor:], int(rng.integers(8, 60)), rng.uniform(3, 18), rng
    )
    if rng.random() < 0.4:
        for x in np.arange(-1, 2, rng.uniform(0.12, 0.3)):
            ends = np.array([(0.5 + 0.4 * (x - 0.5), floor / side), (0.5 + 1.6 * (x - 0.5), 1)]) * side
            canvas.line(ends, tuple(0.6 * c for c in color), 0.006 * side)
    return canvas.pixels


def _outdoors(side: int, rng: np.random.Generator) -> np.ndarray:
    sky = (rng.uniform(130, 220), rng.uniform(170, 230), rng.uniform(200, 250))
    canvas = Canvas(_ramp(side, sky, (228, 232, 236)))
    horizon = rng.uniform(0.15, 0.65)
    for _ in range(rng.integers(0, 7)):
        green = (rng.uniform(30, 110), rng.uniform(70, 140), rng.uniform(25, 80))
        x, r = rng.uniform(0, 1) * side, rng.uniform(0.08, 0.3) * side
        bush = ellipse(x, horizon * side, r, r * rng.uniform(0.5, 1.3), n=14)
        canvas.fill(spline(bush + rng.normal(0, 0.12 * r, bush.shape)), green, shade=0.5)
    grass = rng.random() < 0.65
    ground = (rng.uniform(70, 130), rng.uniform(110, 165), rng.uniform(40, 90)) if grass else _color(rng, 110, 200, 0.35)
    top = int(horizon * side)
    canvas.pixels[top:] = _grained(_ramp(side, tuple(0.75 * c for c in ground), ground)[top:], 40, 16, rng)
    return canvas.pixels


def _bokeh(side: int, rng: np.random.Generator) -> np.ndarray:
    canvas = Canvas(_grained(_ramp(side, _color(rng), _color(rng)), 4, 22, rng))
    for _ in range(rng.integers(0, 14)):
        x, y = rng.uniform(0, side, 2)
        canvas.fill(ellipse(x, y, *([rng.uniform(0.02, 0.14) * side] * 2)), _color(rng, 90, 250), alpha=0.55, soft=2)
    return canvas.pixels


def _fabric(side: int, rng: np.random.Generator) -> np.ndarray:
    ys, xs = np.mgrid[0:side, 0:side].astype(np.float32)
    turn, period = rng.uniform(0, math.pi), rng.uniform(0.05, 0.25) * side
    fold = low_noise(side, 4, rng) * np.float32(0.08 * side)
    wave = np.sin((xs * math.cos(turn) + ys * math.sin(turn) + fold) * np.float32(2 * math.pi / period))
    if rng.random() < 0.4:
        wave *= np.sin((xs * math.sin(turn) - ys * math.cos(turn) + fold) * np.float32(2 * math.pi / period))
    a, b = np.array(_color(rng), np.float32), np.array(_color(rng), np.float32)
    weight = np.clip(wave * 3 + 0.5, 0, 1)[..., None]
    light = 1 + np.float32(0.15) * low_noise(side, 5, rng)[..., None]
    return np.clip((a + weight * (b - a)) * light, 0, 255).astype(np.uint8)


_PLACES: tuple[tuple[Callable[[int, np.random.Generator], np.ndarray], float], ...] = (
    (_room, 0.4),
    (_outdoors, 0.32),
    (_bokeh, 0.24),
    (_fabric, 0.04),
)


def background(side: int, rng: np.random.Generator) -> Canvas:
    """A room, a meadow, a blur of lights or a blanket, with things lying about, more or less out of focus."""
    places, shares = zip(*_PLACES, strict=True)
    canvas = Canvas(np.ascontiguousarray(places[rng.choice(len(places), p=shares)](side, rng)))
    for _ in range(rng.integers(0, 4)):
        _thing(canvas, rng)
    blur = int(rng.choice([0, 1, 2, 4, 7]) * side / 320)
    if blur:
        canvas.pixels[:] = cv2.GaussianBlur(canvas.pixels, (2 * blur + 1, 2 * blur + 1), 0)
    return canvas


def _thing(canvas: Canvas, rng: np.random.Generator) -> None:
    """A ball, a box or a cloth: clutter that says nothing about the kind."""
    x, y = rng.uniform(0.0, 1.0, 2) * canvas.side
    r = rng.uniform(0.03, 0.14) * canvas.side
    form = rng.integers(3)
    if form == 0:
        outline = ellipse(x, y, r, r)
    elif form == 1:
        outline = ellipse(x, y, r * 1.3, r, turn=rng.uniform(0, 3), n=4)
    else:
        outline = spline(ellipse(x, y, r * 1.5, r, n=8) + rng.normal(0, 0.3 * r, (8, 2)))
    canvas.fill(outline, _color(rng, saturation=0.8), shade=0.4, shadow=0.3)


def occlude(canvas: Canvas, rng: np.random.Generator) -> None:
    """Put something before the animal: grass, bars, a blanket, a cushion, a leaf."""
    side = canvas.side
    (_grass, _bars, _blanket, _cushion, _leaves)[rng.integers(5)](canvas, side, rng)


def _grass(canvas: Canvas, side: int, rng: np.random.Generator) -> None:
    height = rng.uniform(0.12, 0.42) * side
    green = np.array((rng.uniform(50, 120), rng.uniform(100, 170), rng.uniform(30, 80)))
    for _ in range(rng.integers(25, 60)):
        x, h = rng.uniform(-0.05, 1.05) * side, height * rng.uniform(0.4, 1.1)
        lean, width = rng.normal(0, 0.06) * side, rng.uniform(0.006, 0.014) * side
        blade = np.array([(x - width, side + 2), (x + 0.4 * lean, side - 0.6 * h), (x + lean, side - h), (x + width, side + 2)])
        canvas.fill(blade, tuple(green * rng.uniform(0.6, 1.25)))


def _bars(canvas: Canvas, side: int, rng: np.random.Generator) -> None:
    width, gap = rng.uniform(0.015, 0.045) * side, rng.uniform(0.16, 0.32) * side
    color, lean = _color(rng), rng.normal(0, 0.08) * side
    for x in np.arange(rng.uniform(0, gap), side + gap, gap):
        canvas.fill(
            np.array([(x - width, -2), (x + width, -2), (x + width + lean, side + 2), (x - width + lean, side + 2)]),
            color,
            shade=0.3,
        )


def _blanket(canvas: Canvas, side: int, rng: np.random.Generator) -> None:
    turn = int(rng.integers(4))
    depth = rng.uniform(0.12, 0.36) * side
    xs = np.linspace(-0.1, 1.1, 7) * side
    edge = np.stack([xs, side - depth + rng.normal(0, 0.035 * side, 7)], -1)
    outline = np.concatenate([spline(edge, closed=False), [(1.1 * side, 1.1 * side), (-0.1 * side, 1.1 * side)]])
    if turn < 2:  # mostly from below; else from a side
        c = (side - 1) / 2
        turned = (outline - c)[:, ::-1] * ((1, -1) if turn else (-1, 1)) + c
        outline = turned
    canvas.fill(outline, _grained(flat(_color(rng), side, side), 10, 14, rng), shade=0.25, shadow=0.15)


def _cushion(canvas: Canvas, side: int, rng: np.random.Generator) -> None:
    x, y = rng.uniform(0.1, 0.9) * side, rng.uniform(0.55, 1.0) * side
    r = rng.uniform(0.12, 0.24) * side
    canvas.fill(spline(ellipse(x, y, r, r * 0.8, n=8) + rng.normal(0, 0.07 * r, (8, 2))), _color(rng), shade=0.45, shadow=0.3)


def _leaves(canvas: Canvas, side: int, rng: np.random.Generator) -> None:
    x, y = rng.choice([0.0, 1.0]) * side, rng.uniform(0, 1) * side
    green = np.array((rng.uniform(40, 100), rng.uniform(90, 150), rng.uniform(35, 80)))
    for _ in range(rng.integers(4, 11)):
        turn, reach = rng.uniform(0, 2 * math.pi), rng.uniform(0.1, 0.38) * side
        tip = np.array((x, y)) + reach * np.array((math.cos(turn), math.sin(turn)))
        middle = (tip + (x, y)) / 2
        canvas.fill(ellipse(*middle, reach / 2, reach * 0.14, turn=turn), tuple(green * rng.uniform(0.6, 1.3)), shade=0.3)
