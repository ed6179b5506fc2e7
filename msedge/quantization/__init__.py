"""Quantisation that keeps its accuracy: calibration, plans, quantisation-aware training, exact int8 `.ms` files."""

from __future__ import annotations

from msedge.lazy import lazy_names

_WHERE = {
    "Plan": "plan",
    "QuantizeReport": "stage",
    "load_plan": "plan",
    "quantize": "stage",
    "run_qat": "qat",
    "train_quantised": "qat",
}

__getattr__, __dir__, __all__ = lazy_names(__name__, _WHERE)
