"""Latency of msedge's `.ms` on MindSpore Lite against other runtimes on the same ONNX, in one interleaved run.

    python benchmarks/latency.py [--models A,B] [--threads 1,2] [--runs 50] [--runtimes lite,onnxruntime,...] [--out DIR]

Seeded random weights, 1000 classes, batch 1. Of each model all runtimes are loaded at once, each in a process of its own,
and run in turns of ten. A runtime's time counts where its logits on the golden inputs are the cell's. `own-export` is the
`.ms` from MindSpore's own ONNX export of the same cell, `mindcv-export` that of MindCV's model of the same architecture;
`-repaired` where LayerNorm was first brought into the form that Lite reads rightly. `lite-tanh` is the `.ms` with GELU in its
tanh form (`msedge convert --gelu tanh`), another function, which the peers do not get. Runtimes that are not installed
are left out, and said so. Models stay in --work; --reuse takes them from there. Writes latency.json and latency.md into --out.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import platform
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from datetime import datetime, timezone
from importlib import metadata
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent))
import peers
from latency_table import markdown

from msedge.artifact import write_json, write_text
from msedge.benchmark.contenders import Contender, LiteContender, ProcessContender
from msedge.benchmark.environment import worker_environment
from msedge.benchmark.measurement import BLOCK, REST
from msedge.converter import convert
from msedge.errors import MsedgeError, ToolMissing
from msedge.lite import find_toolchain, read_ms
from msedge.runtime import locate

HERE = Path(__file__).parent
MODELS = {
    "mobilevit_xxs": 256,
    "mobilevit_s": 256,
    "tiny_vit_5m": 224,
    "swin_tiny": 224,
    "poolformer_s12": 224,
    "efficientformer_l1": 224,
    "deit_tiny": 224,
}
BASES = ("lite", "own-export", "mindcv-export")
TANH = "lite-tanh"
RUNTIMES = ("lite", TANH, *BASES[1:], "onnxruntime", "openvino", *peers.PEERS)
WARMUP = 10
WRONG = 0.01  # of the largest logit


@dataclass
class Entry:
    """What is to be timed, or why it cannot be."""

    runtime: str
    file: Path | None
    golden: Path
    status: str = "ok"


def export_models(name: str, size: int, folder: Path, own: bool) -> None:
    command = [sys.executable, str(HERE / "export_models.py"), name, str(size), str(folder), *(["own"] if own else [])]
    done = subprocess.run(command, env=worker_environment(1), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    if done.returncode:
        raise MsedgeError(f"{name} cannot be exported: {done.stdout.strip().splitlines()[-1]}")


def entries(folder: Path, runtimes: list[str], toolchain) -> list[Entry]:
    onnx, golden = folder / "msedge" / "model.onnx", folder / "msedge" / "golden.npz"
    found = []
    for runtime in runtimes:
        if runtime == "lite":
            found.append(_converted(runtime, onnx.parent, folder / "lite", golden, toolchain))
        elif runtime == TANH:
            if tanh := _converted(runtime, onnx.parent, folder / TANH, golden, toolchain, gelu="tanh"):
                found.append(tanh)
        elif runtime in BASES:
            found += _own_exports(runtime, folder, toolchain)
        elif runtime in peers.PEERS:
            try:
                found.append(Entry(runtime, peers.convert(runtime, onnx, folder / runtime), golden))
            except MsedgeError as e:
                found.append(Entry(runtime, None, golden, f"does not convert: {e.message}"))
        else:
            found.append(Entry(runtime, onnx, golden))
    return found


def _converted(runtime: str, source: Path, out: Path, golden: Path, toolchain, gelu: str = "exact") -> Entry | None:
    """None where the tanh form is asked for and there is no GELU."""
    try:
        report = convert(source, out, lite=toolchain, gelu=gelu)
    except MsedgeError as e:
        kind = "does not load" if "cannot load" in e.message else "does not convert"
        return Entry(runtime, None, golden, f"{kind}: {e.message}")
    return None if gelu == "tanh" and not report.tanh_gelus else Entry(runtime, report.out / "model.ms", golden)


def _own_exports(runtime: str, folder: Path, toolchain) -> list[Entry]:
    own = folder / {"own-export": "mindspore", "mindcv-export": "mindcv"}[runtime]
    if not own.is_dir():
        return []
    golden = own / "golden.npz"
    if (own / "failed.txt").is_file():
        return [Entry(runtime, None, golden, "does not export: " + (own / "failed.txt").read_text().strip())]
    versions = {runtime: own / "model.onnx", f"{runtime}-repaired": own / "repaired.onnx"}
    return [
        _converted(name, onnx, own / f"lite-{onnx.stem}", golden, toolchain)
        for name, onnx in versions.items()
        if onnx.is_file()
    ]


def load(name: str, entry: Entry, onnx: Path, threads: int, toolchain) -> Contender:
    if entry.runtime in peers.PEERS:
        return peers.PeerContender(name, entry.runtime, entry.file, onnx, threads)
    located = locate(entry.file)
    if located.kind == "lite":
        return LiteContender(name, located, threads, toolchain, None)
    return ProcessContender(name, located, entry.runtime, threads)


def measure(name: str, size: int, folder: Path, args, toolchain) -> dict:
    """All rows of one model, and what else the machine did meanwhile."""
    rows, racers = [], []
    onnx = folder / "msedge" / "model.onnx"
    with contextlib.ExitStack() as stack:
        for entry in entries(folder, args.runtimes, toolchain):
            nodes = len(read_ms(entry.file).nodes) if entry.file and entry.file.suffix == ".ms" else None
            for threads in args.threads:
                row = {"model": name, "image_size": size, "runtime": entry.runtime, "threads": threads, "nodes": nodes}
                rows.append(row | {"status": entry.status})
                if entry.status != "ok":
                    continue
                try:
                    racer = stack.enter_context(load(name, entry, onnx, threads, toolchain))
                    seen = racer.deviation(entry.golden)
                except ToolMissing as e:
                    rows[-1]["status"] = e.message
                    continue
                except MsedgeError as e:
                    rows[-1]["status"] = f"does not load: {e.message}"
                    continue
                rows[-1] |= {"max_abs": seen["max_abs"], "largest_logit": seen["scale"]}
                if not seen["max_abs"] <= WRONG * seen["scale"]:
                    rows[-1]["status"] = "wrong numbers"
                    racer.close()
                    continue
                racers.append((rows[-1], racer))
        conditions = race(racers, args.runs)
    return {"rows": rows, **conditions}


def race(racers: list[tuple[dict, Contender]], runs: int) -> dict:
    samples: list[list[float]] = [[] for _ in racers]
    for row, racer in racers:
        racer.run(WARMUP)
        time.sleep(REST)
        before = cpu_seconds(racer.pid)
        time.sleep(0.2)
        row["waiting_cpu"] = round((cpu_seconds(racer.pid) - before) / 0.2, 2)
    spent = [0.0] * len(racers)
    began, busy, own = time.monotonic(), machine_seconds(), racers_seconds(racers)
    for start in range(0, runs, BLOCK):
        block = min(BLOCK, runs - start)
        for i, (_, racer) in enumerate(racers):
            time.sleep(REST)
            before = cpu_seconds(racer.pid)
            samples[i] += racer.run(block + 1)[1:]
            spent[i] += (cpu_seconds(racer.pid) - before) * block / (block + 1)
    wall = time.monotonic() - began
    others = machine_seconds() - busy - (racers_seconds(racers) - own)
    for (row, racer), mine, cpu in zip(racers, samples, spent, strict=True):
        row["runs"] = len(mine)
        row["cpu_ms"] = round(1e3 * cpu / len(mine), 3)
        row |= {f"p{q}_ms": round(float(np.percentile(mine, q)), 3) for q in (10, 50, 90)}
        row["size_bytes"] = racer.facts()["size_bytes"]
    return {"seconds": round(wall, 1), "other_load": round(max(0.0, others) / wall, 3) if wall else None}


def cpu_seconds(pid: int) -> float:
    """Of all threads that live, to the nanosecond: runtimes keep their pools."""
    return sum(int(task.read_text().split()[0]) for task in Path(f"/proc/{pid}/task").glob("*/schedstat")) / 1e9


def racers_seconds(racers: list[tuple[dict, Contender]]) -> float:
    return sum(cpu_seconds(racer.pid) for _, racer in racers) + time.process_time()


def machine_seconds() -> float:
    """Busy seconds of all cores since boot, with what the hypervisor took away."""
    user, nice, system, _, _, irq, softirq, steal = map(int, Path("/proc/stat").read_text().split("\n")[0].split()[1:9])
    return (user + nice + system + irq + softirq + steal) / os.sysconf("SC_CLK_TCK")


def conditions(args, toolchain) -> dict:
    models = (line.split(":")[1].strip() for line in Path("/proc/cpuinfo").read_text().splitlines() if "model name" in line)
    versions = {"mindspore-lite": toolchain.info.version}
    for package in ("mindspore", "onnxruntime", "openvino", "mnn", "ncnn", "pnnx", "mindcv"):
        with contextlib.suppress(metadata.PackageNotFoundError):
            versions[package] = metadata.version(package)
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], cwd=HERE, capture_output=True, text=True).stdout.strip()
    return {
        "date": datetime.now(timezone.utc).strftime("%Y-%m-%d %H:%M UTC"),
        "commit": commit or None,
        "cpu": f"{next(models, '?')}, {os.cpu_count()} cores, {platform.machine()}, Linux {platform.release()}",
        "python": platform.python_version(),
        "versions": versions,
        "runs": args.runs,
        "block": BLOCK,
        "rest_seconds": REST,
        "weights": "random, seed 0, 1000 classes, batch 1, float32",
    }


def _sized(model: str, parser: argparse.ArgumentParser) -> tuple[str, int]:
    name, _, size = model.partition(":")
    if not size and name not in MODELS:
        parser.error(f"at which size? {name}:224, for example")
    return name, int(size or MODELS[name])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", default=",".join(MODELS), help="NAME or NAME:SIZE, separated by commas")
    parser.add_argument("--threads", default="1,2")
    parser.add_argument("--runs", type=int, default=50)
    parser.add_argument("--runtimes", default=",".join(RUNTIMES))
    parser.add_argument("--out", type=Path, default=HERE / "results")
    parser.add_argument("--work", type=Path, help="where the models go; a temporary folder by default")
    parser.add_argument("--reuse", action="store_true", help="take ONNX files that --work has already")
    args = parser.parse_args()
    args.models = [_sized(model, parser) for model in args.models.split(",")]
    args.threads = [int(n) for n in args.threads.split(",")]
    args.runtimes = args.runtimes.split(",")
    for unknown in set(args.runtimes) - set(RUNTIMES):
        parser.error(f"there is no runtime {unknown}: {', '.join(RUNTIMES)}")
    toolchain = find_toolchain()
    result = {"conditions": conditions(args, toolchain), "models": {}}
    with tempfile.TemporaryDirectory(prefix="msedge-latency-") as temporary:
        work = args.work or Path(temporary)
        for name, size in args.models:
            folder = work / f"{name}-{size}"
            try:
                if not (args.reuse and (folder / "msedge" / "manifest.json").is_file()):
                    export_models(name, size, folder, any(r in BASES[1:] for r in args.runtimes))
                result["models"][name] = measure(name, size, folder, args, toolchain)
            except MsedgeError as e:
                result["models"][name] = {"rows": [], "failed": str(e)}
            print(markdown(result), file=sys.stderr, flush=True)
    write_json(args.out / "latency.json", result)
    write_text(args.out / "latency.md", markdown(result))


if __name__ == "__main__":
    main()
