"""`ModelSpec`: all that is needed to build a model again and to feed it; stored as `model.json`."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from msedge.artifact import write_json
from msedge.data.preprocess import Preprocess
from msedge.errors import ArtifactError, DataError, ModelError

MODEL_JSON = "model.json"
_FORMAT = "msedge-model"
_VERSION = 1


@dataclass(frozen=True)
class ModelSpec:
    """Raises ModelError for values that cannot be a model."""

    architecture: str  # a name of `list_models()`, or mindcv:<name>
    config: dict[str, Any]  # every width, JSON values
    num_classes: int
    image_size: int  # pixels, square
    classes: tuple[str, ...]  # names in label order; empty where they have none
    preprocess: Preprocess = field(repr=False)

    def __post_init__(self):
        object.__setattr__(self, "classes", tuple(self.classes))
        problem = self._problem()
        if problem:
            raise ModelError(f"a model description is damaged: {problem}")

    def _problem(self) -> str:
        if not isinstance(self.architecture, str) or not self.architecture:
            return f"architecture is {self.architecture!r}"
        if not isinstance(self.config, dict):
            return "config is not a table"
        for name in ("num_classes", "image_size"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or value < 1:
                return f"{name} is {value!r}"
        if not all(isinstance(c, str) for c in self.classes):
            return "a class name is not text"
        if self.classes and len(self.classes) != self.num_classes:
            return f"{len(self.classes)} class names for {self.num_classes} classes"
        if not isinstance(self.preprocess, Preprocess):
            return "preprocess is missing"
        if self.preprocess.size != self.image_size:
            return f"preprocess makes {self.preprocess.size} px for a model of {self.image_size} px"
        return ""

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values; `from_dict` is the inverse."""
        return {
            "format": _FORMAT,
            "version": _VERSION,
            "architecture": self.architecture,
            "config": self.config,
            "num_classes": self.num_classes,
            "image_size": self.image_size,
            "classes": list(self.classes),
            "preprocess": self.preprocess.to_dict(),
        }

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> ModelSpec:
        """Strict: raises ModelError for missing, unknown or impossible values."""
        if not isinstance(values, dict) or values.get("format") != _FORMAT:
            raise ModelError("this is no model description of msedge", f"it must say format: {_FORMAT}")
        if values.get("version") != _VERSION:
            raise ModelError(
                f"a model description of version {values.get('version')!r}", f"this msedge reads version {_VERSION}"
            )
        fields = [f.name for f in dataclasses.fields(cls)]
        given = {k: v for k, v in values.items() if k not in ("format", "version")}
        if missing := [f for f in fields if f not in given]:
            raise ModelError(f"a model description is damaged: {missing[0]} is missing")
        if unknown := [k for k in given if k not in fields]:
            raise ModelError(f"a model description is damaged: unknown key '{unknown[0]}'")
        if not isinstance(given["classes"], list):
            raise ModelError("a model description is damaged: classes is not a list")
        try:
            preprocess = Preprocess.from_dict(given["preprocess"])
        except DataError as e:
            raise ModelError(f"a model description is damaged: {e.message}", e.hint) from None
        return cls(**{**given, "preprocess": preprocess})

    def save(self, folder: Path) -> Path:
        """Write `folder/model.json` atomically and return its path. Raises ArtifactError where the disk refuses."""
        path = Path(folder) / MODEL_JSON
        write_json(path, self.to_dict())
        return path

    @classmethod
    def load(cls, path: Path) -> ModelSpec:
        """Read `model.json`, or that of a folder. Raises ArtifactError if it is missing, ModelError if damaged."""
        path = Path(path)
        if path.is_dir():
            path = path / MODEL_JSON
        try:
            values = json.loads(path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            hint = "a checkpoint or export folder that msedge wrote is needed"
            raise ArtifactError(f"there is no {path}", hint) from None
        except (OSError, ValueError) as e:
            raise ModelError(f"{path} cannot be read: {e}") from None
        try:
            return cls.from_dict(values)
        except ModelError as e:
            raise ModelError(f"{path}: {e.message}", e.hint) from None
