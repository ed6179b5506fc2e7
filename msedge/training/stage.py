"""`msedge.train`: from a recipe to checkpoint folders."""

from __future__ import annotations

import dataclasses
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from msedge.data.batches import EvalBatches, TrainBatches
from msedge.data.folder import Samples, load_samples
from msedge.data.preprocess import Preprocess
from msedge.data.scan import scan
from msedge.errors import UserError
from msedge.mindspore_setup import graph_mode, load_mindspore
from msedge.models import create_model, describe, load_weights, spec_of
from msedge.models.published import obtain
from msedge.models.spec import ModelSpec
from msedge.progress import Progress, no_progress
from msedge.recipe import ModelConfig, Recipe, load_recipe
from msedge.training.folder import close_folder, finished, open_folder, result
from msedge.training.interrupt import stop_on_signals
from msedge.training.loop import LAST, Fitting
from msedge.training.reporting import Reporter
from msedge.training.tasks import Classify, DistillLogits, DistillMaps, MapShapes
from msedge.training.teacher import CellTeacher, OnnxTeacher, Teacher, adapt, check_classes
from msedge.training.teacher_cache import TeacherLogits, teacher_images

ms = load_mindspore()

from mindspore import nn  # noqa: E402


@dataclass(frozen=True)
class TrainResult:
    """What a training stage leaves: one entry for each checkpoint folder, the student (or only model) last."""

    folders: tuple[dict, ...]

    def to_dict(self) -> dict:
        return {"folders": list(self.folders)}


def train(
    recipe: Recipe | str | Path,
    out: str | Path,
    *,
    resume: bool = False,
    only: str | None = None,
    progress: Progress = no_progress,
) -> TrainResult:
    """Train what the recipe describes; checkpoint folders come to `out`, or `out/teacher` and `out/student`.

    `only` is "teacher" or "student" to train one of the two (the student then needs a finished `out/teacher`);
    `progress` counts the bytes of published weights that have to be fetched.
    Raises RecipeError, DataError, ModelError, ArtifactError, DownloadError for wrong input, CheckFailed when the loss
    diverges, and Stopped (a KeyboardInterrupt) after saving when the user interrupts.
    """
    recipe = recipe if isinstance(recipe, Recipe) else load_recipe(recipe)
    out = Path(out)
    with graph_mode():
        if recipe.teacher is None:
            return TrainResult((_train_one(_prepare(recipe, out, "model", resume, progress)),))
        teacher_recipe = _teacher_recipe(recipe)
        plans = []  # all are prepared before the first is trained: a mistake in the student must not cost a teacher
        if teacher_recipe and only != "student":
            again = resume or finished(out / "teacher")
            plans.append(_prepare(teacher_recipe, out / "teacher", "teacher", again, progress))
        if only != "teacher":
            plans.append(_prepare(recipe, out / "student", "student", resume, progress))
        return TrainResult(
            tuple(
                _train_one(plan, _open_teacher(recipe, out / "teacher") if plan.label == "student" else None) for plan in plans
            )
        )


def _teacher_recipe(recipe: Recipe) -> Recipe | None:
    """The recipe that trains the teacher, or None if the teacher comes ready-made."""
    t = recipe.teacher
    if t.recipe:
        return load_recipe(t.recipe)
    if not t.model:
        return None
    data = dataclasses.replace(recipe.data, augment=t.augment) if t.augment else recipe.data
    return dataclasses.replace(recipe, data=data, model=t.model, train=t.train or recipe.train, teacher=None)


def _open_teacher(recipe: Recipe, trained: Path) -> Teacher:
    t = recipe.teacher
    if t.onnx:
        return OnnxTeacher(Path(t.onnx))
    return CellTeacher(Path(t.checkpoint) if t.checkpoint else trained)


@dataclass(frozen=True)
class _Plan:
    """A model whose data, architecture, first weights and output folder have been found to be in order."""

    recipe: Recipe
    out: Path
    label: str
    train_set: Samples
    val_set: Samples
    model: nn.Cell
    spec: ModelSpec
    started: bool  # `out` holds a state to go on from


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def _prepare(recipe: Recipe, out: Path, label: str, resume: bool, progress: Progress) -> _Plan:
    ms.set_seed(recipe.seed)
    describe(recipe.model.name, image_size=recipe.model.image_size, **recipe.model.config)  # before anything is fetched
    weights = None
    if recipe.model.weights and not (resume and (out / LAST).is_file()):
        weights = obtain(recipe.model.weights, recipe.model.name, say=_say, progress=progress)
    train_set, val_set = load_data(recipe, _say)
    model, spec = make_model(recipe.model, train_set.classes, recipe.seed, weights)
    started = open_folder(out, recipe, spec, resume=resume)
    return _Plan(recipe, out, label, train_set, val_set, model, spec, started)


