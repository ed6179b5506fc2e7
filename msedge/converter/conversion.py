"""From a trained model to a `.ms` that was loaded, run and compared before anyone sees it."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from msedge.artifact import write_json, write_manifest, write_text, writing
from msedge.converter import ini
from msedge.converter.calibration import Calibration, choose, write_bins
from msedge.converter.modes import canonical_format, canonical_quant
from msedge.converter.parity import PARITY_IMAGES, measure_parity, parity_images
from msedge.converter.profile import Mode, Profile, load_profile
from msedge.converter.report import ConvertReport
from msedge.converter.source import Source, check_source, locate_source, resolve_source
from msedge.converter.staging import check_replaceable, staged_folder
from msedge.data.calib import CalibrationSet
from msedge.errors import ArtifactError, DataError, ModelError, MsedgeError, ToolError, ToolFailed, ToolMissing, UserError
from msedge.lite.ms_file import read_ms, summary
from msedge.lite.protocol import ConvertOutcome, ConvertRequest, Toolchain
from msedge.recipe import GateConfig
from msedge.runtime import Runner, open_runner
from msedge.runtime.base import short_name
from msedge.runtime.lite_runner import toolchain_for
from msedge.runtime.onnx_graph import load_graph
from msedge.runtime.preparation import preprocess_for
from msedge.runtime.progress import Progress, Say, no_progress, silent
from msedge.verification import conversion_thresholds

if TYPE_CHECKING:
    from msedge.models import ModelSpec

MODEL, SPEC, LOG, PARITY = "model.ms", "model.json", "convert.log", "parity.json"
FAILED_LOG = "convert-failed.log"
OWN_FILES = (MODEL, SPEC, LOG, PARITY, FAILED_LOG, "manifest.json")
_DEFAULT_GATE = GateConfig()


@dataclass(frozen=True)
class _Order:
    """What was asked for, checked."""

    quant: str
    fmk: str | None
    profile: Profile
    mode: Mode
    gate: GateConfig
    calib: Path | str | None
    calib_images: int
    data: Path | str | None
    limit: int
    timeout: float


def convert(
    source: Path | str,
    out: Path | str,
    *,
    quant: str = "none",
    calib: Path | str | None = None,
    calib_images: int = 128,
    data: Path | str | None = None,
    parity_limit: int = PARITY_IMAGES,
    target: str = "cpu",
    gate: GateConfig = _DEFAULT_GATE,
    lite: str | Path | Toolchain | None = None,
    fmk: str | None = None,
    timeout: float = 600.0,
    say: Say = silent,
    progress: Progress = no_progress,
) -> ConvertReport:
    """Convert a checkpoint folder, export folder, `.onnx` or `.mindir` into the folder `out`, and check the result.

    `out` receives model.ms, model.json (where the source has one), convert.log, parity.json and manifest.json, all at
    once; also where the gate does not hold, which `report.passed` says. `quant` is none, fp16 or PostTraining in any
    spelling; PostTraining needs `calib` (a dataset, class folders, any folder of images, or builtin:catdog). `data` are
    images to judge the result on (see `parity`). `lite` is a toolchain or where to find one; where there is none it is
    installed. Raises UserError and its kinds for wrong input, ToolFailed, ToolTimeout, ToolMissing.
    """
    order = _Order(
        quant=(mode := canonical_quant(quant)),
        fmk=canonical_format(fmk),
        profile=(profile := load_profile(target)),
        mode=_mode(profile, mode),
        gate=gate,
        calib=calib,
        calib_images=calib_images,
        data=data,
        limit=parity_limit,
        timeout=timeout,
    )
    out = Path(os.path.abspath(out))  # noqa: PTH100 (resolve would follow a link that is to be replaced)
    located = locate_source(source, order.fmk)
    check_source(located)
    check_replaceable(out, OWN_FILES)
    calibration = _calibration(order, say)
    toolchain = toolchain_for(lite, say)
    _check_abilities(toolchain, order)
    with _work_folder() as work:
        resolved = resolve_source(located, order.fmk, work, toolchain.info.abilities.get("mindir_version"), say)
        try:
            with staged_folder(out, OWN_FILES) as stage:
                return _convert(order, resolved, calibration, toolchain, work, stage, out, say, progress)
        except ToolError as e:
            raise _with_log(e, out) from e


def _convert(
    order: _Order,
    source: Source,
    calibration: Calibration | None,
    toolchain: Toolchain,
    work: Path,
    stage: Path,
    out: Path,
    say: Say,
    progress: Progress,
) -> ConvertReport:
    thresholds = conversion_thresholds(order.quant, order.gate)
    images = _images(order, calibration, source.spec, say)
    with open_runner(source.onnx) as reference:
        reference.spec, reference.name = source.spec, short_name(source.given)  # the ONNX may be a copy elsewhere
        sections, written = dict(order.mode.sections), None
        preprocess = preprocess_for(reference, say=say) if images else None
        if calibration:
            if reference.input_shape[0] != 1:
                raise ModelError(
                    f"{source.given} takes {reference.input_shape[0]} images at a time, calibration needs one at a time",
                    "export the model with batch 1",
                )
            say(f"calibrating with {len(calibration.paths)} images of {calibration.source}")
            written, section = write_bins(calibration, preprocess, _input_name(source), work / "calibration")
            sections |= section
        with progress("converting", 0):
            source, outcome = _run_converter(order, source, sections, toolchain, stage, say)
        inside = summary(read_ms(stage / MODEL))
        with _load_result(stage / MODEL, toolchain, outcome) as converted:
            judge_images = order.quant == "PostTraining"
            parity = measure_parity(reference, converted, source.golden, images, preprocess, judge_images, progress, say)
    reasons = thresholds.failures(parity.comparison)
    if calibration and not inside["quantised_nodes"]:
        reasons.append("the converter quantised no node")
    report = ConvertReport(
        out=out,
        quant=order.quant,
        target=order.profile.name,
        fmk=source.fmk,
        parity=parity,
        thresholds=thresholds,
        reasons=tuple(reasons),
        size_bytes=(stage / MODEL).stat().st_size,
        quantised_nodes=inside["quantised_nodes"],
        calibration_images=len(calibration.paths) if calibration else 0,
        seconds=outcome.seconds,
        worker_start_seconds=outcome.worker_start_seconds,
        toolchain=f"{toolchain.info.kind} {toolchain.info.version}",
    )
    _write_rest(report, source, outcome.log, written, stage)
    return report


def _run_converter(
    order: _Order, source: Source, sections: ini.Sections, toolchain: Toolchain, stage: Path, say: Say
) -> tuple[Source, ConvertOutcome]:
    """Convert; a MindIR that the converter fails on goes over ONNX, unless MindIR was asked for."""
    try:
        return source, toolchain.convert(_request(order, source, sections, stage))
    except ToolFailed as e:
        if source.fmk != "MINDIR" or order.fmk == "MINDIR":
            raise
        say(f"{e.message}: taking the road over ONNX")
    source = replace(source, file=source.onnx, fmk="ONNX")
    return source, toolchain.convert(_request(order, source, sections, stage))


def _load_result(model: Path, toolchain: Toolchain, outcome: ConvertOutcome) -> Runner:
    """Load what the converter wrote; that it cannot be loaded is the converter's failure and not the user's."""
    try:
        return open_runner(model, lite=toolchain)
    except ArtifactError as e:
        cause = e.__cause__ if isinstance(e.__cause__, ToolError) else None
        log = outcome.log + (cause.log if cause else "")
        reason = cause.message.rpartition(": ")[2] if cause else e.message
        raise ToolFailed(
            f"the converter wrote a model that MindSpore Lite {toolchain.info.version} cannot load: {reason}",
            "the model has an operator that this version does not run",
            log,
        ) from e


def _request(order: _Order, source: Source, sections: ini.Sections, stage: Path) -> ConvertRequest:
    return ConvertRequest(
        source=source.file,
        output=stage / MODEL,
        fmk=source.fmk,
        config_text=ini.render(sections),
        fp16_weights=order.mode.fp16_weights,
        timeout=order.timeout,
    )


def _write_rest(report: ConvertReport, source: Source, log: str, calibrated: CalibrationSet | None, stage: Path) -> None:
    if source.spec:
        source.spec.save(stage)
    write_text(stage / LOG, log)
    write_json(stage / PARITY, report.to_dict())
    files = [p.name for p in sorted(stage.iterdir())]
    write_manifest(
        stage,
        "convert",
        files,
        parents=source.parents(),
        quant=report.quant,
        target=report.target,
        toolchain=report.toolchain,
        calibration=calibrated.to_dict() if calibrated else None,
    )


def _mode(profile: Profile, quant: str) -> Mode:
    if quant not in profile.modes:
        raise UserError(f"the target {profile.name} does not take {quant}", f"it takes {', '.join(profile.modes)}")
    return profile.modes[quant]


def _calibration(order: _Order, say: Say) -> Calibration | None:
    if order.quant != "PostTraining":
        return None
    if order.calib is None:
        raise DataError("PostTraining needs images to calibrate with", "give --calib DIR, or --calib builtin:catdog")
    return choose(order.calib, order.calib_images, say)


def _images(order: _Order, calibration: Calibration | None, spec: ModelSpec | None, say: Say):
    if calibration is None and order.data is None:
        return None
    classes = spec.classes if spec else None
    used: Sequence[Path] = calibration.paths if calibration else ()
    return parity_images(order.calib, used, order.data, classes, order.limit, say)


def _check_abilities(toolchain: Toolchain, order: _Order) -> None:
    able, where = toolchain.info.abilities, f"the Lite toolchain in {toolchain.info.location}"
    hint = "run msedge lite install and leave --lite and MSEDGE_LITE unset"
    needed = {"convert": "convert", "predict": "run the result, which is how it is checked"}
    if order.quant == "PostTraining":
        needed["full_quant"] = "quantise to INT8"
    for ability, words in needed.items():
        if not able.get(ability):
            raise ToolMissing(f"{where} cannot {words}", hint)


def _input_name(source: Source) -> str:
    graph = load_graph(source.onnx).graph
    weights = {i.name for i in graph.initializer}
    return next(i.name for i in graph.input if i.name not in weights)


@contextlib.contextmanager
def _work_folder():
    temporary = Path(tempfile.gettempdir())
    with writing(temporary), tempfile.TemporaryDirectory(prefix="msedge-convert-") as folder:
        yield Path(folder)


def _with_log(error: ToolError, out: Path) -> ToolError:
    """Keep what the converter printed where the user finds it, and say where; an earlier result stays as it is."""
    if not error.log:
        return error
    earlier = out.is_dir() and any(p.name != LOG for p in out.iterdir())
    log = out / (FAILED_LOG if earlier else LOG)
    try:
        write_text(log, error.log)
    except MsedgeError:
        return error
    hint = f"{error.hint}; all it printed: {log}" if error.hint else f"all it printed: {log}"
    return type(error)(error.message, hint, error.log)
