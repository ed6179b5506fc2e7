"""How images are prepared for a runner: its own spec, another model's, or what is usual."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from msedge.errors import ModelError
from msedge.progress import Say, silent
from msedge.runtime.base import Runner

if TYPE_CHECKING:
    from msedge.data.preprocess import Preprocess


def preprocess_for(runner: Runner, *others: Runner, say: Say = silent) -> Preprocess:
    """The preprocessing of `runner`'s spec, else of the first of `others` that has one, else ImageNet's (said aloud).

    The size is the runner's own where its file fixes it. Raises ModelError where spec and file contradict each other or
    the input is not a square RGB image.
    """
    _, channels, height, width = runner.input_shape
    if channels not in (0, 3) or height != width:
        raise ModelError(f"{runner.name} takes {channels or 'any'} x {height} x {width}, not a square RGB image")
    own = runner.spec.preprocess if runner.spec else None
    if own:
        if height and own.size != height:
            raise ModelError(
                f"{runner.file} takes {height} pixels, its model.json says {own.size}", "the two do not belong together"
            )
        return own
    for other in others:
        if other.spec:
            found = other.spec.preprocess
            return dataclasses.replace(found, size=height) if height else found
    return imagenet_preprocess(runner.name, height, say)


def imagenet_preprocess(name: str, size: int, say: Say = silent) -> Preprocess:
    """What most published models expect; said aloud, because it is an assumption. Raises ModelError for an open size."""
    if not size:
        raise ModelError(f"{name} says neither its image size nor its preprocessing", "put a model.json beside it")
    from msedge.data.preprocess import Preprocess

    say(f"{name} does not say how images are prepared: ImageNet's mean and std at {size} px are assumed")
    return Preprocess(size)


def class_names_of(runner: Runner, outputs: int) -> Sequence[str]:
    """The spec's class names, or the numbers of the outputs. Raises ModelError where their counts differ."""
    if runner.spec is None or not runner.spec.classes:
        return [str(i) for i in range(outputs)]
    if len(runner.spec.classes) != outputs:
        raise ModelError(
            f"{runner.file} has {outputs} outputs, its model.json names {len(runner.spec.classes)} classes",
            "the two do not belong together",
        )
    return runner.spec.classes


def is_image(path: Path) -> bool:
    from msedge.data.images import SUFFIXES

    return path.suffix.lower() in SUFFIXES
