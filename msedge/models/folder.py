"""Checkpoint folders: `model.json` beside `best.ckpt` and `last.ckpt`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from msedge.errors import ArtifactError, ModelError
from msedge.models.spec import ModelSpec

if TYPE_CHECKING:
    from mindspore import nn


def load_checkpoint_folder(folder: Path, which: str = "best") -> tuple[nn.Cell, ModelSpec]:
    """The model of a checkpoint folder in inference mode, and its spec.

    `which`: best, last, or the name of a `.ckpt` in the folder. Every parameter must be there in its shape. Raises
    ArtifactError if a file is missing, ModelError if one is damaged or they do not belong together.
    """
    from msedge.models.checkpoint import read_checkpoint
    from msedge.models.create import build
    from msedge.models.layers import state
    from msedge.models.tensor_files import model_part
    from msedge.models.weights import assign

    folder = Path(folder)
    if not folder.is_dir():
        raise ArtifactError(f"there is no folder {folder}", "a checkpoint folder of `msedge train` is needed")
    spec = ModelSpec.load(folder)
    path = folder / (which if which.endswith(".ckpt") else f"{which}.ckpt")
    values = model_part(read_checkpoint(path))
    cell = build(spec)
    own = state(cell)
    if missing := [n for n in own if n not in values]:
        raise ModelError(f"{path} lacks {len(missing)} parameters of {spec.architecture}, the first is {missing[0]}")
    for name, parameter in own.items():
        if values[name].shape != tuple(parameter.shape):
            raise ModelError(
                f"{path}: {name} is {list(values[name].shape)}, but model.json describes {list(parameter.shape)}",
                f"model.json says {spec.architecture} with {spec.num_classes} classes: the two are of different runs",
            )
    assign(own, {n: values[n] for n in own})
    return cell, spec
