"""Does a calibration set stand for its data: repeats, coverage of the whole set, drift against validation images."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from msedge.data.audit import NEAR_DISTANCE, Verdict
from msedge.data.duplicates import hamming, near_groups
from msedge.data.image_statistics import STATISTICS, Measured
from msedge.data.preprocess import Preprocess

_QUANTILES = (0.0, 0.05, 0.5, 0.95, 1.0)
_FEW = 16
_UNLIKELY = 1.95  # of the Kolmogorov-Smirnov distance: seen by chance once in a thousand draws of a good set
_SHIFTED, _OTHER = 0.5, 1.0  # of the mean of a channel, in standard deviations of the images' means
_UNBALANCED = 2.0


@dataclass(frozen=True)
class Coverage:
    """One statistic in the set and in the whole: minimum, 5 %, median, 95 % and maximum of both, the largest distance
    between their distribution functions, and the share of the whole between the set's minimum and maximum."""

    statistic: str
    chosen: tuple[float, ...]
    whole: tuple[float, ...]
    distance: float
    inside: float


@dataclass(frozen=True)
class ChannelDrift:
    """A channel of the preprocessed tensor in the set and in validation images: mean and standard deviation of its values,
    `shift` of the mean in standard deviations of the validation images' means, `distance` between the distribution
    functions of the values, and the share of validation values outside the set's range."""

    channel: int
    mean: tuple[float, float]
    std: tuple[float, float]
    range: tuple[float, float]
    shift: float
    distance: float
    outside: float


@dataclass
class CalibrationAudit:
    """`against` says which images the drift was measured against, and `shared` how many pictures of the set are among
    them. Verdicts as in `audit`."""

    images: int
    counts: dict[str, int]
    repeated: list[list[str]] = field(default_factory=list)
    coverage: list[Coverage] = field(default_factory=list)
    against: str = ""
    against_images: int = 0
    shared: int = 0
    drift: list[ChannelDrift] = field(default_factory=list)
    verdicts: list[Verdict] = field(default_factory=list)

    @property
    def ok(self) -> bool:
        """Whether no verdict is an error."""
        return not any(v.level == "error" for v in self.verdicts)

    def to_dict(self) -> dict[str, Any]:
        parts = {name: [dict(vars(v)) for v in getattr(self, name)] for name in ("coverage", "drift", "verdicts")}
        return {"ok": self.ok, **vars(self), **parts}


def audit_set(names: Sequence[str], measured: Sequence[Measured], classes: Sequence[str | None], whole: Sequence[Measured],
              known: Sequence[str] = ()) -> CalibrationAudit:  # fmt: skip
    """Audit chosen images (names, measurements and classes in one order) against the measurements of `whole` (may be empty).

    `known` are all classes of the data.
    """
    counts = {name: sum(c == name for c in classes) for name in known} or {"": len(names)}
    report = CalibrationAudit(len(names), counts)
    hashes = [m.examined.phash or 0 for m in measured]
    report.repeated = [[names[i] for i in group] for group in near_groups(hashes, NEAR_DISTANCE)]
    good = [m for m in whole if not m.examined.problem]
    if good:
        report.coverage = _coverage(np.array([m.values for m in measured]), np.array([m.values for m in good]))
    report.verdicts = [*_set_verdicts(report, measured), *_coverage_verdicts(report, len(good))]
    return report


def add_drift(
    report: CalibrationAudit, chosen: np.ndarray, validation: np.ndarray, preprocess: Preprocess, against: str
) -> None:
    """Add the drift between two `pixel_histograms`."""
    report.against, report.against_images = against, len(validation)
    values = (np.arange(256) / 255)[None] / np.array(preprocess.std)[:, None]
    values = values - (np.array(preprocess.mean) / np.array(preprocess.std))[:, None]
    report.drift = [_channel(c, chosen[:, c], validation[:, c], values[c]) for c in range(3)]
    report.verdicts += _drift_verdicts(report)


def add_shared(report: CalibrationAudit, measured: Sequence[Measured], validation: Sequence[Measured]) -> None:
    """Count the pictures of the set that are among the validation images too."""
    others = np.array([m.examined.phash for m in validation if m.examined.phash is not None], np.uint64)
    mine = [np.uint64(m.examined.phash) for m in measured if m.examined.phash is not None]
    report.shared = sum(bool((hamming(others, one) <= NEAR_DISTANCE).any()) for one in mine)
    if report.shared:
        text = f"{report.shared} of the set's pictures are among the validation images or almost equal to one"
        report.verdicts.append(Verdict("warning", text, "the drift and every score on these images look too good"))


