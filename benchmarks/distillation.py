"""What distillation adds on real photos, and what INT8 costs: teacher, student alone, student distilled, two seeds.

    python benchmarks/distillation.py --data DIR --out DIR [--seeds 0,1] [--set KEY=VALUE ...]

DIR has train/<class>/ and val/<class>/. All models are trained from scratch by benchmarks/photos.yaml; the student alone
has the same budget (epochs, images, augmentation, seed) as the distilled one. The distilled student of the first seed is
converted in every mode and judged on all validation photos through the MindSpore Lite runtime. A killed run goes on when it is
started again. Writes `distillation.json` and `distillation.md` into --results.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
from datetime import date
from pathlib import Path

HERE = Path(__file__).parent
RECIPE = HERE / "photos.yaml"
MODES = {"none": "float", "fp16": "fp16", "PostTraining": "int8"}


def msedge(*args, may_fail: bool = False) -> dict:
    """Run one command with --json and return its document."""
    command = [sys.executable, "-m", "msedge", *map(str, args), "--json"]
    print("$ msedge", *args, file=sys.stderr, flush=True)
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True)
    if done.returncode and not (may_fail and done.returncode == 1):
        sys.exit(done.returncode)
    return json.loads(done.stdout)


def train(out: Path, data: str, changes: list[str], only: str | None = None) -> dict:
    resume = ["--resume"] if (out / only if only else out).is_dir() else []
    sets = [part for change in changes for part in ("--set", change)]
    done = msedge("train", RECIPE, "--data", data, "--out", out, *sets, *(["--only", only] if only else []), *resume)
    folder = Path(done["folders"][-1]["folder"])
    speeds = [float(line.split(",")[-2]) for line in (folder / "history.csv").read_text().splitlines()[1:]]
    return {**done["folders"][-1], "images_per_s": statistics.median(speeds)}


def measure(data: str, out: Path, seeds: list[int], changes: list[str]) -> dict:
    teacher = train(out / "base", data, [*changes, f"seed={seeds[0]}"], "teacher")
    ready = ["teacher.model=null", "teacher.train=null", f"teacher.checkpoint={teacher['folder']}"]
    own_changes = [c for c in changes if not c.startswith("teacher.")]
    students = {"distilled": [], "alone": []}
    for seed in seeds:
        more = [*own_changes, f"seed={seed}"]
        students["distilled"].append(train(out / f"distilled-{seed}", data, [*more, *ready], "student"))
        students["alone"].append(train(out / f"alone-{seed}", data, [*more, "teacher=null"]))
    source = students["distilled"][0]["folder"]
    converted = {}
    for mode, name in MODES.items():
        folder = out / f"student-{name}"
        calib = ["--calib", data] if mode == "PostTraining" else []
        done = msedge("convert", source, "--out", folder, "--quant", mode, "--data", data, *calib, may_fail=True)
        seen = msedge("verify", source, folder, "--data", data)
        converted[name] = {"size_bytes": done["size_bytes"], "passed": done["passed"], **seen}
    return {"teacher": teacher, **students, "converted": converted}


def share(value: float) -> str:
    return f"{100 * value:.1f} %"


def table(result: dict, conditions: str) -> str:
    t = result["teacher"]["val_accuracy"]
    rows = [f"| teacher | {share(t)} | | |"]
    means = {}
    for name in ("distilled", "alone"):
        accuracies = [s["val_accuracy"] for s in result[name]]
        means[name] = statistics.mean(accuracies)
        each = ", ".join(share(a) for a in accuracies)
        rows.append(f"| student {name} | {share(means[name])} | {each} | {share(means[name] / t)} |")
    lines = [
        "| model | top-1 | each seed | retention |",
        "|---|---|---|---|",
        *rows,
        "",
        f"Distillation adds {100 * (means['distilled'] - means['alone']):+.1f} points over the student alone.",
        "",
        "| distilled student, first seed | top-1 in the Lite runtime | same top-1 as the source | cosine mean / min | size |",
        "|---|---|---|---|---|",
        *(
            f"| {name} | {share(c['top1_b'])} | {share(c['agreement'])} | {c['cosine_mean']:.4f} / {c['cosine_min']:.4f} "
            f"| {c['size_bytes'] / 1e6:.2f} MB |"
            for name, c in result["converted"].items()
        ),
    ]
    return "\n".join([conditions, "", *lines, ""])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seeds", default="0,1")
    parser.add_argument("--set", action="append", default=[], dest="changes")
    parser.add_argument("--results", type=Path, default=HERE / "results")
    args = parser.parse_args()
    seeds = [int(s) for s in args.seeds.split(",")]
    result = measure(args.data, args.out, seeds, args.changes)
    n = result["teacher"]["val_images"]
    conditions = (
        f"benchmarks/distillation.py, {date.today()}: recipe benchmarks/photos.yaml"
        f"{' with ' + ', '.join(args.changes) if args.changes else ''}, from scratch, seeds {args.seeds}, "
        f"{n} validation photos, 2 CPU cores."
    )
    args.results.mkdir(parents=True, exist_ok=True)
    for where in [result["teacher"], *result["distilled"], *result["alone"]]:
        del where["folder"], where["data"]
    for c in result["converted"].values():
        for key in ("a", "b", "data"):
            c.pop(key, None)
    (args.results / "distillation.json").write_text(json.dumps({"conditions": conditions, **result}, indent=2) + "\n")
    (args.results / "distillation.md").write_text(table(result, conditions))
    print(table(result, conditions))


if __name__ == "__main__":
    main()
