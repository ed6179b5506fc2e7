"""Quantisation-aware training: a finished float model learns to give its own answers with its tensors rounded.

What is trained is the exported ONNX graph, with BatchNorm folded into the convolutions: names are those of the plan and
of the `.ms`. Teacher is the float model itself, on the same augmented images. Only logits are compared (KL at temperature
1 by default): where the model is sure the gradient is near 0, so it works on the images whose answer rounding could turn.
"""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from msedge.artifact import read_manifest, write_bytes, write_manifest
from msedge.data.batches import EvalBatches, TrainBatches
from msedge.data.folder import Samples
from msedge.errors import ArtifactError
from msedge.exporter.golden import golden_inputs, write_golden
from msedge.mindspore_setup import graph_mode
from msedge.models import read_checkpoint, save_checkpoint
from msedge.progress import Progress, Say, no_progress
from msedge.quantization.graph import ModelGraph
from msedge.quantization.making import Making, make
from msedge.quantization.onnx_simulation import Simulation
from msedge.quantization.plan import FILE, Plan, load_plan
from msedge.quantization.qat_graphs import Agreement, Graphs, ScaleSchedule, restore
from msedge.recipe import DistillConfig, QatConfig, Recipe, TrainConfig, recipe_hash
from msedge.training.folder import RECIPE, finished, open_folder
from msedge.training.interrupt import stop_on_signals
from msedge.training.loop import BEST, HISTORY, LAST, Fitting
from msedge.training.reporting import Reporter
from msedge.training.stage import describe_data, load_data
from msedge.training.tasks import DistillLogits
from msedge.training.teacher import CellTeacher, check_classes
from msedge.training.teacher_cache import TeacherLogits

START, START_MODEL = "start.json", "start.onnx"
GOLDEN_IMAGES = 8
Start = Callable[[ModelGraph, Samples], tuple[ModelGraph, Plan]]


@dataclass(frozen=True)
class QatResult:
    """An export folder with the trained model and its plan; `report` is its manifest's entry `quantization`."""

    out: Path
    report: dict[str, Any]

    def to_dict(self) -> dict[str, Any]:
        return {"folder": str(self.out), **self.report}


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def run_qat(
    recipe: Recipe, student: Path | str, out: Path | str, *, resume: bool = False, progress: Progress = no_progress
) -> QatResult:
    """The step of a recipe with a `qat` section behind training: `student` is the checkpoint folder that it left."""
    config = recipe.qat or QatConfig()
    return train_quantised(config.checkpoint or student, out, config, recipe, resume=resume, progress=progress)


def train_quantised(
    source: Path | str,
    out: Path | str,
    config: QatConfig,
    recipe: Recipe,
    *,
    start: Start | None = None,
    resume: bool = False,
    say: Say = _say,
    progress: Progress = no_progress,
) -> QatResult:
    """Train the model of the checkpoint folder `source` for its quantised form, on the recipe's data and with its seed.

    `start` gives the weights and the plan to begin with (default: PTQ, or a weight-only plan, by `config`). `out` becomes an
    export folder with the trained weights, `plan.json` and `history.csv`. The best epoch is the one that agrees most often
    with the float model on the validation images (among equals: the one with the lowest KL); the start counts as epoch 0.
    Raises RecipeError, DataError, ModelError, ArtifactError for wrong input, CheckFailed when the loss diverges, and Stopped
    (a KeyboardInterrupt) after saving when the user interrupts.
    """
    out = Path(out)
    with graph_mode():
        teacher = CellTeacher(Path(source))
        sets = load_data(recipe, say)
        check_classes(teacher, sets[0].classes)
        recipe = dataclasses.replace(recipe, qat=config)
        started = open_folder(out, recipe, teacher.spec, resume=resume)
        if finished(out):
            say(f"qat: {out} is finished; nothing to do")
            return QatResult(out, read_manifest(out, "export")["quantization"])
        graphs = Graphs.export(teacher.cell, teacher.spec, recipe.data.batch_size)
        graph, plan = _begin(graphs.single, sets[0], config, recipe, teacher, start, out, started, say, progress)
        agreement = Agreement(teacher, EvalBatches(sets[1], teacher.spec.preprocess, recipe.data.batch_size))
        fitting = _fitting(graphs.batched_like(graph), graph, plan, agreement, config, recipe, teacher, sets, out)
        with Reporter("qat", config.epochs, fitting.train.steps_per_epoch, recipe.data.batch_size) as reporter:
            _describe(reporter.say, teacher, plan, sets, recipe)
            _resume_or_judge(fitting, started, reporter.say)
            with stop_on_signals() as stop:
                fitting.fit(reporter, stop)
        return _finish(fitting, graph, plan, config, recipe, teacher, sets, out)


def _begin(
    graph: ModelGraph, train_set: Samples, config: QatConfig, recipe: Recipe, teacher: CellTeacher, start: Start | None,
    out: Path, started: bool, say: Say, progress: Progress,
) -> tuple[ModelGraph, Plan]:  # fmt: skip
    """The weights and the plan that training begins with; of a run that goes on, those that it began with."""
    if started:
        plan = load_plan(out / START)
        if plan.made_by.get("checkpoint") != teacher.sha256:
            raise ArtifactError(
                f"{out} was started from another checkpoint", "resume with the same one, or choose another --out"
            )
        graph = ModelGraph.load(out / START_MODEL)
        plan.check(graph)
        return graph, plan
    chosen = train_set.take_balanced(config.calib_images, recipe.seed)
    if start is None:
        making = Making("weight" if config.mode == "weight" else "ptq", config.bits, config.group)
        graph, plan = make(graph, making, chosen.paths, teacher.spec.preprocess, say=say, progress=progress)
    else:
        graph, plan = start(graph, chosen)
    plan = dataclasses.replace(plan, made_by={**plan.made_by, "checkpoint": teacher.sha256})
    plan.save(out / START)
    write_bytes(out / START_MODEL, graph.model.SerializeToString(deterministic=True))
    return graph, plan


