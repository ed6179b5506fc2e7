"""What a quantised model may lose against its float model, in words of the user and in numbers."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass

import numpy as np

from msedge.errors import UserError
from msedge.quantization.sensitivity import change

_FORMS = "as --budget 0.5pp (points of top-1) or --budget agreement=0.99"
_NUMBER = r"([+-]?(?:\d+\.?\d*|\.\d+)(?:e[+-]?\d+)?)"
_POINTS = re.compile(rf"{_NUMBER}\s*pp", re.IGNORECASE)
_AGREEMENT = re.compile(rf"agreement\s*=\s*{_NUMBER}\s*(%?)", re.IGNORECASE)


@dataclass(frozen=True)
class Loss:
    """A model against its float model on `images` images: top-1 of both (0..1, None without labels), the share of equal
    decisions, and the mean square change of the logits over their variance."""

    images: int
    top1: float | None
    top1_float: float | None
    agreement: float
    error: float

    @property
    def drop(self) -> float | None:
        """Lost top-1, 0..1; below 0 where it won."""
        return None if self.top1 is None else self.top1_float - self.top1


@dataclass(frozen=True)
class Budget:
    """`kind` is drop (at most `limit` of top-1, in 0..1, is lost) or agreement (at least `limit` of decisions are equal)."""

    kind: str
    limit: float

    @property
    def needs_labels(self) -> bool:
        return self.kind == "drop"

    def excess(self, loss: Loss) -> float:
        """How much more is lost than allowed, at most 0 where the budget holds. Raises UserError where labels are missing."""
        if self.kind == "agreement":
            return self.limit - loss.agreement
        if loss.drop is None:
            raise UserError(f"a budget of {self} needs images with labels", "give --data with class folders, or agreement=0.99")
        return loss.drop - self.limit

    def holds(self, loss: Loss) -> bool:
        return self.excess(loss) <= 1e-9

    def __str__(self) -> str:
        return f"{100 * self.limit:g}pp" if self.kind == "drop" else f"agreement={self.limit:g}"


def parse_budget(text: str) -> Budget:
    """`0.5pp` or `agreement=0.99` (or `agreement=99%`). Raises UserError that says what was meant instead."""
    given = text.strip()
    if match := _POINTS.fullmatch(given):
        points = float(match[1])
        if not 0 <= points < 100:
            raise UserError(f"the budget '{text}' is no loss that can be allowed", "from 0pp to below 100pp")
        return Budget("drop", points / 100)
    if match := _AGREEMENT.fullmatch(given):
        share = float(match[1]) / (100 if match[2] else 1)
        if not 0 < share <= 1:
            percent = f"agreement={share / 100:g}" if 1 < share <= 100 else "agreement=0.99"
            raise UserError(f"the budget '{text}' is no share of decisions", f"above 0 and at most 1, as {percent}")
        return Budget("agreement", share)
    if match := re.fullmatch(rf"{_NUMBER}\s*(%?)", given):
        points = float(match[1]) if match[2] else 100 * float(match[1])
        if 0 <= points < 100 and math.isfinite(points):
            raise UserError(f"the budget '{text}' does not say of what", f"{points:g}pp for points of top-1, or agreement=0.99")
    raise UserError(f"the budget '{text}' is not understood", _FORMS)


def loss_of(reference: np.ndarray, logits: np.ndarray, labels: np.ndarray | None) -> Loss:
    """Judge `logits` against the float model's, both [N, classes]; `labels` int [N] or None."""
    choice, other = reference.argmax(axis=1), logits.argmax(axis=1)
    right = None if labels is None else [float((c == labels).mean()) for c in (other, choice)]
    return Loss(len(logits), *(right or (None, None)), float((choice == other).mean()), change(reference, logits).error)
