"""Thresholds that a model must hold against its reference, and why it did not."""

from __future__ import annotations

from dataclasses import dataclass

from msedge.recipe import GateConfig
from msedge.verification.metrics import Comparison


@dataclass(frozen=True)
class Thresholds:
    """None: not asked for. `min_cosine` is for `Comparison.cosine_judged`; `max_drop`: top-1 of a minus that of b, in 0..1."""

    min_cosine: float | None = None
    min_agreement: float | None = None
    max_drop: float | None = None

    def to_dict(self) -> dict[str, float]:
        return {name: value for name, value in vars(self).items() if value is not None}

    def failures(self, c: Comparison) -> list[str]:
        """One line for each threshold that does not hold; outputs that are not finite always fail."""
        reasons = []
        if c.nonfinite:
            reasons.append(f"{c.nonfinite} of {c.n} outputs are not finite")
        kind, value = c.cosine_judged
        if self.min_cosine is not None and value < self.min_cosine:
            reasons.append(f"{kind} {_below(value, self.min_cosine)} is below {self.min_cosine:g}")
        if self.min_agreement is not None and c.agreement < self.min_agreement:
            reasons.append(
                f"top-1 agreement {100 * c.agreement:.1f} % ({c.flips} of {c.n} flipped) "
                f"is below {100 * self.min_agreement:g} %"
            )
        if self.max_drop is not None:
            if c.top1_a is None or c.top1_b is None:
                reasons.append("the drop in top-1 is not known: the images have no labels")
            elif (drop := c.top1_a - c.top1_b) > self.max_drop + 1e-12:
                reasons.append(f"top-1 drops by {100 * drop:.2f} points, more than {100 * self.max_drop:g}")
        return reasons


def _below(value: float, limit: float) -> str:
    """As few digits, from five on, as show that `value` is below `limit`."""
    return next((t for d in range(5, 17) if float(t := f"{value:.{d}f}") < limit), repr(value))


def conversion_thresholds(quant: str, gate: GateConfig) -> Thresholds:
    """What a converted model must hold: float and fp16 a cosine, quantised ones a cosine and an agreement."""
    if quant == "none":
        return Thresholds(min_cosine=gate.float_cosine)
    if quant == "fp16":
        return Thresholds(min_cosine=gate.fp16_cosine)
    return Thresholds(min_cosine=gate.int8_cosine, min_agreement=gate.agreement)
