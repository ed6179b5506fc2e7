"""msedge: from a YAML recipe to a small, fast, verified MindSpore Lite model.

`import msedge` is cheap: MindSpore and ONNX load when a function needs them.
"""

from __future__ import annotations

import os
from importlib import import_module

# onnxruntime from 1.29 on sends usage events to its maker unless this is set before it loads.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

_PUBLIC = {
    "load_recipe": "msedge.recipe",
    "create_model": "msedge.models",
    "load_weights": "msedge.models",
    "train": "msedge.training",
    "export": "msedge.exporter",
    "convert": "msedge.converter",
    "verify": "msedge.verification",
    "bench": "msedge.benchmark",
    "run": "msedge.pipeline",
    "LiteModel": "msedge.lite",
    "MsedgeError": "msedge.errors",
}

__all__ = sorted(_PUBLIC)


def __getattr__(name: str):
    if name not in _PUBLIC:
        raise AttributeError(f"module 'msedge' has no attribute '{name}'")
    return getattr(import_module(_PUBLIC[name]), name)


def __dir__():
    return __all__