def settle(report: CalibrationAudit) -> None:
    """Say so where there is nothing to say."""
    if not report.verdicts:
        report.verdicts = [Verdict("ok", "nothing to complain about")]


def _coverage(chosen: np.ndarray, whole: np.ndarray) -> list[Coverage]:
    found = []
    for column, name in enumerate(STATISTICS):
        a, b = np.sort(chosen[:, column]), np.sort(whole[:, column])
        at = np.concatenate([a, b])
        distance = np.abs(np.searchsorted(a, at, "right") / len(a) - np.searchsorted(b, at, "right") / len(b)).max()
        inside = ((b >= a[0]) & (b <= a[-1])).mean()
        spread = (tuple(float(q) for q in np.quantile(x, _QUANTILES)) for x in (a, b))
        found.append(Coverage(name, *spread, distance=float(distance), inside=float(inside)))
    return found


def _channel(c: int, chosen: np.ndarray, validation: np.ndarray, values: np.ndarray) -> ChannelDrift:
    (a, mean_a, std_a), (b, mean_b, std_b) = (_spread(h, values) for h in (chosen, validation))
    means = (validation / validation.sum(axis=1, keepdims=True)) @ values
    unit = float(means.std()) if len(means) > 1 else float(std_b)
    low, high = np.flatnonzero(a)[[0, -1]]
    return ChannelDrift(
        c,
        (mean_a, mean_b),
        (std_a, std_b),
        (float(values[low]), float(values[high])),
        shift=(mean_a - mean_b) / max(unit, 1e-6),
        distance=float(np.abs(np.cumsum(a) - np.cumsum(b)).max()),
        outside=float(b[:low].sum() + b[high + 1 :].sum()),
    )


def _spread(histograms: np.ndarray, values: np.ndarray) -> tuple[np.ndarray, float, float]:
    share = histograms.sum(axis=0) / histograms.sum()
    mean = float(share @ values)
    return share, mean, float(np.sqrt(share @ (values - mean) ** 2))


def _set_verdicts(report: CalibrationAudit, measured: Sequence[Measured]) -> Iterable[Verdict]:
    counts = report.counts
    if len(counts) > 1:
        present = [name for name, n in counts.items() if n]
        missing = [name for name, n in counts.items() if not n]
        if missing:
            others = f" and {len(missing) - 1} others" if missing[1:] else ""
            advice = "choose the set again from data with all classes, and at least one image for each"
            yield Verdict("error" if len(present) == 1 else "warning", f"no image of class '{missing[0]}'{others}", advice)
        elif max(counts.values()) > _UNBALANCED * min(counts.values()):
            few = min(counts, key=counts.__getitem__)
            yield Verdict("warning", f"only {counts[few]} of {report.images} images are of class '{few}'", "add images of it")
    elif report.images > 0 and next(iter(counts)):
        yield Verdict("warning", f"only one class ('{next(iter(counts))}')", "calibrate with all classes of the model")
    if report.images < _FEW:
        yield Verdict("warning", f"only {report.images} images", "128 are a good number")
    if flat := [m.examined.path.name for m in measured if m.flat]:
        level = "error" if len(flat) == len(measured) else "warning"
        yield Verdict(level, f"{len(flat)} images are of one colour, such as {flat[0]}", "they say nothing about ranges")
    if report.repeated:
        first = " = ".join(report.repeated[0][:3])
        yield Verdict("warning", f"{len(report.repeated)} pictures stand in the set more than once: {first}", "make it again")


def _coverage_verdicts(report: CalibrationAudit, whole: int) -> Iterable[Verdict]:
    if report.images < _FEW or not report.coverage:
        return
    worst = max(report.coverage, key=lambda c: c.distance)
    if worst.distance > _UNLIKELY * np.sqrt(1 / report.images + 1 / whole):
        text = f"the set's {worst.statistic} is not spread as the data's (distance {worst.distance:.2f})"
        yield Verdict("warning", text, "classes of very different kinds, chosen evenly, do that; else make the set again")


def _drift_verdicts(report: CalibrationAudit) -> Iterable[Verdict]:
    worst = max(report.drift, key=lambda d: abs(d.shift))
    if abs(worst.shift) > _SHIFTED:
        level = "error" if abs(worst.shift) > _OTHER else "warning"
        where = "brighter" if worst.shift > 0 else "darker"
        text = (f"channel {worst.channel} is {where} than in {report.against} by {abs(worst.shift):.2f} standard deviations "
                "of an image's mean")  # fmt: skip
        yield Verdict(level, text, "calibrate with images from the same source as those that the model will see")
