"""Chosen calibration sets: `calibration.json` names the images by hash, `load_calibration` gives them back."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

from msedge.artifact import make_dir, read_json, sha256_file, tool_versions, write_json, writing
from msedge.data.calibration_choice import Choice
from msedge.data.drawn import BUILTIN
from msedge.data.folder import resolve_root
from msedge.data.preprocess import Preprocess
from msedge.errors import ArtifactError, DataError

FILE, FORMAT, VERSION, COPIES = "calibration.json", "msedge.calibration", 1, "images"
_AGAIN = "make the set again: msedge calib make"


def write_calibration(
    choice: Choice, out: Path, given: Path | str, preprocess: Preprocess, audit: dict[str, Any], copy: bool = False
) -> dict[str, Any]:
    """Write `out/calibration.json` for images of the data `given`; with `copy` also the images, into `out/images`.

    Raises ArtifactError where the disk refuses, or where `out/images` holds files already.
    """
    make_dir(out)
    root = choice.samples.root
    names = choice.names_chosen
    if copy:
        _copy(root, names, out / COPIES)
    builtin = str(given) == BUILTIN
    document = {
        "format": FORMAT,
        "version": VERSION,
        "data": BUILTIN if builtin else Path(os.path.relpath(root.resolve(), out.resolve())).as_posix(),
        "copied": copy,
        "seed": choice.seed,
        "asked": choice.asked,
        "classes": [c for c in choice.samples.classes if c],
        "images": [
            {"file": name, "sha256": m.examined.sha256, "class": c}
            for name, m, c in zip(names, choice.measured_chosen, choice.classes_chosen, strict=True)
        ],
        "left_out": choice.left_out,
        "preprocess": preprocess.to_dict(),
        "audit": audit,
        "tools": tool_versions(),
    }
    write_json(out / FILE, document)
    return document


def _copy(root: Path, names: list[str], to: Path) -> None:
    if to.exists() and any(to.iterdir()):
        raise ArtifactError(f"{to} holds files already", "choose another --out, or remove that folder")
    for name in names:
        with writing(to):
            (to / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(root / name, to / name)


def is_calibration(path: Path | str) -> bool:
    """Whether `path` is a folder with a `calibration.json`, or that file."""
    path = Path(path)
    return (path.is_file() and path.name == FILE) or (path / FILE).is_file()


def read_calibration(path: Path | str) -> tuple[dict[str, Any], Path]:
    """The manifest and the folder that its file names start from. Raises ArtifactError, DataError."""
    path = Path(path)
    folder = path.parent if path.name == FILE else path
    document = read_json(folder / FILE, "the calibration set")
    if not isinstance(document, dict) or document.get("format") != FORMAT:
        raise ArtifactError(f"{folder / FILE} is no calibration set", "msedge calib make writes one")
    if document.get("version") != VERSION:
        raise ArtifactError(f"{folder / FILE} has version {document.get('version')}; this msedge reads {VERSION}", _AGAIN)
    try:
        ok = bool(document["images"]) and all(isinstance(i["file"], str) and i["sha256"] for i in document["images"])
        document["preprocess"], document["data"], document["copied"], document["seed"], document["classes"]
    except (KeyError, TypeError) as e:
        raise ArtifactError(f"{folder / FILE} is damaged: {e} is missing", _AGAIN) from None
    if not ok:
        raise ArtifactError(f"{folder / FILE} names no images", _AGAIN)
    return document, folder / COPIES if document["copied"] else data_of(document, folder)


def data_of(document: dict[str, Any], folder: Path) -> Path:
    """The image folder that the set in `folder` was chosen from. Raises DataError where it has gone."""
    given = document["data"]
    if given == BUILTIN:
        return resolve_root(given)
    if not (root := folder / given).is_dir():
        raise DataError(f"{folder / FILE}: its image folder {root} is missing", f"put it back, or {_AGAIN}")
    return root


def data_behind(calib: Path | str) -> Path | str:
    """Where further images like those of `calib` are: a set's data (of a copied set whose data have gone, its copies), else
    `calib` itself. Raises ArtifactError, DataError."""
    if not is_calibration(calib):
        return calib
    document, root = read_calibration(calib)
    folder = Path(calib).parent if Path(calib).is_file() else Path(calib)
    try:
        return data_of(document, folder)
    except DataError:
        if document["copied"]:
            return root
        raise


def load_calibration(path: Path | str) -> list[Path]:
    """The images of a chosen set, in its order, each still the one that was chosen (by sha256).

    Raises ArtifactError for a damaged manifest, DataError for images that are missing or changed.
    """
    document, root = read_calibration(path)
    paths, missing, changed = [], [], []
    for image in document["images"]:
        file = root / image["file"]
        if not file.is_file():
            missing.append(file)
        elif sha256_file(file) != image["sha256"]:
            changed.append(file)
        paths.append(file)
    for what, files in (("missing", missing), ("not as they were when the set was made", changed)):
        if files:
            raise DataError(f"{path}: {len(files)} of {len(paths)} images are {what}, the first {files[0]}",
                            f"put the images back, or {_AGAIN} {document['data']}")  # fmt: skip
    return paths
