"""Architectures by name. Listing names imports neither MindSpore nor a model; asking for one imports its family."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from typing import Any

from msedge.errors import ModelError
from msedge.models.catalogue import CATALOGUE
from msedge.recipe.build import suggest

MINDCV = "mindcv:"  # prefix of the names that MindCV builds


@dataclass(frozen=True)
class Architecture:
    name: str
    cell: type  # called as cell(config, num_classes, image_size)
    config: Callable[[int], Any]  # image size to the frozen config dataclass with the widths of this name
    image_size: int  # pixels, where none is asked for
    published: dict[str, Any]  # Preprocess fields that the published weights were trained with

    def preprocess(self, image_size: int | None = None):
        """The `Preprocess` of the published weights at `image_size` pixels."""
        from msedge.data.preprocess import Preprocess

        return Preprocess(size=image_size or self.image_size, **self.published)


_registered: dict[str, Architecture] = {}


def register(cell: type, image_size: int, **published: Any):
    """Register the decorated function `name(image_size) -> config` as the architecture of that name."""

    def decorate(config: Callable[[int], Any]):
        name = config.__name__
        _registered[name] = Architecture(name, cell, config, image_size, published)
        return config

    return decorate


def list_models() -> list[str]:
    """Names of msedge's own architectures; `mindcv:<name>` gives any of MindCV's besides."""
    return list(CATALOGUE)


def architecture(name: str) -> Architecture:
    """The registered architecture. Raises ModelError with a suggestion for an unknown name."""
    if name not in CATALOGUE:
        known = suggest(name, CATALOGUE)
        raise ModelError(f"there is no model '{name}'", f"{known}; mindcv:<name> gives a model of MindCV")
    import_module(f"msedge.models.{CATALOGUE[name].family}")
    return _registered[name]
