"""The result of latency.py as Markdown."""

from __future__ import annotations

PEERS = ("onnxruntime", "openvino", "mnn", "ncnn")


def markdown(result: dict) -> str:
    """Conditions, one line per model and thread count, and why what is missing is missing."""
    lines = [_conditions(result), ""]
    columns = [
        "lite",
        *(["lite-tanh"] if _any(result, "lite-tanh") else []),
        *(p for p in PEERS if _any(result, p)),
        *sorted(r for r in _runtimes(result) if "export" in r),
    ]
    head = [
        "model, px",
        "threads",
        *columns,
        "Lite / best peer",
        "at p10",
        "tanh / best peer",
        "at p10",
        "own export / Lite",
        "nodes in .ms",
    ]
    lines += ["| " + " | ".join(head) + " |", "|---" * len(head) + "|"]
    notes = []
    for name, model in result["models"].items():
        if "failed" in model:
            notes.append(f"{name}: {model['failed']}")
        for threads in dict.fromkeys(row["threads"] for row in model["rows"]):
            rows = {row["runtime"]: row for row in model["rows"] if row["threads"] == threads}
            lines.append(_line(name, threads, rows, columns))
        for row in model["rows"]:
            if row["status"] != "ok":
                notes.append(f"{name}, {row['runtime']}: {row['status']}")
            elif row["waiting_cpu"] > 0.05:
                notes.append(
                    f"{name}, {row['runtime']}, {row['threads']} threads: burns {row['waiting_cpu']:.2f} cores waiting"
                )
        if model.get("other_load", 0) > 0.1:
            notes.append(f"{name}: other processes used {model['other_load']:.2f} cores meanwhile, the times are worth little")
    lines += ["", *(f"- {note}" for note in dict.fromkeys(notes))]
    return "\n".join(lines).strip() + "\n"


def _conditions(result: dict) -> str:
    c = result["conditions"]
    versions = ", ".join(f"{name} {version}" for name, version in c["versions"].items())
    loads = [m["other_load"] for m in result["models"].values() if "other_load" in m]
    load = f"; other processes used at most {max(loads):.2f} cores" if loads else ""
    return (
        f"benchmarks/latency.py, {c['date']}, commit {c['commit']}: p50 in ms of {c['runs']} runs in turns of {c['block']}, "
        f"{c['rest_seconds']} s of rest between turns; {c['weights']}. {c['cpu']}{load}. {versions}."
    )


def _line(name: str, threads: int, rows: dict[str, dict], columns: list[str]) -> str:
    times = {runtime: row["p50_ms"] for runtime, row in rows.items() if row["status"] == "ok"}
    fast = {runtime: row["p10_ms"] for runtime, row in rows.items() if row["status"] == "ok"}
    best, best_fast = (min((t[p] for p in PEERS if p in t), default=None) for t in (times, fast))
    lite = times.get("lite")
    own = min((ms for runtime, ms in times.items() if "export" in runtime), default=None)
    size = next(iter(rows.values()))["image_size"]
    cells = [f"{name} {size}", str(threads), *(_cell(rows.get(c)) for c in columns)]
    pairs = ((lite, best), (fast.get("lite"), best_fast))
    pairs += ((times.get("lite-tanh"), best), (fast.get("lite-tanh"), best_fast), (own, lite))
    cells += [f"{a / b:.2f}" if a and b else "" for a, b in pairs]
    cells.append(str(rows["lite"]["nodes"] or "") if "lite" in rows else "")
    return "| " + " | ".join(cells) + " |"


def _cell(row: dict | None) -> str:
    if row is None:
        return ""
    return f"{row['p50_ms']:.2f}" if row["status"] == "ok" else row["status"].partition(":")[0]


def _runtimes(result: dict) -> set[str]:
    return {row["runtime"] for model in result["models"].values() for row in model["rows"]}


def _any(result: dict, runtime: str) -> bool:
    return runtime in _runtimes(result)
