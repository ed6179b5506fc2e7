"""Images per second of training on a CPU: msedge, MindCV and, where torch and timm can be imported, PyTorch with timm.

    python benchmarks/training.py [--model NAME ...] [--rounds 6] [--torch PYTHON] [--results DIR] [--skip CONTENDER ...]

A step is forward, cross entropy, backward and AdamW, in float32 (of QAT: the float model's answers, forward with rounding, KL,
backward, AdamW). Each contender is a process of its own (oneDNN reads its
limits once) that compiles first. Then they take turns: in its turn a contender takes one step that is not counted and
`--steps` that are (one alone, and counted, where a step takes over a second); the others are stopped meanwhile. Swin nano has
the widths 48 to 384 here, since timm and MindCV know no others than doubled ones. PYTHON is an interpreter with torch and
timm (torchvision is not needed); by default this one. Writes training.json and training.md into --results.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import signal
import statistics
import subprocess
import sys
from datetime import date
from importlib import metadata
from pathlib import Path

HERE = Path(__file__).parent
SETTINGS = {  # model: (pixels, batch sizes)
    "mobilevit_xxs": (128, (16, 32)),
    "tiny_vit_5m": (224, (8,)),
    "swin_nano": (128, (16,)),
}
WITHOUT = {"MSEDGE_NATIVE": "0"}
CONTENDERS = {  # name: (kind, environment)
    "msedge": ("msedge", {}),
    "msedge, with loading": ("loading", {}),
    "msedge, QAT in int8": ("qat", {}),
    "msedge, no compiler": ("msedge", WITHOUT),
    "MindCV, AVX2 cap": ("mindcv", {"ONEDNN_MAX_CPU_ISA": "AVX2"}),
    "MindCV as it comes": ("mindcv", {"ONEDNN_MAX_CPU_ISA": "DEFAULT"}),
    "PyTorch, timm": ("timm", {}),
}
NOT_THERE = {("tiny_vit_5m", "mindcv")}  # MindCV has no TinyViT


class Contender:
    def __init__(self, name: str, python: str, model: str, size: int, batch: int):
        kind, environment = CONTENDERS[name]
        command = [python, str(HERE / "training_worker.py"), kind, model, str(size), str(batch)]
        paths = os.pathsep.join(filter(None, (str(HERE.parent), os.environ.get("PYTHONPATH"))))
        self.name, self.batch = name, batch
        self.errors = subprocess.DEVNULL
        self.process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self.errors,
            text=True,
            env={**os.environ, **({} if kind == "timm" else {"PYTHONPATH": paths}), **environment},
        )
        self.seconds: list[float] = []
        self.first = self._answer()
        self.process.send_signal(signal.SIGSTOP)

    def _answer(self) -> float:
        line = self.process.stdout.readline()
        if not line:
            sys.exit(f"{self.name} died; run it alone to see why: {' '.join(self.process.args)}")
        return json.loads(line)

    def _step(self) -> float:
        self.process.stdin.write("step\n")
        self.process.stdin.flush()
        return self._answer()

    def turn(self, steps: int) -> None:
        self.process.send_signal(signal.SIGCONT)
        first = self._step()
        self.seconds += [first] if first > 1 else [self._step() for _ in range(steps)]
        self.process.send_signal(signal.SIGSTOP)

    def close(self) -> None:
        self.process.send_signal(signal.SIGCONT)
        self.process.stdin.close()
        self.process.wait()

    def row(self, model: str, size: int) -> dict:
        return {
            "model": model,
            "size": size,
            "batch": self.batch,
            "contender": self.name,
            "images_per_s": round(self.batch / statistics.median(self.seconds), 1),
            "best_images_per_s": round(self.batch / min(self.seconds), 1),
            "first_step_s": round(self.first, 1),
            "step_ms": [round(1e3 * s, 1) for s in self.seconds],
        }


def measure(model: str, size: int, batch: int, names: list[str], torch: str, rounds: int, steps: int) -> list[dict]:
    contenders = []
    try:
        for name in names:
            if (model, CONTENDERS[name][0]) not in NOT_THERE:
                python = torch if CONTENDERS[name][0] == "timm" else sys.executable
                print(f"{model} {size} px, batch {batch}: {name}", file=sys.stderr, flush=True)
                contenders.append(Contender(name, python, model, size, batch))
        for _ in range(rounds):
            for contender in contenders:
                contender.turn(steps)
        return [contender.row(model, size) for contender in contenders]
    finally:
        for contender in contenders:
            contender.close()


def versions(python: str) -> dict[str, str]:
    """Of torch and timm in that interpreter; empty where one of them is missing."""
    code = "import json; from importlib.metadata import version as v; print(json.dumps({n: v(n) for n in ('torch', 'timm')}))"
    done = subprocess.run([python, "-c", code], capture_output=True, text=True)
    return json.loads(done.stdout) if done.returncode == 0 else {}


def conditions(torch: dict[str, str], rounds: int, steps: int, loads: list[float]) -> dict:
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return {
        "date": date.today().isoformat(),
        "processor": names[0] if names else platform.processor(),
        "cpus": len(os.sched_getaffinity(0)),
        "rounds": rounds,
        "steps": steps,
        "load_average_before": loads,
        "python": platform.python_version(),
        **{name: metadata.version(name) for name in ("mindspore", "mindcv")},
        **torch,
    }


def table(note: dict, rows: list[dict]) -> str:
    known = {k: v for k, v in note.items() if k != "load_average_before"}
    lines = [
        "# Training on a CPU",
        "",
        "`python benchmarks/training.py`: forward, cross entropy, backward and AdamW in float32, contenders in turns.",
        "",
        ", ".join(f"{k} {v}" for k, v in known.items()) + f"; load average before: {note['load_average_before']}.",
        "Load averages include the benchmark itself from its second setting on.",
        "",
        "| model | pixels | batch | contender | images/s, median | best | first step, s |",
        "|---|---|---|---|---|---|---|",
    ]
    keys = ("model", "size", "batch", "contender", "images_per_s", "best_images_per_s", "first_step_s")
    lines += ["| " + " | ".join(str(row[k]) for k in keys) + " |" for row in rows]
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", action="append", choices=SETTINGS, help="default: all three")
    parser.add_argument("--batch", type=int, action="append", help="instead of the model's own batch sizes")
    parser.add_argument("--rounds", type=int, default=6)
    parser.add_argument("--steps", type=int, default=3, help="counted steps in a turn")
    parser.add_argument("--skip", action="append", default=[], choices=CONTENDERS)
    parser.add_argument("--torch", default=sys.executable, metavar="PYTHON", help="an interpreter with torch and timm")
    parser.add_argument("--results", type=Path, default=HERE / "results")
    args = parser.parse_args()
    torch = versions(args.torch)
    names = [n for n in CONTENDERS if n not in args.skip and (torch or CONTENDERS[n][0] != "timm")]
    rows, loads = [], []
    for model in args.model or SETTINGS:
        size, batches = SETTINGS[model]
        for batch in args.batch or batches:
            loads.append(round(os.getloadavg()[0], 1))
            rows += measure(model, size, batch, names, args.torch, args.rounds, args.steps)
    note = conditions(torch, args.rounds, args.steps, loads)
    args.results.mkdir(parents=True, exist_ok=True)
    (args.results / "training.json").write_text(json.dumps({"conditions": note, "rows": rows}, indent=1) + "\n")
    text = table(note, rows)
    (args.results / "training.md").write_text(text)
    print(text)


if __name__ == "__main__":
    main()
