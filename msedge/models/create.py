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


def create_model(name: str, num_classes: int = 1000, image_size: int | None = None, *, seed: int = 0, **widths: Any) -> nn.Cell:
    """Build a model in inference mode, float32 [N, 3, image_size, image_size] to logits [N, num_classes].

    `image_size` in pixels (None: that of the published weights); `widths` replace fields of the architecture's config
    dataclass. First weights are a function of `seed` and parameter names. The cell carries `architecture`, `config`,
    `num_classes` and `image_size`. Raises ModelError for an unknown name or width, and for an impossible size.
    """
    config, size = _settle(name, num_classes, image_size, widths)
    if name.startswith(MINDCV):
        from msedge.models.mindcv import MindCV

        cell = MindCV(name.removeprefix(MINDCV), config, num_classes, size, seed)
    else:
        from msedge.models.layers import initialize

        cell = architecture(name).cell(config, num_classes, size)
        initialize(cell, seed)
    cell.architecture, cell.config = name, plain(config)
    cell.num_classes, cell.image_size = num_classes, size
    return cell.set_train(False)


def _settle(name: str, num_classes: int, image_size: int | None, widths: dict[str, Any]) -> tuple[Any, int]:
    """The config with every width (MindCV's: its keyword arguments) and the image size in pixels, both checked."""
    for what, value in (("number of classes", num_classes), ("image size", image_size)):
        if value is not None and (isinstance(value, bool) or not isinstance(value, int) or value < 1):
            raise ModelError(f"{name}: the {what} is {value!r}", "a whole number from 1 on is needed")
    if name.startswith(MINDCV):
        from msedge.models.mindcv import check_mindcv

        return check_mindcv(name.removeprefix(MINDCV), widths), image_size or 224
    arch = architecture(name)
    size = image_size or arch.image_size
    config = updated(arch.config(size), widths, name)
    config.check(size)
    return config, size


def build(spec: ModelSpec) -> nn.Cell:
    """The cell that `spec` describes, in inference mode, not yet with its weights."""
    return create_model(spec.architecture, spec.num_classes, spec.image_size, **spec.config)


def describe(
    name: str,
    num_classes: int = 1000,
    image_size: int | None = None,
    classes: Sequence[str] = (),
    preprocess: Preprocess | None = None,
    **widths: Any,
) -> ModelSpec:
    """The ModelSpec of what `create_model` would build, without building it; raises ModelError likewise.

    `preprocess` None: that of the published weights at this image size.
    """
    from msedge.models.spec import ModelSpec

    config, size = _settle(name, num_classes, image_size, widths)
    preprocess = preprocess or default_preprocess(name, size)
    return ModelSpec(name, plain(config), num_classes, size, tuple(classes), preprocess)


def spec_of(cell: nn.Cell, classes: Sequence[str] = (), preprocess: Preprocess | None = None) -> ModelSpec:
    """The ModelSpec of a cell that `create_model` built."""
    return describe(cell.architecture, cell.num_classes, cell.image_size, classes, preprocess, **cell.config)


def default_preprocess(name: str, image_size: int | None = None) -> Preprocess:
    """The preprocessing that the published weights of `name` were trained with (MindCV's usual one for `mindcv:`)."""
    if name.startswith(MINDCV):
        from msedge.data.preprocess import Preprocess

        return Preprocess(size=image_size or 224, crop_pct=0.875)
    return architecture(name).preprocess(image_size)
