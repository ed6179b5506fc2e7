"""What every way of quantising costs, on real photos and in the real runtime: accuracy, agreement with float, bytes.

    python benchmarks/quantization.py --data DIR --work DIR NAME=CKPT[,int8=FOLDER][,w4=FOLDER] ... [--nncf PYTHON]

DIR has train/ and val/; 128 training images calibrate, all validation images judge. CKPT is a checkpoint folder, int8 and
w4 are folders that msedge train left for a recipe with a qat section. All `.ms` run in MindSpore Lite, the ONNX files of
onnxruntime's quantiser and of NNCF (by the interpreter PYTHON that has it) in onnxruntime. --leave-out naive,converter saves
their time (int8 kernels on x86 are plain loops). Done work in --work is taken from
there. Writes quantization.json and quantization.md into --out.
"""

from __future__ import annotations

import argparse
import sys
from datetime import date
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent))
import quantizers
from quantization_table import markdown

from msedge.artifact import atomic_path, read_json, sha256_file, tool_versions, write_json, write_text
from msedge.converter import convert
from msedge.data.calib import choose_calibration
from msedge.exporter import export
from msedge.lite import find_toolchain
from msedge.models import load_checkpoint_folder
from msedge.models.count import count_params
from msedge.quantization import load_plan, quantize
from msedge.quantization.graph import ModelGraph
from msedge.quantization.making import Making, load_tensors
from msedge.quantization.onnx_simulation import Simulation
from msedge.quantization.ptq import PtqSettings
from msedge.runtime import open_runner
from msedge.verification import compare_outputs
from msedge.verification.images import load_images

CALIBRATION = 128
CHECKED = 16  # images for the converter's own check: the whole set follows here


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


class Bench:
    """One model: its files below `work`, its images, the logits of float."""

    def __init__(self, name: str, checkpoint: Path, args, toolchain):
        self.name, self.data, self.toolchain = name, args.data, toolchain
        self.work = args.work / name
        cell, self.spec = load_checkpoint_folder(checkpoint)
        self.params = count_params(cell)
        self.float = self.work / "float"
        if not (self.float / "manifest.json").is_file():
            export(checkpoint, self.float, force=True)
        self.onnx = self.float / "model.onnx"
        val = load_images(args.data, self.spec.classes)
        self.images, self.labels = load_tensors(val.paths, self.spec.preprocess), val.labels
        self.calibration = choose_calibration(args.data, CALIBRATION)
        self.reference = self.logits(self.lite("float", self.float, "none"))

    def lite(self, name: str, source: Path, quant: str | None, **options) -> Path:
        """The `.ms` of `source`."""
        folder = self.work / f"lite-{name}"
        if not (folder / "manifest.json").is_file():
            report = convert(
                source, folder, quant=quant, data=self.data, parity_limit=CHECKED, lite=self.toolchain, say=say, **options
            )
            say(f"{folder}/{report.verdict()}")
        return folder / "model.ms"

    def planned(self, name: str, making: Making) -> Path:
        """The folder of `msedge quantize`."""
        folder = self.work / name
        if not (folder / "manifest.json").is_file():
            report = quantize(
                self.float, folder, making=making, calib=self.data, calib_images=CALIBRATION, data=self.data, say=say
            )
            say(f"{folder}: {report.summary()}")
        return folder

    def logits(self, file: Path) -> np.ndarray:
        """The answers to all validation images, kept beside the file."""
        kept = file.with_suffix(f".{sha256_file(file)[:12]}.npy")
        if not kept.is_file():
            say(f"running {file}")
            with open_runner(file, threads=1, lite=self.toolchain if file.suffix == ".ms" else None) as runner:
                answers = runner.predict(self.images)
            with atomic_path(kept) as temporary, temporary.open("wb") as f:
                np.save(f, answers)
        return np.load(kept)

    def row(self, mode: str, by: str, file: Path, plan: Path | None = None) -> dict:
        logits = self.logits(file)
        seen = compare_outputs(self.reference, logits, self.labels)
        row = {
            "model": self.name, "mode": mode, "by": by, "runtime": "MindSpore Lite" if file.suffix == ".ms" else "onnxruntime",
            "images": seen.n, "top1_float": seen.top1_a, "top1": seen.top1_b, "agreement": seen.agreement,
            "cosine_pooled": seen.cosine_pooled, "bytes": file.stat().st_size, "params": self.params,
            "bytes_per_param": file.stat().st_size / self.params,
        }  # fmt: skip
        if plan:
            row |= self.against_plan(plan, logits)
        say(f"{self.name} {mode} by {by}: top-1 {row['top1']:.4f} agreement {row['agreement']:.4f} "
            f"{row['bytes_per_param']:.3f} bytes/param {row.get('plan_cosine_mean', '')}")  # fmt: skip
        return row

    def against_plan(self, folder: Path, logits: np.ndarray) -> dict:
        """The `.ms` against its plan, simulated by onnxruntime and by MindSpore."""
        from msedge.quantization.cell import simulate

        graph, plan = ModelGraph.load(folder / "model.onnx"), load_plan(folder / "plan.json")
        simulated = Simulation(graph).logits(self.images, plan)
        found = {}
        for key, answers in (("plan", simulated), ("mindspore", simulate(graph, plan, self.images))):
            seen = compare_outputs(answers, logits)
            found |= {f"{key}_cosine_mean": seen.cosine_mean, f"{key}_cosine_pooled": seen.cosine_pooled}
        counts = {p: len(plan.of(p)) for p in ("int8", "weight", "float")}
        return {**found, "nodes": counts, "made_by": plan.made_by.get("method")}


