"""Conversion to MindSpore Lite with its proof: calibration, the converter's settings, parity."""

from __future__ import annotations

from msedge.lazy import lazy_names

_WHERE = {
    "ConvertReport": "report",
    "Profile": "profile",
    "convert": "conversion",
    "load_profile": "profile",
    "profile_names": "profile",
}

__getattr__, __dir__, __all__ = lazy_names(__name__, _WHERE)
