"""Architectures, their descriptions, weights and checkpoint folders. Nothing heavy is imported before it is used."""

from __future__ import annotations

from importlib import import_module
from typing import Any

_WHERE = {
    "Architecture": "registry",
    "LoadReport": "weights",
    "ModelSpec": "spec",
    "architecture": "registry",
    "build": "create",
    "count_macs": "count",
    "count_params": "count",
    "create_model": "create",
    "default_preprocess": "create",
    "describe": "create",
    "drop_path_sites": "layers",
    "list_models": "registry",
    "load_checkpoint_folder": "folder",
    "load_weights": "weights",
    "read_checkpoint": "checkpoint",
    "save_checkpoint": "checkpoint",
    "spec_of": "create",
    "state": "layers",
}

__all__ = sorted(_WHERE)


def __getattr__(name: str) -> Any:
    if name in _WHERE:
        return getattr(import_module(f"msedge.models.{_WHERE[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(set(globals()) | set(_WHERE))