def measure(bench: Bench, trained: dict[str, Path], nncf: str | None, left_out: list[str]) -> list[dict]:
    rows = [
        bench.row("float", "msedge", bench.lite("float", bench.float, "none")),
        bench.row("fp16", "msedge", bench.lite("fp16", bench.float, "fp16")),
    ]
    if "naive" not in left_out:
        naive = bench.planned("naive", Making(settings=PtqSettings.naive()))
        rows.append(bench.row("int8 naive", "msedge", bench.lite("naive", naive, None), naive))
    if "converter" not in left_out:
        options = {"engine": "converter", "calib": bench.data, "calib_images": CALIBRATION}
        rows.append(bench.row("int8 PTQ", "MindSpore Lite's converter", bench.lite("converter", bench.float, "ptq", **options)))
    rows += peers(bench, nncf)
    ptq = bench.planned("ptq", Making())
    rows.append(bench.row("int8 PTQ", "msedge", bench.lite("ptq", ptq, None), ptq))
    if "int8" in trained:
        rows.append(bench.row("int8 QAT", "msedge", bench.lite("qat", trained["int8"], None), trained["int8"]))
    for bits in (8, 6, 4):
        folder = bench.planned(f"w{bits}", Making(mode="weight", bits=bits))
        rows.append(bench.row(f"weights {bits} bit", "msedge", bench.lite(f"w{bits}", folder, None), folder))
    if "w4" in trained:
        rows.append(bench.row("weights 4 bit QAT", "msedge", bench.lite("w4-qat", trained["w4"], None), trained["w4"]))
    return rows


def peers(bench: Bench, nncf: str | None) -> list[dict]:
    """Other quantisers on the same ONNX and images."""
    files = {"onnxruntime": bench.work / "onnxruntime.onnx", **({"NNCF": bench.work / "nncf.onnx"} if nncf else {})}
    images = None
    rows = []
    for by, file in files.items():
        if not file.is_file():
            if images is None:
                images = load_tensors(bench.calibration, bench.spec.preprocess)
            with atomic_path(file) as temporary:
                if by == "NNCF":
                    quantizers.nncf_ptq(nncf, bench.onnx, images, temporary)
                else:
                    quantizers.onnxruntime_static(bench.onnx, images, temporary)
        rows.append(bench.row("int8 PTQ", by, file))
    return rows


def parse(text: str) -> tuple[str, Path, dict[str, Path]]:
    first, *rest = text.split(",")
    name, checkpoint = first.split("=")
    return name, Path(checkpoint), {key: Path(folder) for key, folder in (part.split("=") for part in rest)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="+")
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--nncf")
    parser.add_argument("--leave-out", default="")
    parser.add_argument("--lite")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results")
    args = parser.parse_args()
    toolchain = find_toolchain(args.lite)
    file = args.out / "quantization.json"
    document = read_json(file, "the results") if file.is_file() else {"models": {}}
    for name, checkpoint, trained in map(parse, args.models):
        bench = Bench(name, checkpoint, args, toolchain)
        rows = measure(bench, trained, args.nncf, args.leave_out.split(","))
        document["models"][name] = {"config": bench.spec.config, "image_size": bench.spec.image_size, "rows": rows}
        document |= {"date": date.today().isoformat(), "calibration_images": CALIBRATION, "versions": tool_versions()}
        write_json(file, document)
        write_text(args.out / "quantization.md", markdown(document))


if __name__ == "__main__":
    main()
