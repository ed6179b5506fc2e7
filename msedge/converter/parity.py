"""Is the converted model still the same model: golden inputs for float, images for INT8.

Float and fp16 files are compared on the golden inputs (and on `data` where given): they must agree on any input. An INT8
file is tuned to images, and an agreement of 97 % cannot be read off eight samples: it is compared on up to 200 images
that it was not calibrated with, in this order of choice: `data`; val/ of the calibration data; the calibration folder's
other images; and only where there are none, the calibration images themselves (said aloud). Golden inputs are then
reported beside.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from msedge.data.preprocess import Preprocess
from msedge.progress import Progress, Say
from msedge.runtime import Runner
from msedge.runtime.source import Golden
from msedge.verification import Comparison, compare_outputs
from msedge.verification.comparison import run_all
from msedge.verification.images import ImageSet
from msedge.verification.judging import golden_or_drawn

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
    image_set.tell_unread(problems, say)
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
