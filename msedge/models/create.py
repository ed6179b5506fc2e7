"""Models from names, widths and descriptions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from msedge.errors import ModelError
from msedge.models.registry import MINDCV, architecture
from msedge.models.widths import plain, updated

if TYPE_CHECKING:
    from mindspore import nn

    from msedge.data.preprocess import Preprocess
    from msedge.models.spec import ModelSpec


def create_model(
    name: str, num_classes: int = 1000, image_size: int | None = None, *, seed: int = 0, **widths: Any
) -> nn.Cell:
    """Build a model in inference mode, float32 [N, 3, image_size, image_size] to logits [N, num_classes].

    `image_size` in pixels (None: that of the published weights); `widths` replace fields of the architecture's config
    dataclass. First weights are a function of `seed` and parameter names. The cell carries `architecture`, `config`,
    `num_classes` and `image_size`. Raises ModelError for an unknown name or width, and for an impossible size.
    """
    if isinstance(num_classes, bool) or not isinstance(num_classes, int) or num_classes < 1:
        raise ModelError(f"{name}: {num_classes!r} classes", "a whole number from 1 on is needed")
    if name.startswith(MINDCV):
        from msedge.models.mindcv import create_mindcv

        return create_mindcv(name, num_classes, image_size, seed, widths)
    arch = architecture(name)
    size = arch.image_size if image_size is None else image_size
    if isinstance(size, bool) or not isinstance(size, int) or size < 1:
        raise ModelError(f"{name}: image size {size!r}", "a whole number of pixels is needed")
    from msedge.models.layers import initialize

    config = updated(arch.config(size), widths, name)
    cell = arch.cell(config, num_classes, size)
    cell.architecture, cell.config = name, plain(config)
    cell.num_classes, cell.image_size = num_classes, size
    initialize(cell, seed)
    return cell.set_train(False)


def build(spec: ModelSpec) -> nn.Cell:
    """The cell that `spec` describes, in inference mode, not yet with its weights."""
    return create_model(spec.architecture, spec.num_classes, spec.image_size, **spec.config)


def describe(cell: nn.Cell, classes: Sequence[str] = (), preprocess: Preprocess | None = None) -> ModelSpec:
    """The ModelSpec of a cell of `create_model`. `preprocess` None: that of the published weights."""
    from msedge.models.spec import ModelSpec

    if preprocess is None:
        preprocess = default_preprocess(cell.architecture, cell.image_size)
    return ModelSpec(cell.architecture, cell.config, cell.num_classes, cell.image_size, tuple(classes), preprocess)


def default_preprocess(name: str, image_size: int | None = None) -> Preprocess:
    """The preprocessing that the published weights of `name` were trained with (MindCV's usual one for `mindcv:`)."""
    if name.startswith(MINDCV):
        from msedge.data.preprocess import Preprocess

        return Preprocess(size=image_size or 224, crop_pct=0.875)
    return architecture(name).preprocess(image_size)
