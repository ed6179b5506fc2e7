"""`msedge.quantize`: from a float model to a folder with a quantisation plan, judged before anything is converted."""

from __future__ import annotations

import os
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from msedge.artifact import MANIFEST, write_bytes, write_json, write_manifest
from msedge.data.calibration_images import Calibration, check_classes, choose
from msedge.data.preprocess import Preprocess
from msedge.errors import DataError, ModelError
from msedge.exporter.golden import write_golden
from msedge.progress import Progress, Say, no_progress, silent
from msedge.quantization.budget import parse_budget
from msedge.quantization.curve import draw
from msedge.quantization.graph import ModelGraph
from msedge.quantization.layer_report import LayerReport, layer_report
from msedge.quantization.making import Making, make
from msedge.quantization.mixed import MixedPlan, find_mixed_plan
from msedge.quantization.onnx_simulation import Simulation
from msedge.quantization.plan import FILE, Plan
from msedge.runtime import open_runner
from msedge.runtime.preparation import preprocess_for
from msedge.runtime.source import GOLDEN, Source, check_source, locate_source, resolve_source
from msedge.staging import check_replaceable, staged_folder
from msedge.verification import Comparison, compare_outputs
from msedge.verification.images import prepared
from msedge.verification.judging import JUDGING_IMAGES, golden_or_drawn, judging_images

MODEL, LAYERS, REPORT, CURVE, PLOT = "model.onnx", "layers.json", "quantization.json", "curve.json", "curve.svg"
OWN_FILES = (MODEL, "model.json", GOLDEN, FILE, LAYERS, REPORT, CURVE, PLOT, MANIFEST)
LAYER_IMAGES = 8
_DEFAULT = Making()


@dataclass(frozen=True)
class QuantizeReport:
    """`comparison` is the simulated plan against the float model, `on` says on what; `mixed` is there with a budget."""

    out: Path
    plan: Plan
    comparison: Comparison
    on: str
    layers: LayerReport
    mixed: MixedPlan | None

    @property
    def passed(self) -> bool:
        return self.mixed is None or self.mixed.met

    @property
    def counts(self) -> dict[str, int]:
        """How many nodes of each precision."""
        return {p: n for p in ("int8", "weight", "float") if (n := len(self.plan.of(p)))}

    def summary(self) -> str:
        """One line for people."""
        c = self.comparison
        nodes = ", ".join(f"{n} {p}" for p, n in self.counts.items())
        top1 = "" if c.top1_b is None else f", top-1 {c.top1_b:.1%} (float {c.top1_a:.1%})"
        return f"{nodes} nodes; simulated: agreement {c.agreement:.1%}, {c.sqnr_db:.1f} dB{top1} on {c.n} {self.on}"

    def to_dict(self) -> dict[str, Any]:
        return {
            **self.comparison.to_dict(),
            "on": self.on,
            "nodes": self.counts,
            "float": {n: self.plan.nodes[n].why for n in self.plan.of("float")},
            "made_by": self.plan.made_by,
            "budget": self.mixed and {"asked": str(self.mixed.budget), "met": self.mixed.met, "reason": self.mixed.reason},
            "passed": self.passed,
        }


