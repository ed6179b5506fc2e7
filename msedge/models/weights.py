"""Bring weights from files into a model: by timm's names (MindCV's for `mindcv:` models), with everything reported."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from msedge.errors import ModelError
from msedge.mindspore_setup import load_mindspore
from msedge.models.positions import resize_positions
from msedge.models.published import obtain
from msedge.models.tensor_files import read_weights
from msedge.progress import Progress, Say, no_progress, silent

if TYPE_CHECKING:
    from mindspore import Parameter, nn

_NOT_LEARNED = ("num_batches_tracked", "relative_position_index", "attn_mask", "attention_bias_idxs")
_HEAD = re.compile(r"head(\.fc|_dist)?\.(weight|bias)")


@dataclass(frozen=True)
class LoadReport:
    loaded: tuple[str, ...]
    missing: tuple[str, ...]  # of the model, not in the file: they keep their first values
    unexpected: tuple[str, ...]  # in the file, not of the model
    replaced_head: bool  # the classifier was of another class count and keeps its first values
    notices: tuple[str, ...]  # lines for the user


def load_weights(model: nn.Cell, path: str | Path, *, say: Say = silent, progress: Progress = no_progress) -> LoadReport:
    """Load a `.safetensors`, a `.ckpt`, a checkpoint folder or published weights into a cell of `create_model`.

    Published ones have names (msedge.models.published): `hf:timm/<name>`, `mindcv:<name>`, `published`. They come from the
    network once and from the user cache after that; `say` and `progress` tell of it.

    A head of another class count stays as it is, tables of positions are resized; both give a notice.
    Raises ArtifactError for a missing file, DownloadError for published ones that cannot be had, ModelError for a damaged
    file, for one of another model (less than half of the parameters are there) and for parameters of other shapes. The
    model is changed only if everything fits.
    """
    from msedge.models.layers import state

    path = obtain(path, model.architecture, say=say, progress=progress)
    own = state(model)
    values = _renamed(read_weights(path), own)
    fitting: dict[str, np.ndarray] = {}
    notices: list[str] = []
    head: list[str] = []
    for name in (n for n in own if n in values):
        try:
            value = _fit(name, values[name], own[name], model, notices)
        except ModelError as e:
            raise ModelError(f"{path}: {e.message}", e.hint) from None
        if value is None:
            head.append(name)
        else:
            fitting[name] = value
    if 2 * len(fitting) < len(own):
        found = f"{len(fitting)} of the {len(own)} parameters" if fitting else "no parameter"
        raise ModelError(f"{path} has {found} of {model.architecture}", _first_names(values, own))
    head_classes = values[head[0]].shape[0] if head else 0
    if head:
        notices.append(f"the head has {head_classes} classes in the file: it starts anew with {model.num_classes}")
    missing = tuple(n for n in own if n not in values)
    unexpected = tuple(n for n in values if n not in own)
    if missing:
        notices.append(f"{len(missing)} parameters are not in the file and start anew, the first is {missing[0]}")
    if unexpected:
        notices.append(f"{len(unexpected)} tensors of the file are not used, the first is {unexpected[0]}")
    assign(own, fitting)
    return LoadReport(tuple(fitting), missing, unexpected, bool(head), tuple(notices))


def assign(own: dict[str, Parameter], values: dict[str, np.ndarray]) -> None:
    load_mindspore()
    from mindspore import Tensor

    for name, value in values.items():
        own[name].set_data(Tensor(np.require(value, np.float32, ("C", "ALIGNED"))))


def _fit(name: str, value: np.ndarray, parameter: Parameter, model: nn.Cell, notices: list[str]) -> np.ndarray | None:
    """The value in the parameter's shape; None where it is a head of another class count."""
    with np.errstate(over="ignore"):
        value = np.require(value, np.float32, ("C", "ALIGNED"))
    if not np.isfinite(value).all():
        raise ModelError(f"{name} holds values that are not finite", "the weights are damaged")
    wanted = tuple(parameter.shape)
    if value.shape == wanted:
        return value
    if wanted and _is_head(name, wanted, model) and value.shape[1:] == wanted[1:]:
        return None
    if (resized := resize_positions(name, value, wanted)) is not None:
        notices.append(f"{name} is resized from {list(value.shape)} to {list(wanted)}")
        return resized
    raise ModelError(
        f"{name} is {list(value.shape)} in the file and {list(wanted)} in {model.architecture}",
        "the weights are of another model, or of one with other widths",
    )


def _is_head(name: str, wanted: tuple[int, ...], model: nn.Cell) -> bool:
    if model.architecture.startswith("mindcv:"):  # whose classifiers have many names
        return wanted[0] == model.num_classes and math.prod(wanted[2:]) == 1
    return _HEAD.fullmatch(name) is not None


def _renamed(values: dict[str, np.ndarray], own: dict[str, Parameter]) -> dict[str, np.ndarray]:
    """Without what is not learned, and with the names of Swin's first release brought to timm's of today."""
    values = {n: v for n, v in values.items() if not n.endswith(_NOT_LEARNED)}
    if "head.weight" in values and "head.fc.weight" in own:
        values = {re.sub(r"^head\.(?=weight|bias)", "head.fc.", n): v for n, v in values.items()}
        if any(n.startswith("layers.0.downsample.") for n in values):
            values = {re.sub(r"^layers\.(\d+)\.downsample\.", _next_layer, n): v for n, v in values.items()}
    return values


def _next_layer(match: re.Match) -> str:
    return f"layers.{int(match[1]) + 1}.downsample."


def _first_names(values: dict, own: dict) -> str:
    return f"the file begins with {next(iter(values), 'nothing')}, the model with {next(iter(own))}"
