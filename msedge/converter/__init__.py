"""Conversion to MindSpore Lite with its proof: calibration, the converter's settings, parity."""

from __future__ import annotations

from importlib import import_module
from typing import Any

_WHERE = {
    "ConvertReport": "report",
    "Profile": "profile",
    "convert": "conversion",
    "load_profile": "profile",
    "profile_names": "profile",
}

__all__ = sorted(_WHERE)


def __getattr__(name: str) -> Any:
    if name in _WHERE:
        return getattr(import_module(f"msedge.converter.{_WHERE[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
