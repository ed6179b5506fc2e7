"""What a run needs to go on after any death: parameters, moments and progress in one atomic file, `last.ckpt`."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from msedge.errors import ArtifactError
from msedge.mindspore_setup import load_mindspore
from msedge.models import read_checkpoint, save_checkpoint

ms = load_mindspore()

from mindspore import Parameter, Tensor  # noqa: E402

_PROGRESS = "msedge.progress"


@dataclass
class Progress:
    """Where a run stands. `epoch` and `step_in_epoch` name the next step to take; sums are over the running epoch."""

    epoch: int = 0
    step_in_epoch: int = 0
    best_accuracy: float = -1.0
    best_epoch: int = -1
    sums: dict[str, float] = field(default_factory=dict)
    right: int = 0
    seen: int = 0
    seconds: float = 0.0
    timed: int = 0  # images that `seconds` is for
    history: list[dict] = field(default_factory=list)


class RunState:
    """Named parameters of everything that training changes: model, moments, average, distillation projections."""

    def __init__(self, groups: dict[str, list[Parameter]]):
        self.parameters = {f"{group}:{p.name}": p for group, ps in groups.items() for p in ps}

    def save(self, path: Path, progress: Progress) -> None:
        text = json.dumps(dataclasses.asdict(progress)).encode()
        values = {name: p.asnumpy() for name, p in self.parameters.items()}
        save_checkpoint({**values, _PROGRESS: np.frombuffer(text, np.uint8)}, path)

    def load(self, path: Path) -> Progress:
        """Restore everything; raises ArtifactError if the file is damaged or belongs to another run."""
        values = read_checkpoint(path)
        try:
            progress = Progress(**json.loads(values.pop(_PROGRESS).tobytes()))
        except (KeyError, ValueError, TypeError):
            raise ArtifactError(f"{path} is not a training state of msedge", "resume from the --out of a run") from None
        wrong = [n for n, p in self.parameters.items() if n not in values or values[n].shape != p.shape]
        if wrong or len(values) != len(self.parameters):
            raise ArtifactError(f"{path} belongs to another recipe: {wrong[0] if wrong else 'it has more parameters'}")
        for name, p in self.parameters.items():
            p.set_data(Tensor(values[name]))
        return progress