def quantize(
    source: Path | str,
    out: Path | str,
    *,
    making: Making = _DEFAULT,
    calib: Path | str | None = None,
    calib_images: int = 128,
    data: Path | str | None = None,
    data_images: int = JUDGING_IMAGES,
    budget: str | None = None,
    say: Say = silent,
    progress: Progress = no_progress,
) -> QuantizeReport:
    """Plan how a checkpoint folder, export folder or `.onnx` is quantised, into the folder `out`.

    `out` receives model.onnx (its weights may have been equalised or corrected), plan.json, layers.json, quantization.json,
    golden.npz and model.json where the source has them; with a `budget` ("0.5pp", "agreement=0.99") also curve.json and
    curve.svg. All at once, also where the budget does not hold, which `report.passed` says. `calib` are images to calibrate
    with, `data` images to judge on (else some of `calib` that were not used). Raises UserError and its kinds.
    """
    out = Path(os.path.abspath(out))  # noqa: PTH100 (resolve would follow a link that is to be replaced)
    asked = parse_budget(budget) if budget else None
    located = locate_source(source, "ONNX")
    check_source(located)
    check_replaceable(out, OWN_FILES)
    calibration = _calibration(making, calib, calib_images, say)
    with tempfile.TemporaryDirectory(prefix="msedge-quantize-") as work, staged_folder(out, OWN_FILES) as stage:
        model = resolve_source(located, "ONNX", Path(work), None, say)
        if calibration and model.spec:
            check_classes(calibration, model.spec.classes)
        given = ModelGraph.load(model.onnx)
        images = _Images.load(model, calibration, calib, data, data_images, say)
        graph, plan = make(given, making, calibration and calibration.paths, images.preprocess, say, progress)
        reference = Simulation(given).logits(images.x)
        simulation, mixed = Simulation(graph), None
        if asked:
            labels, options = images.labels, {"reference": reference, "say": say, "progress": progress}
            mixed = find_mixed_plan(simulation, plan, asked, images.x, labels, **options)
            plan = mixed.plan
        compared = compare_outputs(reference, simulation.logits(images.x, plan), images.labels)
        layers = layer_report(simulation, plan, images.x[:LAYER_IMAGES], progress=progress)
        report = QuantizeReport(out, plan, compared, images.words, layers, mixed)
        _write(stage, report, simulation, model, calibration)
    return report


@dataclass(frozen=True)
class _Images:
    """What the plan is judged on: float32 [N, 3, size, size], labels where they are known, and in words what they are."""

    x: np.ndarray
    labels: np.ndarray | None
    words: str
    preprocess: Preprocess

    @classmethod
    def load(cls, model: Source, calibration: Calibration | None, calib, data, limit: int, say: Say) -> _Images:
        with open_runner(model.onnx) as reference:
            reference.spec = model.spec
            if reference.input_shape[0] != 1:
                raise ModelError(f"{model.given} takes {reference.input_shape[0]} images at a time", "export it with batch 1")
            preprocess = preprocess_for(reference, say=say)
            if calibration is None and data is None:
                golden, words = golden_or_drawn(model.golden, reference)
                say(f"judged on {len(golden.inputs)} {words} only: --data DIR gives it images")
                return cls(golden.inputs, None, words, preprocess)
        classes = model.spec.classes if model.spec else None
        chosen, words = judging_images(calib, calibration.paths if calibration else (), data, classes, limit, say)
        parts, kept, bad = [], [], []
        for indices, (x,), problems in prepared(chosen.paths, [preprocess]):
            parts.append(x)
            kept += indices
            bad += problems
        chosen.tell_unread(bad, say)
        labels = None if chosen.labels is None else chosen.labels[kept]
        return cls(np.concatenate([x for x in parts if len(x)]), labels, words, preprocess)


def _calibration(making: Making, calib: Path | str | None, count: int, say: Say) -> Calibration | None:
    if calib is not None:
        return choose(calib, count, say)
    if making.mode == "ptq":
        raise DataError("quantising activations needs images to calibrate with", "give --calib DIR, or --calib builtin:catdog")
    return None


def _write(stage: Path, report: QuantizeReport, simulation: Simulation, model: Source, calibration: Calibration | None) -> None:
    write_bytes(stage / MODEL, simulation.graph.model.SerializeToString(deterministic=True))
    report.plan.save(stage / FILE)
    report.layers.save(stage / LAYERS)
    write_json(stage / REPORT, report.to_dict())
    if model.spec:
        model.spec.save(stage)
    if model.golden:
        write_golden(stage / GOLDEN, model.golden.inputs, simulation.logits(model.golden.inputs))
    if report.mixed:
        write_json(stage / CURVE, report.mixed.to_dict())
        draw(report.mixed, stage / PLOT)
    write_manifest(
        stage,
        "quantized",
        sorted(p.name for p in stage.iterdir()),
        parents=model.parents(),
        quantization=report.plan.made_by,
        calibration=calibration and calibration.to_dict(),
    )
