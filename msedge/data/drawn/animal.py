"""What one animal looks like, drawn at random: the traits of the two kinds overlap on purpose."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from msedge.data.drawn.canvas import Canvas, Color, flat
from msedge.data.drawn.fur import Coat, coat_texture, hairs, sample_coat, scaled
from msedge.data.drawn.shapes import furry

_EARS = {
    "cat": {"pricked": 0.9, "rounded": 0.06, "folded": 0.04},
    "dog": {"floppy": 0.5, "tipped": 0.12, "pricked": 0.1, "hound": 0.25, "rounded": 0.03},
}
_CAT_EYES: tuple[Color, ...] = ((152, 176, 72), (190, 160, 60), (196, 128, 48), (96, 150, 190), (120, 150, 110))
_DOG_EYES: tuple[Color, ...] = ((70, 44, 26), (52, 34, 24), (96, 62, 32), (130, 92, 50), (120, 160, 190))


@dataclass(frozen=True)
class Animal:
    kind: str  # cat, dog
    coat: Coat
    ears: str
    ear_size: float
    width: float  # of the head
    muzzle: float  # 0 flat .. 1 long
    nose: Color
    eyes: Color
    slit: float  # width of the pupil, share of the iris
    lids: float  # 0 open .. 1 closed
    whiskers: float  # how visible
    mouth: str  # closed, open, tongue
    yaw: float  # -1..1, where the face looks
    tail: str  # thin, bushy, curled, stub
    bulk: float
    legs: float  # length


def sample_animal(kind: str, rng: np.random.Generator) -> Animal:
    """An animal of `kind` ('cat' or 'dog')."""
    cat = kind == "cat"
    ears, shares = zip(*_EARS[kind].items(), strict=True)
    eyes = _CAT_EYES if cat else _DOG_EYES
    eye_weights = [0.3, 0.25, 0.2, 0.15, 0.1] if cat else [0.34, 0.26, 0.2, 0.12, 0.08]
    dark_nose = rng.random() < (0.3 if cat else 0.97)
    mouths = [0.93, 0.05, 0.02] if cat else [0.32, 0.13, 0.55]
    tails = ["thin", "bushy", "curled", "stub"]
    return Animal(
        kind=kind,
        coat=sample_coat(kind, rng),
        ears=str(rng.choice(ears, p=shares)),
        ear_size=rng.uniform(0.85, 1.18),
        width=rng.uniform(0.92, 1.1),
        muzzle=rng.uniform(0.0, 1.0),
        nose=(50, 42, 42) if dark_nose else (206, 140, 136),
        eyes=scaled(eyes[rng.choice(5, p=eye_weights)], rng.uniform(0.85, 1.15)),
        slit=rng.uniform(0.18, 0.7) if cat else rng.uniform(0.5, 0.8),
        lids=max(0.0, rng.normal(-0.1, 0.25)),
        whiskers=rng.uniform(0.5, 1.0) if cat else rng.choice([0.0, rng.uniform(0.05, 0.25)], p=[0.88, 0.12]),
        mouth=str(rng.choice(["closed", "open", "tongue"], p=mouths)),
        yaw=float(np.clip(rng.normal(0, 0.38), -1, 1)),
        tail=str(rng.choice(tails, p=[0.76, 0.2, 0.02, 0.02] if cat else [0.34, 0.28, 0.24, 0.14])),
        bulk=rng.uniform(0.85, 1.2),
        legs=rng.uniform(0.8, 1.05) if cat else rng.uniform(0.62, 1.2),
    )


class Palette:
    """The textures of one animal on one canvas."""

    def __init__(self, canvas: Canvas, animal: Animal, unit: float, rng: np.random.Generator):
        coat, side = animal.coat, canvas.side
        self.canvas, self.animal, self.unit, self.rng = canvas, animal, unit, rng
        self.fur = coat_texture(side, coat, unit, rng)
        self.light = hairs(flat(coat.light, side, side), coat.length, rng)
        self.dark = hairs(flat(coat.second, side, side), coat.length, rng)
        self.line: Color = scaled(coat.base, 0.35)

    def part(
        self,
        outline: np.ndarray,
        paint: np.ndarray | Color | None = None,
        *,
        shade: float = 0.4,
        shadow: float = 0.0,
        soft: float = 0.8,
        alpha: float = 1.0,
        hair: float = 1.0,
    ) -> None:
        """A part of the body with the edge of its coat; `outline` in pixels, `paint` the fur unless given."""
        length = hair * self.unit * (0.02 + 0.11 * self.animal.coat.length)
        self.canvas.fill(
            furry(outline, length, self.rng, spacing=max(2.0, 0.045 * self.unit)),
            self.fur if paint is None else paint,
            shade=shade,
            shadow=shadow,
            soft=soft,
            alpha=alpha,
        )
