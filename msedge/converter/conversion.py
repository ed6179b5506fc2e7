"""From a trained model to a `.ms` that was loaded, run and compared before anyone sees it."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

from msedge.artifact import write_json, write_manifest, write_text, writing
from msedge.converter import ini
from msedge.converter.calibration import write_bins
from msedge.converter.modes import PLANNED, canonical_engine, canonical_format, canonical_quant
from msedge.converter.parity import GOLDEN, IMAGES, PLAN, Parity, measure_parity
from msedge.converter.planned import Quantised, stored_plan
from msedge.converter.profile import Mode, Profile, load_profile
from msedge.converter.report import ConvertReport
from msedge.converter.request import (
    calibration_for,
    check_abilities,
    check_one_image,
    fitting_plan,
    mode_of,
    quant_of,
)
from msedge.converter.tanh_gelu import GELU, with_tanh_gelu
from msedge.converter.unfolded import keep_unfolded
from msedge.data.calib import CalibrationSet
from msedge.data.calibration_images import Calibration, check_classes
from msedge.data.preprocess import Preprocess
from msedge.errors import ArtifactError, MsedgeError, ToolError, ToolFailed, UserError
from msedge.lite.ms_file import read_ms, summary
from msedge.lite.protocol import ConvertOutcome, ConvertRequest, Toolchain
from msedge.progress import Progress, Say, no_progress, silent
from msedge.quantization.graph import ModelGraph
from msedge.quantization.making import Making, make
from msedge.quantization.plan import FILE as PLAN_FILE
from msedge.quantization.plan import Plan
from msedge.recipe import GateConfig
from msedge.runtime import Runner, open_runner
from msedge.runtime.base import short_name
from msedge.runtime.lite_runner import toolchain_for
from msedge.runtime.onnx_graph import load_graph
from msedge.runtime.preparation import preprocess_for
from msedge.runtime.source import Source, check_source, locate_source, resolve_source
from msedge.staging import check_replaceable, staged_folder
from msedge.verification import Thresholds, conversion_thresholds
from msedge.verification.images import ImageSet
from msedge.verification.judging import JUDGING_IMAGES, judging_images

MODEL, LOG, PARITY = "model.ms", "convert.log", "parity.json"
FAILED_LOG = "convert-failed.log"
OWN_FILES = (MODEL, "model.json", LOG, PARITY, PLAN_FILE, FAILED_LOG, "manifest.json")
_DEFAULT_GATE = GateConfig()


def convert(
    source: Path | str,
    out: Path | str,
    *,
    quant: str | None = None,
    engine: str = "msedge",
    making: Making | None = None,
    calib: Path | str | None = None,
    calib_images: int = 128,
    data: Path | str | None = None,
    parity_limit: int = JUDGING_IMAGES,
    target: str = "cpu",
    gelu: str = "exact",
    gate: GateConfig = _DEFAULT_GATE,
    lite: str | Path | Toolchain | None = None,
    fmk: str | None = None,
    timeout: float = 600.0,
    say: Say = silent,
    progress: Progress = no_progress,
) -> ConvertReport:
    """Convert a checkpoint folder, export folder, `.onnx` or `.mindir` into the folder `out`, and check the result.

    `out` receives model.ms, model.json (where the source has one), convert.log, parity.json and manifest.json, all at once;
    also where the gate does not hold, which `report.passed` says. `quant` is none, fp16, PostTraining, WeightQuant or
    AwareTraining in any spelling; None follows the plan beside the source, or is none. PostTraining needs `calib` (a
    dataset, class folders, any folder of images, or builtin:catdog) unless a plan is there. `engine` converter leaves the
    quantisation to MindSpore Lite's own converter; `making` holds settings of the msedge engine. `data` are images to judge
    the result on (see `parity`). `gelu="tanh"` trades the exact GELU for its faster tanh form. `lite` is a toolchain or
    where to find one; where there is none it is installed. Raises UserError and its kinds for wrong input, ToolFailed,
    ToolTimeout, ToolMissing.
    """
    fmk, profile = canonical_format(fmk), load_profile(target)
    if gelu not in GELU:
        raise UserError(f"there is no GELU '{gelu}'", f"it is one of {', '.join(GELU)}")
    out = Path(os.path.abspath(out))  # noqa: PTH100 (resolve would follow a link that is to be replaced)
    located = locate_source(source, fmk)
    check_source(located)
    plan = stored_plan(located.file)
    quant = canonical_quant(quant or (quant_of(plan) if plan else "none"))
    engine = canonical_engine(engine, quant) if quant in PLANNED else "converter"
    mode = mode_of(profile, quant if engine == "converter" else "none")
    plan = fitting_plan(plan, quant, located.file) if engine == "msedge" else None
    making = making or Making(mode="weight" if quant == "WeightQuant" else "ptq")
    check_replaceable(out, OWN_FILES)
    calibration = None if plan else calibration_for(quant, calib, calib_images, say)
    with _work_folder() as work, staged_folder(out, OWN_FILES) as stage:
        toolchain = toolchain_for(lite, say)
        check_abilities(toolchain, quant == "PostTraining" and engine == "converter")
        resolved = resolve_source(located, fmk, work, toolchain.info.abilities.get("mindir_version"), say)
        images = None
        if calibration and resolved.spec:
            check_classes(calibration, resolved.spec.classes)
        if calibration or data is not None or (plan and calib is not None):
            classes = resolved.spec.classes if resolved.spec else None
            used = calibration.paths if calibration else ()
            images = judging_images(calib, used, data, classes, parity_limit, say)
        conversion = _Conversion(
            quant=quant,
            engine=engine,
            making=making,
            stored=plan,
            gelu=gelu,
            profile=profile,
            mode=mode,
            source=resolved,
            only_mindir=fmk == "MINDIR",
            calibration=calibration,
            images=images,
            toolchain=toolchain,
            timeout=timeout,
            work=work,
            say=say,
            progress=progress,
        )
        try:
            return conversion.run(stage, out, gate)
        except ToolError as e:
            raise _with_log(e, out) from e


@dataclass
class _Conversion:
    """One conversion whose every input is known and checked."""

    quant: str
    engine: str
    making: Making
    stored: Plan | None
    gelu: str
    profile: Profile
    mode: Mode
    source: Source
    only_mindir: bool
    calibration: Calibration | None
    images: tuple[ImageSet, str] | None
    toolchain: Toolchain
    timeout: float
    work: Path
    say: Say
    progress: Progress
    tanh_gelus: int = 0
    quantised: Quantised | None = None
    kept_float: dict[str, str] = field(default_factory=dict)

    def run(self, stage: Path, out: Path, gate: GateConfig) -> ConvertReport:
        """Convert, compare, and write everything into `stage`; `out` is where that will be."""
        with open_runner(self.source.onnx) as reference:
            # The ONNX may be a copy that stands alone in a temporary folder.
            reference.spec, reference.name = self.source.spec, short_name(self.source.given)
            preprocess = preprocess_for(reference, say=self.say) if self.images else None
            if self.engine == "msedge":
                self._quantise(reference, preprocess)
                calibrated, sections = None, self.mode.sections
            else:
                calibrated, sections = self._calibrate(reference, preprocess)
            with self.progress("converting", 0):
                outcome = self._run_converter(sections, stage / MODEL)
            if self.quantised:
                self.kept_float = self.quantised.rewrite(stage / MODEL)
                for node, why in self.kept_float.items():
                    self.say(f"{node} stays float: {why}")
            parity = self._compare(reference, preprocess, stage / MODEL, outcome)
        report = self._report(stage / MODEL, out, parity, gate, outcome)
        self._write(report, outcome.log, calibrated, stage)
        return report

    def _quantise(self, reference: Runner, preprocess: Preprocess | None) -> None:
        """Find or make the plan; the converter then gets the plan's own float model."""
        graph = ModelGraph.load(self.source.onnx)
        if self.stored:
            self.stored.check(graph)
            self.quantised = Quantised(graph, self.stored)
            return
        check_one_image(reference, self.source)
        paths = self.calibration.paths if self.calibration else None
        if paths:
            self.say(f"calibrating with {len(paths)} images of {self.calibration.source}")
        self.quantised = Quantised(*make(graph, self.making, paths, preprocess, self.say, self.progress))
        self.source = replace(self.source, file=self.quantised.onnx(self.work), fmk="ONNX")

    def _calibrate(
        self, reference: Runner, preprocess: Preprocess | None
    ) -> tuple[CalibrationSet | None, dict[str, dict[str, ini.Value]]]:
        if self.calibration is None:
            return None, self.mode.sections
        check_one_image(reference, self.source)
        self.say(f"calibrating with {len(self.calibration.paths)} images of {self.calibration.source}")
        name = _input_name(self.source.onnx)
        calibrated, section = write_bins(self.calibration, preprocess, name, self.work / "calibration")
        return calibrated, self.mode.sections | section

    def _run_converter(self, sections: ini.Sections, output: Path) -> ConvertOutcome:
        """A MindIR that the converter fails on goes over ONNX, unless MindIR was asked for."""
        if self.gelu == "tanh" and self.source.fmk == "MINDIR":
            if self.only_mindir:
                raise UserError("the tanh form of GELU is written into ONNX, not into MindIR", "leave out --fmk MINDIR")
            self.source = replace(self.source, file=self.source.onnx, fmk="ONNX")
        try:
            return self.toolchain.convert(self._request(sections, output))
        except ToolFailed as e:
            if self.source.fmk != "MINDIR" or self.only_mindir:
                raise
            self.say(f"{e.message}: taking the road over ONNX")
        self.source = replace(self.source, file=self.source.onnx, fmk="ONNX")
        return self.toolchain.convert(self._request(sections, output))

    def _request(self, sections: ini.Sections, output: Path) -> ConvertRequest:
        return ConvertRequest(
            source=self._prepared() if self.source.fmk == "ONNX" else self.source.file,
            output=output,
            fmk=self.source.fmk,
            config_text=ini.render(sections),
            fp16_weights=self.mode.fp16_weights,
            timeout=self.timeout,
        )

    def _prepared(self) -> Path:
        """The ONNX file as Lite is to see it."""
        file = self.source.file
        if self.gelu == "tanh":
            file, self.tanh_gelus = with_tanh_gelu(file, self.work)
            if not self.tanh_gelus:
                self.say(f"{short_name(self.source.given)} has no GELU to bring into its tanh form")
        return keep_unfolded(file, self.work)

    def _compare(self, reference: Runner, preprocess: Preprocess | None, model: Path, outcome: ConvertOutcome) -> Parity:
        judge = PLAN if self.quant == "AwareTraining" else IMAGES if self.quant in PLANNED else GOLDEN
        with self._load(model, outcome) as converted, contextlib.ExitStack() as stack:
            simulated = stack.enter_context(self.quantised.simulated(self.source)) if self.quantised else None
            return measure_parity(
                reference,
                converted,
                self.source.golden,
                self.images,
                preprocess,
                judge,
                self.progress,
                self.say,
                simulated,
            )

    def _load(self, model: Path, outcome: ConvertOutcome) -> Runner:
        """Load what the converter wrote; that it cannot be loaded is the converter's failure and not the user's."""
        try:
            return open_runner(model, lite=self.toolchain)
        except ArtifactError as e:
            cause = e.__cause__ if isinstance(e.__cause__, ToolError) else None
            log = outcome.log + (cause.log if cause else "")
            reason = cause.message.rpartition(": ")[2] if cause else e.message
            raise ToolFailed(
                f"the converter wrote a model that MindSpore Lite {self.toolchain.info.version} cannot load: {reason}",
                "the model has an operator that this version does not run",
                log,
            ) from e

    def _report(self, model: Path, out: Path, parity: Parity, gate: GateConfig, outcome: ConvertOutcome) -> ConvertReport:
        thresholds = conversion_thresholds(self.quant, gate)
        reasons = thresholds.failures(parity.comparison)
        if parity.planned:
            reasons += [f"against the plan: {r}" for r in Thresholds(min_cosine=gate.plan_cosine).failures(parity.planned)]
        if self.quantised:
            quantised = len(set(self.quantised.plan.of("int8", "weight")) - set(self.kept_float))
        else:
            quantised = summary(read_ms(model))["quantised_nodes"]
        if self.quant in PLANNED and not quantised:
            reasons.append("no node is quantised")
        return ConvertReport(
            out=out,
            quant=self.quant,
            engine=self.engine if self.quant in PLANNED else None,
            kept_float=self.kept_float,
            target=self.profile.name,
            fmk=self.source.fmk,
            parity=parity,
            thresholds=thresholds,
            reasons=tuple(reasons),
            size_bytes=model.stat().st_size,
            quantised_nodes=quantised,
            tanh_gelus=self.tanh_gelus,
            calibration_images=len(self.calibration.paths) if self.calibration else 0,
            seconds=outcome.seconds,
            worker_start_seconds=outcome.worker_start_seconds,
            toolchain=f"{self.toolchain.info.kind} {self.toolchain.info.version}",
        )

    def _write(self, report: ConvertReport, log: str, calibrated: CalibrationSet | None, stage: Path) -> None:
        if self.source.spec:
            self.source.spec.save(stage)
        write_text(stage / LOG, log)
        write_json(stage / PARITY, report.to_dict())
        if self.quantised:
            self.quantised.plan.save(stage / PLAN_FILE)
        write_manifest(
            stage,
            "convert",
            sorted(p.name for p in stage.iterdir()),
            parents=self.source.parents(),
            quant=report.quant,
            gelu=self.gelu,
            target=report.target,
            toolchain=report.toolchain,
            engine=report.engine,
            calibration=calibrated.to_dict() if calibrated else self.calibration and self.calibration.to_dict(),
        )


def _input_name(file: Path) -> str:
    graph = load_graph(file).graph
    weights = {i.name for i in graph.initializer}
    return next(i.name for i in graph.input if i.name not in weights)


@contextlib.contextmanager
def _work_folder() -> Iterator[Path]:
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