def _train_one(plan: _Plan, teacher: Teacher | None = None) -> dict:
    recipe, out, label, spec = plan.recipe, plan.out, plan.label, plan.spec
    if finished(out):
        done = result(out)
        _say(f"{label}: {out} is finished (val {done['val_accuracy']:.1%}); nothing to do")
        return done
    fitting = _fitting(plan, teacher)
    with Reporter(label, recipe.train.epochs, fitting.train.steps_per_epoch, recipe.data.batch_size) as reporter:
        reporter.say(
            f"{label}: {spec.architecture} at {spec.image_size} px, {len(plan.train_set)} training and "
            f"{len(plan.val_set)} validation images of {len(spec.classes)} classes from {describe_data(recipe)}"
        )
        if plan.started:
            fitting.resume()
            p = fitting.progress
            reporter.say(f"{label}: going on from epoch {p.epoch + 1}, step {p.step_in_epoch + 1}")
        with stop_on_signals() as stop:
            progress = fitting.fit(reporter, stop)
    close_folder(
        out,
        recipe,
        best_accuracy=progress.best_accuracy,
        best_epoch=progress.best_epoch,
        val_images=len(plan.val_set),
        data=describe_data(recipe),
        parents={"teacher": teacher.sha256} if teacher else {},
    )
    return result(out)


def describe_data(recipe: Recipe) -> str:
    return "builtin:catdog (drawn pictures, not photos)" if recipe.data.root == "builtin:catdog" else recipe.data.root


def load_data(recipe: Recipe, say) -> tuple[Samples, Samples]:
    """Training and validation samples without the images that cannot be read; those are reported by `say`."""
    d = recipe.data
    sets = []
    for split, limit in (("train", d.max_train), ("val", d.max_val)):
        samples = load_samples(d.root, split, val_fraction=d.val_fraction, seed=0, drawn=d.drawn, limit=limit)
        report = scan(samples)
        for path, reason in report.bad:
            say(f"skipped {path}: {reason}")
        sets.append(report.good)
    return sets[0], sets[1]


def make_model(config: ModelConfig, classes: tuple[str, ...], seed: int, weights: Path | None):
    """The cell and its spec for these classes, with weights from a file where one is given."""
    model = create_model(config.name, len(classes), config.image_size, seed=seed, **config.config)
    if weights:
        for notice in load_weights(model, weights).notices:
            _say(f"weights: {notice}")
    return model, spec_of(model, classes)


def _fitting(plan: _Plan, teacher: Teacher | None) -> Fitting:
    recipe, spec, model = plan.recipe, plan.spec, plan.model
    seed, smoothing = recipe.seed, recipe.train.label_smoothing
    stream = TrainBatches(plan.train_set, spec.preprocess, recipe.data, size=spec.image_size, seed=seed)
    task, extra = Classify(model, smoothing), None
    if teacher:
        check_classes(teacher, spec.classes)
        task, extra = _distillation(recipe, model, spec.preprocess, teacher, stream)
    return Fitting(
        spec=spec,
        model=model,
        task=task,
        config=recipe.train,
        train=stream,
        val=EvalBatches(plan.val_set, spec.preprocess, recipe.data.eval_batch_size),
        out=plan.out,
        seed=seed,
        label=plan.label,
        **({"extra": extra} if extra else {}),
    )


def _distillation(recipe: Recipe, model, own: Preprocess, teacher: Teacher, stream: TrainBatches):
    """The task and the source of its third input."""
    d, smoothing = recipe.distill, recipe.train.label_smoothing
    if not (d.feature or d.attention):
        views = recipe.data.augment.views
        logits = TeacherLogits(teacher, own, stream.stream_key(), stream.steps_per_epoch, views=views, keep=d.cache)
        return DistillLogits(model, d, smoothing), logits
    if teacher.cell is None:
        raise UserError(f"{teacher.name} gives logits only", "set distill.feature and distill.attention to 0")
    probe = np.zeros((1, 3, own.size, own.size), np.float32)
    shapes = MapShapes(model.taps(ms.Tensor(probe)), teacher.cell.taps(ms.Tensor(adapt(probe, own, teacher.preprocess))))
    for wanted, pairs, what in (
        (d.feature, shapes.features, "features"),
        (d.attention, shapes.attention, "attention maps"),
    ):
        if wanted and not pairs:
            raise UserError(f"teacher and student have no {what} of comparable size", f"set distill.{what.split()[0][:7]} to 0")
    return DistillMaps(model, teacher.cell, d, smoothing, shapes), teacher_images(teacher, own)
