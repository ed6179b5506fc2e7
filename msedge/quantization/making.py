"""From a float model and calibration images to a plan: the one place where PTQ and weight-only quantisation start."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from msedge.data.preprocess import Preprocess
from msedge.errors import DataError, UserError
from msedge.progress import Progress, Say, no_progress, silent
from msedge.quantization.graph import ModelGraph
from msedge.quantization.plan import Plan
from msedge.verification.images import prepared

if TYPE_CHECKING:
    from msedge.quantization.ptq import PtqSettings

MODES = ("ptq", "weight")
GAIN_IMAGES = 16  # that show what noise in a weight does to the logits


@dataclass(frozen=True)
class Making:
    """`mode` is ptq (int8 weights and activations) or weight (`bits` per weight in the mean, or with `group` exactly that many
    and a scale for so many of them)."""

    mode: str = "ptq"
    bits: int = 8
    group: int = 0
    settings: PtqSettings | None = None  # None: the defaults

    def __post_init__(self):
        if self.mode not in MODES:
            raise UserError(f"there is no quantisation mode '{self.mode}'", f"one of {', '.join(MODES)}")
        if self.mode == "ptq" and self.bits != 8:
            raise UserError(f"{self.bits} bits for activations: MindSpore Lite's integer kernels have 8", "leave out --bits")


def make(
    graph: ModelGraph,
    making: Making,
    calibration: Sequence[Path] | None,
    preprocess: Preprocess | None,
    say: Say = silent,
    progress: Progress = no_progress,
) -> tuple[ModelGraph, Plan]:
    """The model (its weights may have changed) and its plan. `calibration` are images, needed for ptq and of use for weights.

    Raises UserError for settings that make no sense, DataError for images that give no scales.
    """
    if making.mode == "weight":
        from msedge.quantization.weight_only import make_weight_plan

        images = load_tensors(calibration[:GAIN_IMAGES], preprocess) if calibration and preprocess else None
        floats = making.settings.float_nodes if making.settings else ()
        options = {"floats": floats, "images": images, "progress": progress}
        return graph, make_weight_plan(graph, bits=making.bits, group=making.group, **options)
    if not calibration or preprocess is None:
        raise DataError("PostTraining needs images to calibrate with", "give --calib DIR, or --calib builtin:catdog")
    from msedge.quantization.ptq import PtqSettings, make_plan

    settings = making.settings or PtqSettings()
    return make_plan(graph, load_tensors(calibration, preprocess), settings, say=say, progress=progress)


def load_tensors(paths: Sequence[Path], preprocess: Preprocess) -> np.ndarray:
    """Images as the model takes them, float32 [N, 3, size, size]. Raises DataError where one cannot be read."""
    parts = []
    for _, (x,), problems in prepared(paths, [preprocess]):
        if problems:
            raise DataError(problems[0])
        parts.append(x)
    return np.concatenate(parts)


def settings_of(observer: str | None, keep_float: Sequence[str]) -> PtqSettings:
    """PTQ settings with what differs from the defaults. Raises UserError for an unknown observer."""
    from msedge.quantization.ptq import PtqSettings

    chosen = {"activations": observer} if observer else {}
    return PtqSettings(float_nodes=tuple(keep_float), **chosen)
