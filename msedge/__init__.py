"""msedge: from a YAML recipe to a small, fast, verified MindSpore Lite model.

`import msedge` is cheap: MindSpore and ONNX load when a function needs them.
"""

from __future__ import annotations

import os

from msedge.lazy import lazy_names

# onnxruntime from 1.29 on sends usage events to its maker unless this is set before it loads.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

_PUBLIC = {
    "load_recipe": "recipe",
    "create_model": "models",
    "load_weights": "models",
    "train": "training",
    "quantize": "quantization",
    "export": "exporter",
    "convert": "converter",
    "verify": "verification",
    "bench": "benchmark",
    "run": "pipeline",
    "LiteModel": "lite",
    "MsedgeError": "errors",
}

__getattr__, __dir__, __all__ = lazy_names(__name__, _PUBLIC)
