"""What a path given by a user is: a checkpoint folder, an ONNX file, a `.ms`, a MindIR, or a folder that holds one."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from msedge.errors import ArtifactError

SPEC_FILE = "model.json"
_KINDS = {".onnx": "onnx", ".ms": "lite", ".ckpt": "checkpoint", ".mindir": "mindir"}
# What a folder of msedge holds, in the order in which it is looked for.
_IN_FOLDER = (("model.ms", "lite"), ("best.ckpt", "checkpoint"), ("model.onnx", "onnx"), ("model.mindir", "mindir"))
_HINT = "give a checkpoint, export or convert folder, an .onnx file or a .ms file"


@dataclass(frozen=True)
class Located:
    """`kind` is checkpoint, onnx, lite or mindir; `file` is the model file itself."""

    kind: str
    file: Path

    @property
    def folder(self) -> Path:
        return self.file.parent


def locate(path: Path | str) -> Located:
    """Find the model file that `path` (a file or a folder) means, without opening it.

    Raises ArtifactError where there is nothing, or nothing that msedge runs.
    """
    path = Path(path)
    if path.is_dir():
        return _in_folder(path)
    if not path.exists():
        raise ArtifactError(f"there is no model {path}", "check the path")
    kind = _KINDS.get(path.suffix.lower())
    if kind is None:
        raise ArtifactError(f"{path} is not a model that msedge knows", _HINT)
    if path.stat().st_size == 0:
        raise ArtifactError(f"{path} is empty", "write it again")
    return Located(kind, path)


def _in_folder(folder: Path) -> Located:
    for name, kind in _IN_FOLDER:
        if (file := folder / name).is_file():
            return Located(kind, file)
    found = sorted(p for p in folder.iterdir() if p.suffix.lower() in _KINDS and p.is_file())
    if len(found) > 1:
        names = ", ".join(p.name for p in found)
        raise ArtifactError(f"the folder {folder} holds several models: {names}", "name one of these files")
    if not found:
        inner = sorted(p.parent.name for name, _ in _IN_FOLDER for p in folder.glob(f"*/{name}"))
        hint = f"did you mean {folder / inner[0]}?" if inner else _HINT
        raise ArtifactError(f"the folder {folder} holds no model", hint)
    return Located(_KINDS[found[0].suffix.lower()], found[0])
