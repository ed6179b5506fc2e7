"""Export: a cell to MindIR and to ONNX in the forms that runtimes fuse. Nothing heavy is imported before it is used."""

from __future__ import annotations

from msedge.lazy import lazy_names

_WHERE = {
    "cell_to_mindir": "mindir_writer",
    "export": "stage",
    "export_cell": "stage",
    "mindir_to_onnx": "onnx_writer",
}

__getattr__, __dir__, __all__ = lazy_names(__name__, _WHERE)
