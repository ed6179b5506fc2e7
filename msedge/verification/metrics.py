"""How far two sets of outputs are apart, in numbers and in decisions. Pure NumPy, no models here."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

FEW_OUTPUTS = 4  # below, the cosine of one sample says little: two logits point either the same way or the opposite
SQNR_CAP_DB = 200.0  # given for outputs that are equal bit by bit, where the ratio has no finite value


def cosine(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Cosine similarity per sample, float64 [N]; 1 where both are all zero, 0 where one is, 0 where one is not finite."""
    a, b = _rows(a), _rows(b)
    finite = finite_rows(a) & finite_rows(b)
    a, b = np.where(finite[:, None], a, 0), np.where(finite[:, None], b, 0)
    product = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
    with np.errstate(invalid="ignore", divide="ignore"):
        result = np.clip((a * b).sum(axis=1) / product, -1, 1)
    result = np.where(product == 0, (a == b).all(axis=1).astype(np.float64), result)
    return np.where(finite, result, 0.0)


def pooled_cosine(a: np.ndarray, b: np.ndarray) -> float:
    """Cosine similarity of all finite samples taken as one long vector: samples count by the size of their outputs."""
    finite = finite_rows(a) & finite_rows(b)
    both = [_rows(x)[finite].reshape(1, -1) for x in (a, b)]
    return float(cosine(*both)[0]) if finite.any() else 0.0


def max_abs(a: np.ndarray, b: np.ndarray) -> float:
    """Largest absolute difference over the samples that are finite on both sides."""
    a, b = _rows(a), _rows(b)
    finite = finite_rows(a) & finite_rows(b)
    return float(np.abs(a[finite] - b[finite]).max()) if finite.any() else 0.0


def sqnr_db(a: np.ndarray, b: np.ndarray) -> float:
    """Signal to quantisation noise ratio of b against a, 10 log10(sum a^2 / sum (a - b)^2), between -200 and 200 dB."""
    a, b = _rows(a), _rows(b)
    finite = finite_rows(a) & finite_rows(b)
    signal, noise = float((a[finite] ** 2).sum()), float(((a - b)[finite] ** 2).sum())
    if noise == 0:
        return SQNR_CAP_DB if finite.any() else 0.0
    if signal == 0:
        return -SQNR_CAP_DB
    return float(np.clip(10 * np.log10(signal / noise), -SQNR_CAP_DB, SQNR_CAP_DB))


def finite_rows(a: np.ndarray) -> np.ndarray:
    """Bool [N]: the samples whose outputs are all finite."""
    return np.isfinite(_rows(a)).all(axis=1)


def _rows(a: np.ndarray) -> np.ndarray:
    return np.asarray(a, np.float64).reshape(len(a), -1)


@dataclass(frozen=True)
class Paired:
    """Decisions of two models on the same labelled samples: the table that McNemar's test takes."""

    both_right: int
    only_a_right: int
    only_b_right: int
    both_wrong: int

    def to_dict(self) -> dict[str, int]:
        return dict(vars(self))


@dataclass(frozen=True)
class Comparison:
    """Outputs of a (the reference) and b on n samples. Shares lie in 0..1; `top1_*` and `paired` need labels.

    `flips` counts the samples whose largest output stands in another place; a sample with an output of b or a that is
    not finite counts as flipped and as cosine 0, and in `nonfinite`.
    """

    n: int
    top1_a: float | None
    top1_b: float | None
    agreement: float
    flips: int
    cosine_mean: float
    cosine_min: float
    cosine_pooled: float
    max_abs: float
    sqnr_db: float
    nonfinite: int
    outputs: int
    paired: Paired | None = None

    @property
    def cosine_judged(self) -> tuple[str, float]:
        """Which cosine a gate looks at, and its value.

        The mean over the samples; with fewer than four outputs the pooled one, since the mean of cosines of about +1 and -1
        would count the flips a second time and know nothing of how near the outputs are.
        """
        return ("pooled cosine", self.cosine_pooled) if self.outputs < FEW_OUTPUTS else ("cosine", self.cosine_mean)

    def to_dict(self) -> dict[str, object]:
        values = dict(vars(self))
        values["paired"] = self.paired.to_dict() if self.paired else None
        return values


def compare_outputs(a: np.ndarray, b: np.ndarray, labels: np.ndarray | None = None) -> Comparison:
    """Compare outputs [N, ...] of two models, and with `labels` (int [N]) their accuracy.

    Raises ValueError where the shapes differ or N is 0.
    """
    if np.shape(a) != np.shape(b) or len(a) == 0:
        raise ValueError(f"outputs of shapes {np.shape(a)} and {np.shape(b)} cannot be compared")
    finite = finite_rows(a) & finite_rows(b)
    choice_a, choice_b = _rows(a).argmax(axis=1), _rows(b).argmax(axis=1)
    same = (choice_a == choice_b) & finite
    cosines = cosine(a, b)
    top1_a = top1_b = paired = None
    if labels is not None:
        right_a = (choice_a == labels) & finite_rows(a)
        right_b = (choice_b == labels) & finite_rows(b)
        top1_a, top1_b = float(right_a.mean()), float(right_b.mean())
        paired = Paired(
            int((right_a & right_b).sum()),
            int((right_a & ~right_b).sum()),
            int((~right_a & right_b).sum()),
            int((~right_a & ~right_b).sum()),
        )
    return Comparison(
        n=len(finite),
        top1_a=top1_a,
        top1_b=top1_b,
        agreement=float(same.mean()),
        flips=int((~same).sum()),
        cosine_mean=float(cosines.mean()),
        cosine_min=float(cosines.min()),
        cosine_pooled=pooled_cosine(a, b),
        max_abs=max_abs(a, b),
        sqnr_db=sqnr_db(a, b),
        nonfinite=int((~finite).sum()),
        outputs=_rows(a).shape[1],
        paired=paired,
    )