def _fitting(
    batched: ModelGraph, graph: ModelGraph, plan: Plan, agreement: Agreement, config: QatConfig, recipe: Recipe,
    teacher: CellTeacher, sets: tuple[Samples, Samples], out: Path,
) -> Fitting:  # fmt: skip
    spec, c = teacher.spec, config
    data = dataclasses.replace(recipe.data, augment=c.augment)
    stream = TrainBatches(sets[0], spec.preprocess, data, size=spec.image_size, seed=recipe.seed)
    schedule = ScaleSchedule(batched, graph, plan, c)
    distill = DistillConfig(temperature=c.temperature, kl=c.kl, alpha=c.alpha)
    fitting = Fitting(
        spec=spec,
        model=schedule.model,
        shadow=schedule.shadow,
        task=DistillLogits(schedule.model, distill, 0.0),
        config=TrainConfig(
            epochs=c.epochs, lr=c.lr, min_lr=c.min_lr, warmup_epochs=c.warmup_epochs, weight_decay=c.weight_decay,
            clip_norm=c.clip_norm, label_smoothing=0.0, ema=c.ema, save_minutes=c.save_minutes,
        ),
        train=stream,
        val=agreement.images,
        out=out,
        seed=recipe.seed,
        label="qat",
        extra=TeacherLogits(
            teacher, spec.preprocess, stream.stream_key(), stream.steps_per_epoch, views=c.augment.views,
            keep=recipe.distill.cache,
        ),
        judge=agreement.judge,
        prepare=schedule.prepare,
    )  # fmt: skip
    schedule.attach(fitting)
    return fitting


def _describe(say: Say, teacher: CellTeacher, plan: Plan, sets: tuple[Samples, Samples], recipe: Recipe) -> None:
    counts = ", ".join(f"{len(plan.of(p))} {p}" for p in ("int8", "weight", "float") if plan.of(p))
    say(
        f"qat: {teacher.name} at {teacher.spec.image_size} px, nodes: {counts}; {len(sets[0])} training and {len(sets[1])} "
        f"validation images from {describe_data(recipe)}"
    )


def _resume_or_judge(fitting: Fitting, started: bool, say: Say) -> None:
    """Go on, or judge the start: it is kept as the best until an epoch is better."""
    p = fitting.progress
    if started:
        fitting.resume()
        p = fitting.progress
        say(f"qat: going on from epoch {p.epoch + 1}, step {p.step_in_epoch + 1}")
        return
    p.best_accuracy, columns = fitting.score()
    p.history.append({"epoch": 0, **columns})
    save_checkpoint(fitting.shadow, fitting.out / BEST)
    say(f"qat: at the start agreement {columns['val_agreement']:.1%}, val {columns['val_accuracy']:.1%}")


def _finish(
    fitting: Fitting, graph: ModelGraph, start: Plan, config: QatConfig, recipe: Recipe, teacher: CellTeacher,
    sets: tuple[Samples, Samples], out: Path,
) -> QatResult:  # fmt: skip
    """Write the export folder of the best epoch; what only a running training needs goes."""
    cell, best = fitting.shadow, fitting.progress.best_epoch + 1
    restore(cell, read_checkpoint(out / BEST))
    values = cell.weights()
    model = graph.with_weights({name: values[name] for name in fitting.model.learned_weights()})
    judged = {row["epoch"]: row for row in fitting.progress.history}
    columns = ("val_agreement", "val_accuracy", "val_kl")
    report = {
        "method": "qat",
        "settings": dataclasses.asdict(config),
        "best_epoch": best,
        "val_images": len(sets[1]),
        "float_accuracy": judged[0]["float_accuracy"],
        "start": {k: judged[0][k] for k in columns},
        **{k: judged[best][k] for k in columns},
    }
    plan = Plan(graph.fingerprint, {**start.tensors, **cell.tensors()}, start.nodes, {**report, "start_plan": start.made_by})
    plan = ScaleSchedule.on_grid(model, plan)
    plan.check(model)
    write_bytes(out / "model.onnx", model.model.SerializeToString(deterministic=True))
    plan.save(out / FILE)
    first = next(iter(fitting.val))
    inputs = golden_inputs(teacher.spec.preprocess, GOLDEN_IMAGES, first.images[: first.valid])
    write_golden(out / "golden.npz", inputs, Simulation(model).logits(inputs))
    files = ["model.onnx", "golden.npz", "model.json", FILE, HISTORY, RECIPE]
    write_manifest(
        out, "export", files, parents={"checkpoint": teacher.sha256}, recipe_sha256=recipe_hash(recipe), quantization=report,
        data=describe_data(recipe),
    )  # fmt: skip
    for name in (LAST, BEST, START, START_MODEL):
        (out / name).unlink(missing_ok=True)
    return QatResult(out, report)
