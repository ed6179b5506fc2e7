"""Export: a cell to MindIR and to ONNX in the forms that runtimes fuse. Nothing heavy is imported before it is used."""

from __future__ import annotations

from importlib import import_module
from typing import Any

_WHERE = {
    "cell_to_mindir": "mindir_writer",
    "export": "stage",
    "export_cell": "stage",
    "mindir_to_onnx": "onnx_writer",
}

__all__ = sorted(_WHERE)


def __getattr__(name: str) -> Any:
    if name in _WHERE:
        return getattr(import_module(f"msedge.exporter.{_WHERE[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(set(globals()) | set(_WHERE))
