"""Coats: colours and patterns that cats and dogs share, and the texture made of them."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from msedge.data.drawn.canvas import Color, low_noise
from msedge.data.opencv import cv2

COLORS: dict[str, Color] = {
    "black": (44, 41, 40),
    "charcoal": (74, 71, 70),
    "grey": (128, 125, 122),
    "blue": (112, 120, 132),
    "white": (234, 231, 225),
    "cream": (226, 206, 172),
    "golden": (206, 162, 98),
    "orange": (208, 130, 62),
    "rust": (156, 90, 50),
    "brown": (112, 78, 53),
    "chocolate": (76, 54, 42),
    "tan": (186, 148, 104),
    "silver": (176, 174, 170),
}
# what: (weight for cats, weight for dogs)
_PATTERNS = {
    "solid": (0.22, 0.26),
    "stripes": (0.5, 0.02),
    "spots": (0.03, 0.14),
    "patches": (0.1, 0.21),
    "points": (0.09, 0.06),
    "bib": (0.06, 0.3),
}
_BASES = {
    "black": (1.0, 0.8),
    "charcoal": (1.2, 0.6),
    "grey": (2.0, 0.3),
    "blue": (1.6, 0.2),
    "white": (0.8, 1.2),
    "cream": (0.8, 1.3),
    "golden": (0.3, 2.4),
    "orange": (1.8, 0.6),
    "rust": (0.4, 1.8),
    "brown": (0.7, 1.6),
    "chocolate": (0.5, 1.3),
    "tan": (0.3, 1.8),
    "silver": (1.6, 0.25),
}


def _weighted(table: dict[str, tuple[float, float]], kind: str, rng: np.random.Generator) -> str:
    weights = np.array([w[kind == "dog"] for w in table.values()])
    return list(table)[rng.choice(len(weights), p=weights / weights.sum())]


@dataclass(frozen=True)
class Coat:
    pattern: str
    base: Color
    second: Color  # stripes, spots, patches, points
    light: Color  # muzzle, chest, paws
    dark_ears: bool
    light_muzzle: bool
    length: float  # of the hair, 0..1


def sample_coat(kind: str, rng: np.random.Generator) -> Coat:
    """A coat of a cat or a dog. Any colour and pattern can be either's, at different frequencies."""
    pattern, base = _weighted(_PATTERNS, kind, rng), _weighted(_BASES, kind, rng)
    if pattern in ("points", "spots") and rng.random() < 0.85:
        base = str(rng.choice(["cream", "white", "silver", "golden"]))
    if pattern == "bib" and rng.random() < 0.8:
        base = str(rng.choice(["black", "charcoal", "brown", "grey", "rust", "blue"]))
    dark = sum(COLORS[base]) < 330
    lighter, darker = ("tan", "silver", "golden", "rust"), ("black", "chocolate", "brown", "charcoal", "rust")
    second = str(rng.choice(lighter if dark and rng.random() < 0.5 else darker[:4] if pattern == "points" else darker))
    if pattern == "stripes":
        factor = rng.uniform(0.4, 0.65) if sum(COLORS[base]) > 200 else 1.6
        second_color = tuple(min(255.0, c * factor) for c in COLORS[base])
    else:
        second_color = COLORS[second]
    white = np.array(COLORS["white"])
    blend = rng.uniform(0.45, 1.0)
    light = tuple(blend * white + (1 - blend) * np.array(COLORS[base]))
    return Coat(
        pattern,
        _jittered(COLORS[base], rng),
        _jittered(second_color, rng),
        _jittered(light, rng),
        dark_ears=pattern == "points" or rng.random() < (0.2 if kind == "cat" else 0.5),
        light_muzzle=pattern == "bib" or rng.random() < 0.5,
        length=float(rng.beta(1.5, 2.0)),
    )


def _jittered(color, rng: np.random.Generator) -> Color:
    factor = rng.uniform(0.88, 1.12) * rng.uniform(0.95, 1.05, 3)
    return tuple(float(np.clip(c * f, 12, 250)) for c, f in zip(color, factor, strict=True))


def mixed(a: Color, b: Color, share: float) -> Color:
    return tuple((1 - share) * x + share * y for x, y in zip(a, b, strict=True))


def scaled(color: Color, factor: float) -> Color:
    return tuple(min(255.0, c * factor) for c in color)


def coat_texture(side: int, coat: Coat, unit: float, rng: np.random.Generator) -> np.ndarray:
    """uint8 [side, side, 3]: the coat's pattern with hairs; `unit` is the animal's head radius in pixels."""
    half = side // 2
    weight = _pattern(half, coat.pattern, unit / 2, rng)
    base, second = np.array(coat.base, np.float32), np.array(coat.second, np.float32)
    light = 1 + np.float32(0.07) * low_noise(half, 6, rng)
    colors = (base + weight[..., None] * (second - base)) * light[..., None]
    texture = cv2.resize(np.clip(colors, 0, 255).astype(np.uint8), (side, side), interpolation=cv2.INTER_LINEAR)
    return hairs(texture, coat.length, rng)


def hairs(texture: np.ndarray, length: float, rng: np.random.Generator) -> np.ndarray:
    """Streaks along y, longer for longer hair."""
    side = texture.shape[0]
    rows = max(8, int(side / (3 + 9 * length)))
    streaks = rng.standard_normal((rows, side * 2 // 3), dtype=np.float32)
    streaks = cv2.resize(streaks, (side, side), interpolation=cv2.INTER_LINEAR) * np.float32(9 + 6 * length)
    streaks += low_noise(side, 12, rng) * np.float32(4)
    return cv2.add(texture, cv2.merge([streaks] * 3), dtype=cv2.CV_8U)


def _pattern(side: int, pattern: str, unit: float, rng: np.random.Generator) -> np.ndarray:
    """Weight of the second colour, float32 [side, side] in 0..1."""
    if pattern == "stripes":
        turn = rng.normal(0, 0.35)
        ys, xs = np.mgrid[0:side, 0:side].astype(np.float32)
        across = xs * math.cos(turn) + ys * math.sin(turn) + low_noise(side, 5, rng) * np.float32(0.3 * unit)
        waves = np.sin(across * np.float32(2 * math.pi / (rng.uniform(0.28, 0.5) * unit)))
        return np.clip((waves + 0.1 + 0.4 * low_noise(side, 7, rng)) * np.float32(1.6), 0, 1) * np.float32(0.85)
    if pattern == "spots":
        cells = int(np.clip(side / (0.3 * unit), 6, 40))
        return np.clip((low_noise(side, cells, rng) - 0.55) * np.float32(5), 0, 1)
    if pattern == "patches":
        cells = int(np.clip(side / (1.4 * unit), 2, 6))
        return np.clip((low_noise(side, cells, rng) - np.float32(rng.uniform(-0.1, 0.3))) * np.float32(7), 0, 1)
    return np.zeros((side, side), np.float32)
