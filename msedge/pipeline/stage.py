"""`msedge run`: recipe to verified `.ms` files in one go, with a closing table."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from msedge.artifact import write_json
from msedge.progress import Progress, no_progress
from msedge.recipe import Recipe, load_recipe, quant_name

NAMES = {"none": "float", "fp16": "fp16", "PostTraining": "int8", "WeightQuant": "w8", "AwareTraining": "int8"}
REPORT = "report.json"


@dataclass(frozen=True)
class Row:
    """One converted model. Shares in 0..1; `p50_ms` is this machine's and only good for ratios."""

    name: str
    model: str
    top1: float
    images: int
    agreement: float
    size_bytes: int
    p50_ms: float
    ratio: float
    passed: bool
    reasons: tuple[str, ...]
    path: str


@dataclass(frozen=True)
class RunReport:
    data: str
    image_size: int
    threads: int
    rows: tuple[Row, ...]

    @property
    def passed(self) -> bool:
        return all(row.passed for row in self.rows)

    def to_dict(self) -> dict[str, Any]:
        return {**asdict(self), "passed": self.passed}


@dataclass(frozen=True)
class _Model:
    """A model of the run: the checkpoint folder (or ONNX file) that it was trained as, how it is to be converted, and the
    folder with its trained plan, where it has one."""

    name: str
    source: Path
    quants: tuple[str, ...]
    planned: Path | None = None


def run(
    recipe: Recipe | str | Path,
    out: str | Path,
    *,
    resume: bool = False,
    threads: int = 1,
    bench_runs: int = 50,
    lite: str | Path | None = None,
    say: Callable[[str], None] = lambda text: None,
    progress: Progress = no_progress,
) -> RunReport:
    """Train, convert in every mode of `recipe.convert`, verify on the validation images, measure latencies in turns.

    `out` receives `teacher/` and `student/` (or `model/`), their ONNX below `export/`, a convert folder for each `.ms`
    below `lite/`, and `report.json`. The report says in `passed` whether all gates hold. Raises what the stages raise.
    """
    recipe = recipe if isinstance(recipe, Recipe) else load_recipe(recipe)
    out = Path(out)
    say("== train")
    models = _train(recipe, out, resume, progress)
    from msedge.data.folder import resolve_root
    from msedge.lite import find_toolchain

    toolchain = find_toolchain(lite, say=say)
    root = resolve_root(recipe.data.root, recipe.data.drawn)
    say("== convert and verify")
    rows = [row for model in models for row in _convert(recipe, model, out, root, toolchain, say)]
    say("== bench")
    from msedge.benchmark import bench

    timed = bench([row["path"] for row in rows], threads=(threads,), runs=bench_runs, lite=toolchain, say=say)
    report = RunReport(
        data=str(recipe.data.root),
        image_size=recipe.model.image_size,
        threads=threads,
        rows=tuple(
            Row(**row, p50_ms=t["p50_ms"], size_bytes=t["size_bytes"], ratio=t["ratio"])
            for row, t in zip(rows, timed, strict=True)
        ),
    )
    write_json(out / REPORT, report.to_dict())
    return report


def _train(recipe: Recipe, out: Path, resume: bool, progress: Progress) -> list[_Model]:
    from msedge.training import train

    quants = tuple(dict.fromkeys(quant_name(q) for q in recipe.convert.quant))
    if recipe.qat and recipe.qat.checkpoint:
        models = [_Model("model", Path(recipe.qat.checkpoint), quants)]
    elif recipe.teacher is None:
        train(recipe, out / "model", resume=resume, progress=progress)
        models = [_Model("model", out / "model", quants)]
    else:
        train(recipe, out, resume=resume, progress=progress)
        ready = recipe.teacher.checkpoint or recipe.teacher.onnx
        models = [
            _Model("teacher", Path(ready) if ready else out / "teacher", ("none",)),
            _Model("student", out / "student", quants),
        ]
    if recipe.qat:
        from msedge.quantization import run_qat

        source = Path(recipe.qat.checkpoint or models[-1].source)
        folder = run_qat(recipe, source, out / "qat", resume=resume, progress=progress).out
        models.append(_Model(f"{models[-1].name} trained", source, ("AwareTraining",), folder))
    return models


def _convert(recipe: Recipe, model: _Model, out: Path, root: Path, toolchain, say) -> list[dict[str, Any]]:
    from msedge.converter import convert
    from msedge.exporter import export
    from msedge.runtime import open_runner
    from msedge.verification import verify

    exported = model.planned or model.source
    if not model.planned and exported.suffix != ".onnx":
        exported = export(model.source, out / "export" / model.name, force=True)
    rows = []
    with open_runner(model.source) as source:
        for quant in model.quants:
            folder = out / "lite" / f"{model.name}-{NAMES[quant]}".replace(" ", "-")
            done = convert(
                exported,
                folder,
                quant=quant,
                calib=root if quant == "PostTraining" else None,
                calib_images=recipe.convert.calib_images,
                data=root,
                target=recipe.convert.target,
                gelu=recipe.convert.gelu,
                gate=recipe.convert.gate,
                lite=toolchain,
                say=say,
            )
            say(f"{folder}/{done.verdict()}")
            seen = verify(source, done.model, root, lite=toolchain, say=say).to_dict()
            rows.append(
                {
                    "name": f"{model.name} {NAMES[quant]}",
                    "model": source.spec.architecture if source.spec else model.source.name,
                    "top1": seen["top1_b"],
                    "images": seen["n"],
                    "agreement": seen["agreement"],
                    "passed": done.passed,
                    "reasons": done.reasons,
                    "path": str(done.model),
                }
            )
    return rows
