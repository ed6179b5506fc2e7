"""Two models on the same images: `verify` for whole folders, `compare` for a tensor."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from msedge.errors import ModelError
from msedge.progress import Progress, Say, no_progress, silent
from msedge.runtime import Runner, open_runner
from msedge.runtime.preparation import class_names_of, preprocess_for
from msedge.verification.gate import Thresholds
from msedge.verification.images import ImageSet, load_images, prepared
from msedge.verification.metrics import Comparison, compare_outputs

if TYPE_CHECKING:
    from msedge.lite.protocol import Toolchain

_NO_THRESHOLDS = Thresholds()


@dataclass(frozen=True)
class VerifyReport:
    """`a` is the reference. `reasons` says which thresholds do not hold; `skipped` are images that could not be read."""

    a: str
    b: str
    data: str
    comparison: Comparison
    reasons: tuple[str, ...] = ()
    skipped: tuple[str, ...] = ()

    @property
    def passed(self) -> bool:
        return not self.reasons

    def to_dict(self) -> dict[str, Any]:
        """Shares in 0..1; `top1_a` and `top1_b` are None without labels."""
        return {
            **self.comparison.to_dict(),
            "a": self.a,
            "b": self.b,
            "data": self.data,
            "skipped": len(self.skipped),
            "passed": self.passed,
            "reasons": list(self.reasons),
        }


def compare(a: Runner, b: Runner, x: np.ndarray, labels: np.ndarray | None = None) -> Comparison:
    """Compare two runners that take the same tensors, float32 [N, C, H, W]. Raises ModelError where x does not fit."""
    return compare_outputs(a.predict(x), _in_order(b.predict(x), _column_order(a, b)), labels)


def verify(
    a: Runner | Path | str,
    b: Runner | Path | str,
    data: Path | str,
    *,
    limit: int | None = None,
    thresholds: Thresholds = _NO_THRESHOLDS,
    threads: int = 1,
    lite: str | Path | Toolchain | None = None,
    say: Say = silent,
    progress: Progress = no_progress,
) -> VerifyReport:
    """Compare the decisions of two models (paths, or runners, which stay open) on the images of `data`.

    Each model gets its own preprocessing (or the other's where it has none); where both name the same classes in
    another order, b's outputs are put into a's. Raises DataError, ModelError, ArtifactError, ToolError.
    """
    opened: list[Runner] = []
    try:
        runners = []
        for model in (a, b):
            if not isinstance(model, Runner):
                model = open_runner(model, threads=threads, lite=lite, say=say)
                opened.append(model)
            runners.append(model)
        return _verify(*runners, data, limit, thresholds, say, progress)
    finally:
        for runner in opened:
            runner.close()


def _verify(a, b, data, limit, thresholds, say, progress) -> VerifyReport:
    order = _column_order(a, b)
    if order is not None:
        say(f"{b.name} has the classes of {a.name} in another order: they are matched by name")
    images = load_images(data, _classes(a) or _classes(b), limit)
    preprocesses = [preprocess_for(a, b, say=say), preprocess_for(b, a, say=say)]
    (outputs_a, outputs_b), kept, skipped = run_all((a, b), images.paths, preprocesses, progress)
    images.tell_unread(skipped, say)
    if outputs_a.shape != outputs_b.shape:
        raise ModelError(
            f"{a.name} has {_shape_text(outputs_a)} outputs, {b.name} has {_shape_text(outputs_b)}",
            "only models of the same classes can be compared",
        )
    for runner, outputs in ((a, outputs_a), (b, outputs_b)):
        class_names_of(runner, outputs.shape[1])
    labels = _usable_labels(images, outputs_a, a, b, say)
    if labels is not None:
        labels = labels[kept]
    comparison = compare_outputs(outputs_a, _in_order(outputs_b, order), labels)
    reasons = thresholds.failures(comparison)
    return VerifyReport(str(a.file), str(b.file), str(data), comparison, tuple(reasons), tuple(skipped))


def run_all(
    runners: Sequence[Runner], paths: Sequence[Path], preprocesses: Sequence[Any], progress: Progress = no_progress
) -> tuple[list[np.ndarray], list[int], list[str]]:
    """Outputs of each runner on all readable images, the indices of these, and a line for each of the others."""
    outputs: list[list[np.ndarray]] = [[] for _ in runners]
    kept: list[int] = []
    problems: list[str] = []
    with progress("comparing", len(paths)) as report:
        for indices, tensors, bad in prepared(paths, preprocesses):
            problems += bad
            if indices:
                for runner, x, o in zip(runners, tensors, outputs, strict=True):
                    o.append(runner.predict(x))
                kept += indices
            report(len(kept) + len(problems))
    return [np.concatenate(o) if o else np.empty((0, 0), np.float32) for o in outputs], kept, problems


def _usable_labels(images: ImageSet, outputs: np.ndarray, a: Runner, b: Runner, say: Say) -> np.ndarray | None:
    if images.labels is None:
        return None
    named = _classes(a) or _classes(b)
    if named is None and len(images.classes) != outputs.shape[1]:
        say(
            f"the models have {outputs.shape[1]} outputs without names and the data {len(images.classes)} classes: "
            "accuracy is not known"
        )
        return None
    return images.labels


def _shape_text(outputs: np.ndarray) -> str:
    return " x ".join(map(str, outputs.shape[1:]))


def _classes(runner: Runner) -> tuple[str, ...] | None:
    return tuple(runner.spec.classes) if runner.spec and runner.spec.classes else None


def _column_order(a: Runner, b: Runner) -> list[int] | None:
    """Columns of b in a's order, None where they need no change. Raises ModelError where the classes differ."""
    names_a, names_b = _classes(a), _classes(b)
    if names_a is None or names_b is None or names_a == names_b:
        return None
    if sorted(names_a) != sorted(names_b):
        only = sorted(set(names_a) ^ set(names_b))
        raise ModelError(
            f"{a.name} and {b.name} do not have the same classes ({len(names_a)} and {len(names_b)})",
            f"only one of them knows {', '.join(only[:4])}" + (", ..." if len(only) > 4 else ""),
        )
    return [names_b.index(name) for name in names_a]


def _in_order(outputs: np.ndarray, order: list[int] | None) -> np.ndarray:
    return outputs if order is None else outputs[:, order]
