"""The training loop: epochs over a deterministic stream, best by validation accuracy, resumable at any step."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from msedge.data.batches import Batch, EvalBatches, TrainBatches
from msedge.data.randomness import generator
from msedge.errors import CheckFailed
from msedge.mindspore_setup import load_mindspore
from msedge.models import build, drop_path_sites, save_checkpoint, state
from msedge.models.spec import ModelSpec
from msedge.recipe import TrainConfig
from msedge.training.evaluate import Evaluator
from msedge.training.history import write_history
from msedge.training.interrupt import StopRequest
from msedge.training.reporting import Reporter
from msedge.training.state import Progress, RunState
from msedge.training.step import Average, TrainStep, learning_rate

ms = load_mindspore()

from mindspore import nn  # noqa: E402

LAST, BEST, HISTORY = "last.ckpt", "best.ckpt", "history.csv"


class Stopped(KeyboardInterrupt):
    """The user stopped the run; everything needed to go on is saved."""


@dataclass
class Fitting:
    """One model in training. `extra(batch)` gives the task's inputs after images and targets (teacher logits or images).

    `shadow` is a second cell like the model, for evaluation; `judge(evaluator)` gives the score that chooses the best
    epoch and the columns of the history (default: top-1 accuracy); `prepare(epoch)` is called before each epoch's steps.
    """

    spec: ModelSpec
    model: nn.Cell
    task: nn.Cell
    config: TrainConfig
    train: TrainBatches
    val: EvalBatches
    out: Path
    seed: int
    label: str
    extra: Callable[[int, int, Batch], tuple[np.ndarray, ...]] = lambda epoch, step, batch: ()
    shadow: nn.Cell | None = None
    judge: Callable[[Evaluator], tuple[float, dict[str, float]]] | None = None
    prepare: Callable[[int], None] = lambda epoch: None

    def __post_init__(self):
        projections = list(getattr(self.task, "project", nn.CellList()).get_parameters())
        own = list(state(self.model).values())
        trained = [p for p in own if p.requires_grad] + projections
        self.step = TrainStep(self.task, trained, self.config)
        self.shadow = self.shadow or build(self.spec)
        averaged = list(state(self.shadow).values())
        self.average = Average(own, averaged, self.config.ema) if self.config.ema else None
        self.evaluator = Evaluator(self.shadow)
        self.sites = drop_path_sites(self.model)
        self.state = RunState(
            {
                "model": own,
                "average": averaged if self.average else [],
                "moment": self.step.state(),
                "project": projections,
            }
        )
        self.progress = Progress()
        self.compiled = False
        copy_parameters(self.model, self.shadow)

    def score(self) -> tuple[float, dict[str, float]]:
        """The shadow's score, and what the history says of it."""
        if self.judge:
            return self.judge(self.evaluator)
        accuracy = self.evaluator.accuracy(self.val)
        return accuracy, {"val_accuracy": accuracy}

    def resume(self) -> None:
        self.progress = self.state.load(self.out / LAST)

    def fit(self, reporter: Reporter, stop: StopRequest) -> Progress:
        """Train to the end. Raises Stopped after saving when `stop` is set, CheckFailed when the loss is not finite."""
        p = self.progress
        while p.epoch < self.config.epochs and not self._exhausted():
            self._epoch(reporter, stop)
            self._finish_epoch(reporter)
            self._stop_if(stop)
        return p

    def _exhausted(self) -> bool:
        patience = self.config.early_stop
        return bool(patience) and self.progress.epoch - 1 - self.progress.best_epoch >= patience

    def _stop_if(self, stop: StopRequest) -> None:
        if stop.requested:
            self.state.save(self.out / LAST, self.progress)
            raise Stopped

    def _epoch(self, reporter: Reporter, stop: StopRequest) -> None:
        p, steps = self.progress, self.train.steps_per_epoch
        self.model.set_train(True)
        self.prepare(p.epoch)
        saved = time.monotonic()
        before = time.monotonic()
        batches = self.train.epoch(p.epoch, p.step_in_epoch)
        try:
            for batch in batches:
                loss = self._train_on(batch, p.epoch * steps + p.step_in_epoch + 1)
                now = time.monotonic()
                speed = len(batch.images) / (now - before) if self.compiled else None
                if self.compiled:  # the first step holds the compilation and says nothing of speed
                    p.seconds += now - before
                    p.timed += len(batch.images)
                self.compiled = True
                p.step_in_epoch += 1
                reporter.step(p.epoch + 1, p.step_in_epoch, loss, p.right / p.seen, speed)
                before = now
                if p.step_in_epoch < steps:
                    self._stop_if(stop)
                    if now - saved > self.config.save_minutes * 60:
                        self.state.save(self.out / LAST, p)
                        saved = now
        finally:
            batches.close()

    def _train_on(self, batch: Batch, step: int) -> float:
        p = self.progress
        for i, site in enumerate(self.sites):
            site.refresh(generator(self.seed, "drop_path", step, i), len(batch.images))
        extra = self.extra(p.epoch, p.step_in_epoch, batch)
        lr = learning_rate(self.config, step, self.train.steps_per_epoch)
        parts, logits = self.step.run(lr, step, batch.images, batch.targets, *extra)
        if not math.isfinite(parts["loss"]):
            raise CheckFailed(
                f"{self.label}: the loss became {parts['loss']} in epoch {p.epoch + 1}, step {p.step_in_epoch + 1}",
                "lower train.lr or raise train.warmup_epochs; the last good state is in last.ckpt if one was written",
            )
        if self.average:
            self.average.update(step)
        p.right += int((logits.argmax(1) == batch.targets.argmax(1)).sum())
        p.seen += len(batch.images)
        for name, value in parts.items():
            p.sums[name] = p.sums.get(name, 0.0) + value
        return p.sums["loss"] / (p.step_in_epoch + 1)

    def _finish_epoch(self, reporter: Reporter) -> None:
        p, steps = self.progress, self.train.steps_per_epoch
        if not self.average:
            copy_parameters(self.model, self.shadow)
        score, columns = self.score()
        best = score > p.best_accuracy
        row = {
            "epoch": p.epoch + 1,
            "lr": learning_rate(self.config, (p.epoch + 1) * steps, steps),
            **{name: total / steps for name, total in p.sums.items()},
            "train_accuracy": p.right / p.seen,
            **columns,
            "images_per_s": p.timed / p.seconds if p.seconds else 0.0,
            "seconds": p.seconds,
        }
        if best:
            p.best_accuracy, p.best_epoch = score, p.epoch
            save_checkpoint(self.shadow, self.out / BEST)
        p.history.append(row)
        p.epoch, p.step_in_epoch, p.sums, p.right, p.seen = p.epoch + 1, 0, {}, 0, 0
        p.seconds, p.timed = 0.0, 0
        self.state.save(self.out / LAST, p)
        write_history(self.out / HISTORY, p.history)
        reporter.epoch(row, best)


def copy_parameters(source: nn.Cell, target: nn.Cell) -> None:
    for s, t in zip(state(source).values(), state(target).values(), strict=True):
        t.set_data(ms.Tensor(s.asnumpy()))
