"""What a person sees while training: a bar on a terminal, plain lines in a log."""

from __future__ import annotations

import sys
import time


class Reporter:
    """Shows loss, accuracy, images/s and time left. All of it goes to stderr."""

    LINE_EVERY = 20.0  # seconds, where stderr is no terminal

    def __init__(self, label: str, epochs: int, steps: int, batch: int):
        self.label, self.epochs, self.steps, self.images = label, epochs, steps, batch
        self.bars = self.task = None
        self.last_line = time.monotonic()
        self.rate = 0.0

    def __enter__(self) -> Reporter:
        if sys.stderr.isatty():
            from rich.console import Console
            from rich.progress import BarColumn, Progress, TextColumn

            text = TextColumn("{task.description}")
            self.bars = Progress(text, BarColumn(24), TextColumn("{task.fields[info]}"), console=Console(stderr=True))
            self.bars.start()
            self.task = self.bars.add_task(self.label, total=self.steps, info="compiling the graph")
        return self

    def __exit__(self, *exc) -> None:
        if self.bars:
            self.bars.stop()

    def say(self, text: str) -> None:
        if self.bars:
            self.bars.console.print(text, highlight=False)
        else:
            print(text, file=sys.stderr, flush=True)

    def step(self, epoch: int, step: int, loss: float, accuracy: float, images_per_s: float | None) -> None:
        """Report the state after `step` of `epoch` (both counted from 1); no speed for the step that compiled."""
        info = f"loss {loss:.3f}  acc {accuracy:.1%}"
        if images_per_s:
            self.rate = 0.9 * self.rate + 0.1 * images_per_s if self.rate else images_per_s
            info += f"  {self.rate:.0f} img/s  {self._left(epoch, step)} left"
        if self.bars:
            self.bars.update(self.task, completed=step, description=f"{self.label} epoch {epoch}/{self.epochs}", info=info)
        elif time.monotonic() - self.last_line >= self.LINE_EVERY:
            self.last_line = time.monotonic()
            self.say(f"{self.label} epoch {epoch}/{self.epochs} step {step}/{self.steps}  {info}")

    def epoch(self, row: dict, best: bool) -> None:
        self.last_line = time.monotonic()
        agreement = f"  agreement {row['val_agreement']:.1%}" if "val_agreement" in row else ""
        self.say(
            f"{self.label} epoch {row['epoch']}/{self.epochs}  loss {row['loss']:.3f}  train {row['train_accuracy']:.1%}  "
            f"val {row['val_accuracy']:.1%}{agreement}{' (best)' if best else ''}  {row['images_per_s']:.0f} img/s"
        )

    def _left(self, epoch: int, step: int) -> str:
        images = ((self.epochs - epoch) * self.steps + self.steps - step) * self.images
        seconds = images / self.rate
        return f"{seconds / 60:.0f} min" if seconds >= 90 else f"{seconds:.0f} s"
