"""What is converted: any source brought to a file that the converter takes, with an ONNX file to compare it with."""

from __future__ import annotations

import io
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from msedge.artifact import sha256_file, writing
from msedge.errors import ArtifactError, UserError
from msedge.mindspore_setup import load_mindspore
from msedge.progress import Say
from msedge.runtime import Located, load_spec, locate
from msedge.runtime.fixed import fixed_onnx
from msedge.runtime.onnx_graph import load_graph

if TYPE_CHECKING:
    from msedge.models import ModelSpec

GOLDEN = "golden.npz"
_ONNX, _MINDIR = "model.onnx", "model.mindir"


@dataclass(frozen=True)
class Golden:
    """Inputs float32 [n, 3, H, W] and the source model's logits float32 [n, classes]."""

    inputs: np.ndarray
    logits: np.ndarray


@dataclass(frozen=True)
class Source:
    """`file` of format `fmk` goes to the converter; `onnx` is the same model for reference; `given` is the user's."""

    given: Path
    file: Path
    fmk: str
    onnx: Path
    spec: ModelSpec | None
    golden: Golden | None

    def parents(self) -> dict[str, str]:
        return {self.given.name: sha256_file(self.given)}


def locate_source(path: Path | str, fmk: str | None) -> Located:
    """The model file that is to be converted; in an export folder `fmk` chooses.

    Raises ArtifactError where there is none, UserError where it is a `.ms` already.
    """
    path = Path(path)
    if path.is_dir() and fmk == "MINDIR" and (path / _MINDIR).is_file():
        return Located("mindir", path / _MINDIR)
    located = locate(path)
    if located.kind == "lite":
        raise UserError(f"{located.file} is a .ms already", "convert the checkpoint or ONNX file that it was made from")
    if fmk == "MINDIR" and located.kind == "onnx":
        raise UserError(f"--fmk MINDIR: {located.file} is an ONNX file", "export with --format mindir, or leave out --fmk")
    return located


def check_source(located: Located) -> None:
    """Raise ArtifactError or ModelError for a damaged source, before anything costly is done for it."""
    if located.kind == "onnx":
        load_graph(located.file)
    load_spec(located.file)


def resolve_source(located: Located, fmk: str | None, work: Path, mindir_version: int | None, say: Say) -> Source:
    """Export what needs it into `work`. `mindir_version` is the newest that the converter reads (None: not known).

    Raises ExportError, ArtifactError, ModelError.
    """
    if located.kind == "onnx":
        golden = read_golden(located.folder / GOLDEN) if located.file.name == _ONNX else None
        file = fixed_onnx(located.file, work, say)
        return Source(located.file, file, "ONNX", file, load_spec(located.file), golden)
    if located.kind == "mindir":
        return _mindir(located, fmk, work, mindir_version, say)
    from msedge.exporter import export

    say(f"exporting {located.file}")
    folder = work / "export"
    export(located.file, folder)
    onnx = folder / _ONNX
    return Source(located.file, onnx, "ONNX", onnx, load_spec(onnx), read_golden(folder / GOLDEN))


def _mindir(located: Located, fmk: str | None, work: Path, readable: int | None, say: Say) -> Source:
    from msedge.exporter import mindir_to_onnx

    model = mindir_to_onnx(located.file)
    onnx = work / _ONNX
    with writing(work):
        onnx.write_bytes(model.SerializeToString())
    golden = read_golden(located.folder / GOLDEN) if located.file.name == _MINDIR else None
    version = mindir_version(located.file)
    spec = load_spec(located.file)
    if fmk != "ONNX" and readable is not None and version <= readable:
        return Source(located.file, located.file, "MINDIR", onnx, spec, golden)
    if fmk != "ONNX":
        reads = "does not say which it reads" if readable is None else f"reads up to {readable}"
        say(f"{located.file.name} has MindIR version {version} and the converter {reads}: taking the road over ONNX")
    return Source(located.file, onnx, "ONNX", onnx, spec, golden)


def mindir_version(file: Path) -> int:
    """The `mind_ir_version` of a MindIR file that was read before."""
    load_mindspore()
    from mindspore.train.mind_ir_pb2 import ModelProto

    return ModelProto.FromString(file.read_bytes()).mind_ir_version


def read_golden(file: Path) -> Golden | None:
    """The golden inputs and logits of an export folder, None where there are none. Raises ArtifactError if damaged."""
    if not file.is_file():
        return None
    try:
        with np.load(io.BytesIO(file.read_bytes()), allow_pickle=False) as arrays:
            golden = Golden(np.asarray(arrays["inputs"], np.float32), np.asarray(arrays["logits"], np.float32))
    except (OSError, ValueError, KeyError, zipfile.BadZipFile, EOFError) as e:
        raise ArtifactError(f"{file} is damaged: {e}", "export the model again") from None
    if golden.inputs.ndim != 4 or len(golden.inputs) == 0 or len(golden.inputs) != len(golden.logits):
        raise ArtifactError(f"{file} is damaged: inputs and logits do not fit together", "export the model again")
    return golden
