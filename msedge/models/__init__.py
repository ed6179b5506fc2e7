"""Architectures, their descriptions, weights and checkpoint folders. Nothing heavy is imported before it is used."""

from __future__ import annotations

from msedge.lazy import lazy_names

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

__getattr__, __dir__, __all__ = lazy_names(__name__, _WHERE)
