"""Any MindCV model behind msedge's interface, as `mindcv:<name>`."""

from __future__ import annotations

import contextlib
import io
import logging
import warnings
from typing import Any

import numpy as np

from msedge.errors import ModelError
from msedge.mindspore_setup import load_mindspore
from msedge.recipe.build import suggest

ms = load_mindspore()

from mindspore import nn  # noqa: E402


@contextlib.contextmanager
def _quiet():
    """MindCV prints and warns while it is imported and while it builds models."""
    level = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(level)


def _import_mindcv():
    with _quiet():
        try:
            import mindcv
        except ImportError as e:
            raise ModelError(f"MindCV cannot be imported: {e}", "pip install mindcv") from None
    return mindcv


def check_mindcv(name: str, arguments: dict[str, Any]) -> dict[str, Any]:
    """The keyword arguments for MindCV, unchanged. Raises ModelError for a name that MindCV does not have."""
    mindcv = _import_mindcv()
    if not mindcv.models.is_model(name):
        raise ModelError(f"MindCV has no model '{name}'", _near(name, mindcv.list_models()))
    return dict(arguments)


def published_url(name: str) -> str:
    """Where MindCV's own weights of the model lie. Raises ModelError for an unknown model and where there are none."""
    check_mindcv(name, {})
    if url := _import_mindcv().models.registry.get_pretrained_cfg(name).get("url"):
        return url
    raise ModelError(f"MindCV has published no weights of {name}", "train it, or take weights from a file")


def _near(name: str, known: list[str]) -> str:
    near = suggest(name, known)
    return near if near.startswith("did you") else "mindcv.list_models() lists them"


class MindCV(nn.Cell):
    """`construct`: float32 [N, 3, S, S] to logits. Parameter names are MindCV's. `taps` has neither maps nor features."""

    def __init__(self, name: str, arguments: dict[str, Any], num_classes: int, image_size: int, seed: int):
        super().__init__(auto_prefix=False)
        mindcv = _import_mindcv()
        numpy_state = np.random.get_state()
        ms.set_seed(seed)
        try:
            with _quiet():
                self.net = self._create(mindcv, name, num_classes, image_size, arguments)
        except (TypeError, ValueError, RuntimeError, LookupError, AttributeError) as e:
            raise ModelError(f"MindCV cannot build {name}: {type(e).__name__}: {str(e).splitlines()[0]}") from None
        finally:
            np.random.set_state(numpy_state)

    @staticmethod
    def _create(mindcv, name: str, num_classes: int, image_size: int, arguments: dict[str, Any]) -> nn.Cell:
        """Models with tables that depend on the image size take it as an argument, the others refuse it."""
        for keyword in ("image_size", "img_size"):
            if image_size != 224 and keyword not in arguments:
                with contextlib.suppress(TypeError):
                    return mindcv.create_model(name, num_classes=num_classes, **{keyword: image_size}, **arguments)
        return mindcv.create_model(name, num_classes=num_classes, **arguments)

    def taps(self, x):
        return self.net(x), (), ()

    def construct(self, x):
        return self.net(x)
