"""`msedge.export`: from a checkpoint folder to an export folder."""

from __future__ import annotations

import json
import re
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from msedge.artifact import MANIFEST, make_dir, read_json, sha256_file, write_bytes, write_manifest
from msedge.errors import ArtifactError, ExportError, UserError
from msedge.exporter import check
from msedge.exporter.golden import golden_inputs, write_golden
from msedge.exporter.mindir_writer import cell_to_mindir, ms
from msedge.exporter.onnx_writer import mindir_to_onnx
from msedge.models import ModelSpec, load_checkpoint_folder

METADATA_KEY = "msedge.model"
FORMATS = ("onnx", "mindir")
_FILES = {"model.onnx", "model.mindir", "golden.npz", "model.json", MANIFEST}


def export(
    checkpoint_folder: str | Path,
    out: str | Path,
    formats: Sequence[str] = ("onnx",),
    batch: int = 1,
    golden: int = 8,
    *,
    golden_images: np.ndarray | None = None,
    force: bool = False,
) -> Path:
    """Write the best checkpoint of a folder (or the `.ckpt` given) as an export folder, and return that folder.

    `batch` images in one call; `golden` inputs are kept with the cell's logits: the first of `golden_images` (float32
    [N, 3, H, W], preprocessed) where given, else drawn ones. `force` writes into a folder with other files. Raises
    ArtifactError, ModelError, ExportError for wrong input, CheckFailed where a written model disagrees with the cell.
    """
    source = Path(checkpoint_folder)
    out = Path(out)
    _check_request(formats, batch)
    _check_out(out, source, force)
    folder, which = (source.parent, source.name) if source.suffix == ".ckpt" else (source, "best.ckpt")
    cell, spec = load_checkpoint_folder(folder, which)
    recipe = _recipe_sha256(folder)
    return export_cell(
        cell,
        spec,
        out,
        formats=formats,
        batch=batch,
        golden=golden,
        golden_images=golden_images,
        parents={"checkpoint": sha256_file(folder / which)},
        recipe_sha256=recipe,
    )


def export_cell(
    cell: ms.nn.Cell,
    spec: ModelSpec,
    out: str | Path,
    *,
    formats: Sequence[str] = ("onnx",),
    batch: int = 1,
    golden: int = 8,
    golden_images: np.ndarray | None = None,
    parents: dict[str, str] | None = None,
    recipe_sha256: str | None = None,
) -> Path:
    """As `export`, for a cell in memory that `spec` describes."""
    _check_request(formats, batch)
    inputs = golden_inputs(spec.preprocess, golden, golden_images)
    out = make_dir(Path(out))
    (out / MANIFEST).unlink(missing_ok=True)
    began = time.perf_counter()
    logits = check.run_cell(cell, inputs)
    report = {"formats": list(formats), "batch": batch, "image_size": spec.image_size, "golden": len(inputs), "max_abs": {}}
    with tempfile.TemporaryDirectory(prefix="msedge-export-") as scratch:
        mindir = Path(scratch) / "model.mindir"
        cell_to_mindir(cell, (batch, 3, spec.image_size, spec.image_size), mindir)
        report["compile_seconds"] = round(time.perf_counter() - began, 2)
        if "mindir" in formats:
            report["max_abs"]["mindir"] = check.compare("the MindIR file", check.run_mindir(mindir, inputs, batch), logits)
            write_bytes(out / "model.mindir", mindir.read_bytes())
        if "onnx" in formats:
            report |= _write_onnx(mindir, spec, inputs, logits, out / "model.onnx", report["max_abs"])
    write_golden(out / "golden.npz", inputs, logits)
    spec.save(out)
    report["seconds"] = round(time.perf_counter() - began, 2)
    written = [*(f"model.{f}" for f in FORMATS if f in formats), "golden.npz", "model.json"]
    for stale in _FILES - set(written):
        (out / stale).unlink(missing_ok=True)
    write_manifest(out, "export", written, parents=parents, recipe_sha256=recipe_sha256, export=report)
    return out


def _write_onnx(mindir: Path, spec: ModelSpec, inputs, logits, path: Path, max_abs: dict[str, float]) -> dict:
    name = re.sub(r"\W+", "_", spec.architecture)
    model = mindir_to_onnx(mindir, name=name, metadata={METADATA_KEY: json.dumps(spec.to_dict())})
    check.check_structure(model)
    max_abs["onnx"] = check.compare("the ONNX file", check.run_onnx(model, inputs), logits)
    write_bytes(path, model.SerializeToString(deterministic=True))
    return {"nodes": len(model.graph.node), "opset": model.opset_import[0].version}


def _check_request(formats: Sequence[str], batch: int) -> None:
    if not formats or any(f not in FORMATS for f in formats):
        raise ExportError(f"formats are {', '.join(map(str, formats)) or 'none'}", f"choose among {', '.join(FORMATS)}")
    if isinstance(batch, bool) or not isinstance(batch, int) or batch < 1:
        raise ExportError(f"the batch is {batch!r}", "a whole number from 1 on is needed")


def _check_out(out: Path, source: Path, force: bool) -> None:
    """Refuse a folder whose files the export would mix with or replace."""
    if not out.is_dir():
        return
    if (out / MANIFEST).is_file():
        kind = read_json(out / MANIFEST, f"the manifest of {out}").get("kind")
        if kind != "export":
            raise ArtifactError(f"{out} is a {kind} folder", "choose another --out")
    if out.resolve() == (source.parent if source.suffix == ".ckpt" else source).resolve():
        raise ArtifactError(f"{out} is the checkpoint folder itself", "choose another --out")
    others = sorted(p.name for p in out.iterdir() if p.name not in _FILES)
    if others and not force:
        raise ArtifactError(f"{out} holds other files ({', '.join(others[:3])})", "choose another --out, or use --force")


def _recipe_sha256(folder: Path) -> str | None:
    try:
        return read_json(folder / MANIFEST, "the manifest").get("recipe_sha256")
    except UserError:
        return None
