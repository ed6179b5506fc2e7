"""Weights files of every kind that is safe to open, as named float arrays."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from msedge.errors import ArtifactError, ModelError
from msedge.models.safetensors_file import read_safetensors

_RUN_STATE = "model:"  # in last.ckpt the model's parameters stand behind this mark, beside the optimiser's


def read_weights(path: Path) -> dict[str, np.ndarray]:
    """Named arrays of a `.safetensors`, a `.ckpt`, or the `best.ckpt` of a checkpoint folder.

    Raises ArtifactError if there is no such file, ModelError for a damaged file or a format that could run code.
    """
    path = Path(path)
    if path.is_dir():
        path = path / "best.ckpt"
    if not path.is_file():
        raise ArtifactError(f"there are no weights at {path}", "a .safetensors, a .ckpt or a checkpoint folder is needed")
    if path.suffix == ".safetensors":
        return read_safetensors(path)
    if path.suffix == ".ckpt":
        from msedge.models.checkpoint import read_checkpoint

        return model_part(read_checkpoint(path))
    raise ModelError(
        f"{path} is neither .safetensors nor .ckpt",
        "pickled weights (.pth, .pt, .bin) can run code when opened: take the .safetensors of the same model",
    )


def model_part(values: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Of a training state the model's parameters; other checkpoints as they are."""
    part = {n.removeprefix(_RUN_STATE): v for n, v in values.items() if n.startswith(_RUN_STATE)}
    return part or values
