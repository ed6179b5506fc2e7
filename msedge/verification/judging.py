"""What a model is judged on: images that it was not made with, or golden inputs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from msedge.data.calibration_set import data_behind
from msedge.data.folder import class_names, load_flat, resolve_root, split_folders
from msedge.errors import ArtifactError
from msedge.exporter.golden import golden_inputs
from msedge.progress import Say
from msedge.runtime import Runner
from msedge.runtime.preparation import preprocess_for
from msedge.runtime.source import Golden
from msedge.verification.images import ImageSet, has_classes, load_images
from msedge.verification.metrics import cosine

JUDGING_IMAGES = 200
FEW_IMAGES = 50
_DRAWN_SAMPLES = 8


def judging_images(
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
    root = resolve_root(data_behind(calib))
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
