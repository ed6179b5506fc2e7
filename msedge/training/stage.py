"""`msedge.train`: from a recipe to checkpoint folders."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path

from msedge.data.batches import EvalBatches, TrainBatches
from msedge.data.folder import Samples, load_samples
from msedge.data.preprocess import Preprocess
from msedge.data.scan import scan
from msedge.errors import UserError
from msedge.mindspore_setup import graph_mode, load_mindspore
from msedge.models import create_model, load_weights, spec_of
from msedge.models.spec import ModelSpec
from msedge.recipe import ModelConfig, Recipe, load_recipe
from msedge.training.folder import close_folder, finished, open_folder, result
from msedge.training.interrupt import StopRequest, stop_on_signals
from msedge.training.loop import Fitting
from msedge.training.reporting import Reporter
from msedge.training.tasks import Classify, DistillLogits, DistillMaps, MapShapes
from msedge.training.teacher import CellTeacher, OnnxTeacher, Teacher, adapt, check_classes
from msedge.training.teacher_cache import TeacherLogits, teacher_images

ms = load_mindspore()


@dataclass(frozen=True)
class TrainResult:
    """What a training stage leaves: one entry for each checkpoint folder, the student (or only model) last."""

    folders: tuple[dict, ...]

    def to_dict(self) -> dict:
        return {"folders": list(self.folders)}


def train(recipe: Recipe | str | Path, out: str | Path, *, resume: bool = False, only: str | None = None) -> TrainResult:
    """Train what the recipe describes; checkpoint folders come to `out`, or `out/teacher` and `out/student`.

    `only` is "teacher" or "student" to train one of the two (the student then needs a finished `out/teacher`).
    Raises RecipeError, DataError, ModelError, ArtifactError for wrong input, CheckFailed when the loss diverges, and
    Stopped (a KeyboardInterrupt) after saving when the user interrupts.
    """
    recipe = recipe if isinstance(recipe, Recipe) else load_recipe(recipe)
    out = Path(out)
    with stop_on_signals() as stop, graph_mode():
        if recipe.teacher is None:
            return TrainResult((_train_one(recipe, out, "model", resume, stop),))
        done = []
        teacher_recipe = _teacher_recipe(recipe)
        if teacher_recipe and only != "student":
            done.append(_train_one(teacher_recipe, out / "teacher", "teacher", resume, stop, reuse=True))
        if only != "teacher":
            teacher = _open_teacher(recipe, out / "teacher")
            done.append(_train_one(recipe, out / "student", "student", resume, stop, teacher=teacher))
        return TrainResult(tuple(done))


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


def _train_one(
    recipe: Recipe,
    out: Path,
    label: str,
    resume: bool,
    stop: StopRequest,
    *,
    teacher: Teacher | None = None,
    reuse: bool = False,
) -> dict:
    ms.set_seed(recipe.seed)
    train_set, val_set = load_data(recipe, Reporter(label, 0, 0).say)
    model, spec = make_model(recipe.model, train_set.classes, recipe.seed)
    if reuse and finished(out):
        resume = True
    on = open_folder(out, recipe, spec, resume=resume)
    if finished(out):
        done = result(out)
        Reporter(label, 0, 0).say(f"{label}: {out} is finished (val {done['val_accuracy']:.1%}); nothing to do")
        return done
    fitting = _fitting(recipe, spec, model, train_set, val_set, out, label, teacher)
    with Reporter(label, recipe.train.epochs, fitting.train.steps_per_epoch) as reporter:
        reporter.batch(recipe.data.batch_size)
        reporter.say(
            f"{label}: {spec.architecture} at {spec.image_size} px, {len(train_set.paths)} training and "
            f"{len(val_set.paths)} validation images of {len(train_set.classes)} classes from {describe_data(recipe)}"
        )
        if on:
            fitting.resume()
            p = fitting.progress
            reporter.say(f"{label}: going on from epoch {p.epoch + 1}, step {p.step_in_epoch + 1}")
        progress = fitting.fit(reporter, stop)
    close_folder(
        out,
        recipe,
        best_accuracy=progress.best_accuracy,
        best_epoch=progress.best_epoch,
        val_images=len(val_set.paths),
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


def make_model(config: ModelConfig, classes: tuple[str, ...], seed: int):
    """The cell and its spec for these classes, with the weights that the recipe names."""
    model = create_model(config.name, len(classes), config.image_size, seed=seed, **config.config)
    if config.weights:
        for notice in load_weights(model, config.weights).notices:
            Reporter("weights", 0, 0).say(notice)
    return model, spec_of(model, classes)


def _fitting(
    recipe: Recipe,
    spec: ModelSpec,
    model,
    train_set: Samples,
    val_set: Samples,
    out: Path,
    label: str,
    teacher: Teacher | None,
) -> Fitting:
    seed, smoothing = recipe.seed, recipe.train.label_smoothing
    stream = TrainBatches(train_set, spec.preprocess, recipe.data, size=spec.image_size, seed=seed)
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
        val=EvalBatches(val_set, spec.preprocess, recipe.data.eval_batch_size),
        out=out,
        seed=seed,
        label=label,
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
    import numpy as np

    probe = np.zeros((1, 3, own.size, own.size), np.float32)
    shapes = MapShapes(model.taps(ms.Tensor(probe)), teacher.cell.taps(ms.Tensor(adapt(probe, own, teacher.preprocess))))
    for wanted, pairs, what in (
        (d.feature, shapes.features, "features"),
        (d.attention, shapes.attention, "attention maps"),
    ):
        if wanted and not pairs:
            raise UserError(f"teacher and student have no {what} of comparable size", f"set distill.{what.split()[0][:7]} to 0")
    return DistillMaps(model, teacher.cell, d, smoothing, shapes), teacher_images(teacher, own)
