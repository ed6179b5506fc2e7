"""What a model file says of itself: `model.json` beside it, or the metadata of an ONNX file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

from msedge.errors import ArtifactError
from msedge.runtime.locate import SPEC_FILE, Located, locate

if TYPE_CHECKING:
    from msedge.models import ModelSpec

ONNX_KEY = "msedge.model"


def load_spec(path: Path | str) -> ModelSpec | None:
    """The ModelSpec of a model file or folder, without loading the model; None where nothing says it.

    Raises ArtifactError for a damaged `model.json`, ModelError for one that describes an impossible model.
    """
    return spec_of(locate(path))


def spec_of(located: Located) -> ModelSpec | None:
    beside = located.folder / SPEC_FILE
    if beside.is_file():
        from msedge.models import ModelSpec

        return ModelSpec.load(beside)
    if located.kind == "onnx":
        return _from_metadata(located.file)
    return None


def _from_metadata(file: Path) -> ModelSpec | None:
    from msedge.runtime.onnx_graph import load_graph

    text = next((p.value for p in load_graph(file).metadata_props if p.key == ONNX_KEY), None)
    if text is None:
        return None
    from msedge.models import ModelSpec

    try:
        values = json.loads(text)
    except ValueError:
        raise ArtifactError(f"{file}: the metadata '{ONNX_KEY}' is not JSON") from None
    return ModelSpec.from_dict(values)
