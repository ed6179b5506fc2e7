"""Is the converted model still the same model: golden inputs for float, images for INT8.

Float and fp16 files are compared on the golden inputs (and on `data` where given): they must agree on any input. An INT8
file is tuned to images, and an agreement of 97 % cannot be read off eight samples: it is compared on up to 200 images
that it was not calibrated with, in this order of choice: `data`; val/ of the calibration data; the calibration folder's
other images; and only where there are none, the calibration images themselves (said aloud). Golden inputs are then
reported beside.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from msedge.data.folder import class_names, load_flat, resolve_root, split_folders
from msedge.data.preprocess import Preprocess
from msedge.errors import ArtifactError, DataError
from msedge.exporter.golden import golden_inputs
from msedge.progress import Progress, Say
from msedge.runtime import Runner
from msedge.runtime.preparation import preprocess_for
from msedge.runtime.source import Golden
from msedge.verification import Comparison, compare_outputs
from msedge.verification.comparison import run_all
from msedge.verification.images import ImageSet, has_classes, load_images
from msedge.verification.metrics import cosine

PARITY_IMAGES = 200
FEW_IMAGES = 50
_DRAWN_SAMPLES = 8
GOLDEN, IMAGES, PLAN = "golden", "images", "plan"


@dataclass(frozen=True)
class Parity:
    """`comparison` is what the gate judges; `on` says in words what it was measured on; `golden` is None without any.
    `planned` compares with the simulated quantisation plan, where there is one."""

    comparison: Comparison
    on: str
    golden: Comparison | None
    images: int
    planned: Comparison | None = None

    def to_dict(self) -> dict[str, Any]:
        golden, planned = (
            c and {key: getattr(c, key) for key in keys}
            for c, keys in (
                (self.golden, ("n", "cosine_mean", "cosine_min", "max_abs")),
                (self.planned, ("n", "cosine_pooled", "cosine_mean", "cosine_min", "agreement", "max_abs")),
            )
        )
        return {**self.comparison.to_dict(), "on": self.on, "images": self.images, "golden": golden, "planned": planned}


def parity_images(
    calib: Path | str | None,
    used: Sequence[Path],
    data: Path | str | None,
    classes: Sequence[str] | None,
    limit: int,
    say: Say,
) -> tuple[ImageSet, str]:
    """The images that an INT8 model is judged on, and what they are. Raises DataError where there are none."""
    if data is not None:
        return load_images(data, classes, limit), f"images of {data}"
    every = _pool(calib, classes)
    taken = {path.resolve() for path in used}
    free = [i for i, path in enumerate(every.paths) if path.resolve() not in taken]
    if free:
        picked = _pick(every, [free[j] for j in np.linspace(0, len(free) - 1, min(limit, len(free))).round().astype(int)])
        if len(picked) < min(FEW_IMAGES, limit):
            say(f"the top-1 agreement is measured on {len(picked)} images only: --data DIR gives it more")
        return picked, "images not used for calibration"
    say("no image is left besides those used for calibration: INT8 is measured on these (--data DIR gives it others)")
    return ImageSet(str(calib), tuple(used)[:limit], None, None), "the calibration images"


def _pool(calib: Path | str, classes: Sequence[str] | None) -> ImageSet:
    """All images of the calibration data; with labels only where its folders are classes of the model."""
    root = resolve_root(calib)
    if classes and has_classes(root):
        train, val = split_folders(root)
        if set(class_names(val or train or root, at_least=1)) <= set(classes):
            return load_images(val or train or root, classes)
    train, val = split_folders(root)
    return ImageSet(str(calib), tuple(load_flat(val or root)), None, None)


def _pick(images: ImageSet, indices: Sequence[int]) -> ImageSet:
    labels = None if images.labels is None else images.labels[list(indices)]
    return replace(images, paths=tuple(images.paths[i] for i in indices), labels=labels)


def golden_or_drawn(golden: Golden | None, reference: Runner) -> tuple[Golden, str]:
    """The golden samples, proved to belong to the reference; drawn images through it where there are none.

    Raises ArtifactError where the golden outputs are not the reference's.
    """
    if golden is not None:
        logits = reference.predict(golden.inputs)
        if logits.shape != golden.logits.shape or cosine(golden.logits, logits).min() < 0.999:
            raise ArtifactError(
                f"golden.npz does not belong to {reference.file}: its logits are of another model", "export the model again"
            )
        return golden, "golden inputs"
    drawn = golden_inputs(preprocess_for(reference), _DRAWN_SAMPLES)
    return Golden(drawn, reference.predict(drawn)), "drawn inputs"


def measure_parity(
    reference: Runner,
    converted: Runner,
    golden: Golden | None,
    images: tuple[ImageSet, str] | None,
    preprocess: Preprocess | None,
    judge: str,
    progress: Progress,
    say: Say,
    simulated: Runner | None = None,
) -> Parity:
    """Compare `converted` with the golden outputs, and with `reference` on images (which need `preprocess`), if any.

    `judge` is what the gate looks at: GOLDEN (golden inputs and images together), IMAGES (against the float model) or PLAN
    (against `simulated`, the quantisation plan computed by another runtime; with it, that comparison is always made).
    """
    samples, what = golden_or_drawn(golden, reference)
    on_golden = converted.predict(samples.inputs)
    compared = compare_outputs(samples.logits, on_golden)
    if images is None:
        planned = compare_outputs(simulated.predict(samples.inputs), on_golden) if simulated else None
        judged = planned if judge == PLAN and planned else compared
        return Parity(judged, f"{compared.n} {what}", compared, 0, planned)
    image_set, image_words = images
    runners = [reference, converted, *([simulated] if simulated else [])]
    (a, b, *rest), kept, problems = run_all(runners, image_set.paths, [preprocess] * len(runners), progress)
    if not kept:
        raise DataError(f"none of the {len(image_set)} images of {image_set.source} can be read", problems[0])
    if problems:
        say(f"{len(problems)} of {len(image_set)} images cannot be read and are left out, the first: {problems[0]}")
    labels = None if image_set.labels is None else image_set.labels[kept]
    on_images = compare_outputs(a, b, labels)
    planned = compare_outputs(rest[0], b, labels) if rest else None
    if judge == PLAN and planned:
        return Parity(planned, f"{planned.n} {image_words} against the plan", compared, planned.n, planned)
    if judge == IMAGES:
        return Parity(on_images, f"{on_images.n} {image_words}", compared, on_images.n, planned)
    both = compare_outputs(np.concatenate([samples.logits, a]), np.concatenate([on_golden, b]))
    both = replace(both, top1_a=on_images.top1_a, top1_b=on_images.top1_b, paired=on_images.paired)
    return Parity(both, f"{compared.n} {what} and {on_images.n} {image_words}", compared, on_images.n, planned)
