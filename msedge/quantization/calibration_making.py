"""`msedge calib`: choose a calibration set, audit it against its data, validation images and a model, write its manifest."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from msedge.artifact import make_dir
from msedge.data.calib import calibration_samples
from msedge.data.calibration_audit import CalibrationAudit, add_drift, add_shared, audit_set, settle
from msedge.data.calibration_choice import choose_spread
from msedge.data.calibration_set import data_of, load_calibration, read_calibration, write_calibration
from msedge.data.drawn import BUILTIN
from msedge.data.folder import Samples, load_flat, resolve_root, split_folders
from msedge.data.image_statistics import Measured, measure_all, pixel_histograms
from msedge.data.images import read_image
from msedge.data.preprocess import Preprocess
from msedge.errors import DataError
from msedge.progress import Progress, Say, no_progress, silent
from msedge.quantization.activation_drift import IMAGES, activation_drift
from msedge.quantization.graph import ModelGraph
from msedge.runtime import load_spec, locate
from msedge.runtime.preparation import imagenet_preprocess

HOME = Path("calib_data")
VALIDATION_IMAGES = 256
_ASSUMED_PIXELS = 224


@dataclass(frozen=True)
class Made:
    """A set's folder, its manifest, and the audit (the manifest's, or a newer one)."""

    folder: Path
    document: dict[str, Any]
    audit: dict[str, Any]


def make_calibration(
    data: Path | str,
    out: Path | None = None,
    *,
    n: int = 128,
    seed: int = 0,
    model: Path | None = None,
    against: Path | str | None = None,
    copy: bool = False,
    say: Say = silent,
    progress: Progress = no_progress,
) -> Made:
    """Choose up to `n` images of `data`, audit them and write `out/calibration.json` (default calib_data/<name>).

    Raises DataError (no usable image, a class without one, one class of several), ModelError, ArtifactError.
    """
    preprocess, graph, classes = _model(model, say)
    samples = calibration_samples(data)
    _refuse_other_classes(samples, classes, model)
    if against is not None:
        resolve_root(against)  # before the work, not after it
    if out is None:
        out = HOME / ("catdog" if str(data) == BUILTIN else samples.root.resolve().name or "images")
    make_dir(out)
    with progress("looking at images", len(samples)) as report:
        choice = choose_spread(samples, n, seed, report)
    for notice in choice.notices:
        say(notice)
    mine, known = choice.measured_chosen, [c for c in samples.classes if c]
    audit = audit_set(choice.names_chosen, mine, choice.classes_chosen, choice.measured, known)
    others, what = _validation(samples, choice.paths, against)
    audited = _finish(audit, mine, choice.paths, others, what, preprocess, graph, progress)
    return Made(out, write_calibration(choice, out, data, preprocess, audited, copy), audited)


def check_calibration(
    folder: Path | str,
    *,
    model: Path | None = None,
    against: Path | str | None = None,
    say: Say = silent,
    progress: Progress = no_progress,
) -> Made:
    """Audit a set again, as its images and data are now. Raises ArtifactError, DataError where an image has changed."""
    document, root = read_calibration(folder)
    paths = load_calibration(folder)
    folder = Path(folder).parent if Path(folder).is_file() else Path(folder)
    preprocess, graph, _ = _model(model, say) if model else (Preprocess.from_dict(document["preprocess"]), None, ())
    try:
        samples = calibration_samples(data_of(document, folder))
    except DataError as e:
        say(f"the data that the set was chosen from cannot be read, it is judged alone: {e}")
        samples = None
    with progress("looking at images", len(paths)) as report:
        mine = measure_all(paths, report)
    with progress("looking at the data", len(samples or ())) as report:
        whole = measure_all(samples.take_balanced(1024, 0).paths, report) if samples else []
    names = [image["file"] for image in document["images"]]
    audit = audit_set(names, mine, [i["class"] for i in document["images"]], whole, document["classes"])
    others, what = _validation(samples or Samples(root, "all", (), np.zeros(0, np.int32), ("",)), paths, against)
    return Made(folder, document, _finish(audit, mine, paths, others, what, preprocess, graph, progress))


def _model(model: Path | None, say: Say) -> tuple[Preprocess, ModelGraph | None, Sequence[str]]:
    """How images are prepared, the graph where it is ONNX, and the model's classes."""
    if model is None:
        return Preprocess(_ASSUMED_PIXELS), None, ()
    located = locate(model)
    spec = load_spec(model)
    graph = ModelGraph.load(located.file) if located.kind == "onnx" else None
    if graph is None:
        say(f"{located.file} is no ONNX file: activations are not measured (give the export folder to have them)")
    if spec:
        return spec.preprocess, graph, spec.classes
    size = graph.model.graph.input[0].type.tensor_type.shape.dim[-1].dim_value if graph else 0
    return imagenet_preprocess(located.file.name, size, say), graph, ()


def _refuse_other_classes(samples: Samples, classes: Sequence[str], model: Path | None) -> None:
    own = [c for c in samples.classes if c]
    if own and classes and set(own) < set(classes) and len(own) == 1:
        missing = next(c for c in classes if c not in own)
        raise DataError(f"{samples.root} has only the class '{own[0]}', {model} also knows '{missing}'",
                        f"calibrate with all classes: add a folder '{missing}'")  # fmt: skip


def _validation(samples: Samples, used: Sequence[Path], against: Path | str | None) -> tuple[list[Path], str]:
    """Images to measure the drift against, at most 256 evenly over their folder, and what they are."""
    if against is not None:
        root = resolve_root(against)
        paths, what = load_flat(split_folders(root)[1] or root), str(against)
    elif samples.paths and (val := split_folders(samples.root)[1]):
        paths, what = load_flat(val), f"{val.name}/"
    else:
        taken = {p.resolve() for p in used}
        paths, what = [p for p in samples.paths if p.resolve() not in taken], "the data's other images"
    return _evenly(paths, VALIDATION_IMAGES), what


def _evenly(paths: list[Path], n: int) -> list[Path]:
    return [paths[i] for i in np.linspace(0, len(paths) - 1, min(n, len(paths))).round().astype(int)] if paths else []


def _finish(
    audit: CalibrationAudit,
    measured: list[Measured],
    paths: list[Path],
    others: list[Path],
    what: str,
    preprocess: Preprocess,
    graph: ModelGraph | None,
    progress: Progress,
) -> dict[str, Any]:
    """The audit with the drift against `others`, as plain values."""
    activations = None
    if others:
        with progress("comparing with validation images", len(others)) as report:
            found = measure_all(others, report)
        others = [m.examined.path for m in found if not m.examined.problem]
    if others:
        add_shared(audit, measured, found)
        add_drift(audit, pixel_histograms(paths, preprocess), pixel_histograms(others, preprocess), preprocess, what)
        if graph is not None:
            stacks = [preprocess.batch([read_image(p) for p in _evenly(some, IMAGES)]) for some in (paths, others)]
            drift = activation_drift(graph, *stacks, progress)
            audit.verdicts += drift.verdicts()
            activations = drift.to_dict()
    settle(audit)
    return {**audit.to_dict(), "activations": activations}
