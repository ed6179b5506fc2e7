"""What is inside a model file, in one shape for ONNX and `.ms`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from msedge.errors import ArtifactError
from msedge.runtime.locate import locate
from msedge.runtime.spec import spec_of


def describe(path: Path | str) -> dict[str, Any]:
    """format, producer, inputs, outputs, nodes, op_counts, params, bytes_by_dtype, quantised_nodes; further file,
    size_bytes, macs (None: not known) and model (the ModelSpec's values, or None).

    Reads the file without running it. Raises ArtifactError where it is missing, damaged or neither ONNX nor `.ms`.
    """
    located = locate(path)
    if located.kind == "onnx":
        from msedge.runtime import onnx_graph

        inside = onnx_graph.summary(located.file)
    elif located.kind == "lite":
        from msedge.lite.ms_file import read_ms, summary

        inside = summary(read_ms(located.file))
    else:
        raise ArtifactError(f"{located.file} is neither an ONNX nor a .ms file", "export or convert the model first")
    spec = spec_of(located)
    return {
        "macs": None,
        **inside,
        "file": str(located.file),
        "size_bytes": located.file.stat().st_size,
        "model": spec.to_dict() if spec else None,
    }
