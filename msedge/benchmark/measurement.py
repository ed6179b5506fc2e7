"""Latency of several models in turns, so that a ratio of two is fair on a machine that others use too."""

from __future__ import annotations

import contextlib
import importlib.util
import platform
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from msedge.benchmark.contenders import Contender, make_contender
from msedge.benchmark.counts import count_model
from msedge.errors import UserError
from msedge.progress import Progress, Say, no_progress, silent
from msedge.recipe import suggest
from msedge.runtime import RUNTIMES, Located, check_runtime, locate

if TYPE_CHECKING:
    from msedge.lite.protocol import Toolchain

BLOCK = 10  # runs of one model before the next has its turn; one more before them warms the caches again
REST = 0.2  # seconds between turns: onnxruntime's threads spin for 0.1 s after a run, on cores that the next one needs
X86_INT8_NOTE = "INT8 on x86: the kernels are scalar, the time says nothing about a phone"


def bench(
    paths: Sequence[Path | str],
    *,
    threads: Sequence[int] = (1,),
    runs: int = 50,
    warmup: int = 10,
    runtimes: Sequence[str] | None = None,
    image: Path | str | None = None,
    lite: str | Path | Toolchain | None = None,
    say: Say = silent,
    progress: Progress = no_progress,
) -> list[dict[str, Any]]:
    """Time models, each in a process of its own, in blocks of ten runs that go round over all of them.

    `runtimes` chooses among onnxruntime and openvino for ONNX files (None: all that are installed). One row for each
    model, runtime and thread count, with the keys model, runtime, threads, runs, p50_ms, p90_ms, p99_ms, mean_ms,
    size_bytes, peak_rss_mb, params, macs, ratio (p50 to that of the first row with as many threads) and note. Raises
    UserError for impossible settings, and what `open_runner` raises.
    """
    if not paths:
        raise UserError("there is no model to measure", "name one or more")
    if runs < 1 or warmup < 0:
        raise UserError(f"{runs} runs after {warmup} to warm up cannot be measured", "1 run or more, 0 or more before")
    if not threads or min(threads) < 1:
        raise UserError("each number of threads must be 1 or more")
    plan = [
        (str(path), located, runtime, n)
        for path, located in [(p, locate(p)) for p in paths]
        for runtime in _runtimes_of(located, runtimes)
        for n in threads
    ]
    with contextlib.ExitStack() as stack:
        contenders = []
        with progress("loading", len(plan)) as report:
            for i, (model, located, runtime, n) in enumerate(plan):
                contenders.append(
                    stack.enter_context(
                        make_contender(model, located, runtime, n, lite=lite, image=image and str(image), say=say)
                    )
                )
                report(i + 1)
        samples = _measure(contenders, runs, warmup, progress)
        rows = [_row(c, s) for c, s in zip(contenders, samples, strict=True)]
    return _with_ratios(_with_model_facts(rows, contenders))


def _measure(contenders: list[Contender], runs: int, warmup: int, progress: Progress) -> list[list[float]]:
    samples: list[list[float]] = [[] for _ in contenders]
    with progress("measuring", len(contenders) * runs) as report:
        for contender in contenders:
            contender.run(warmup)
        for start in range(0, runs, BLOCK):
            block = min(BLOCK, runs - start)
            for contender, own in zip(contenders, samples, strict=True):
                if len(contenders) > 1:
                    time.sleep(REST)
                own += contender.run(block + 1)[1:]
                report(sum(map(len, samples)))
    return samples


def _row(contender: Contender, samples: list[float]) -> dict[str, Any]:
    p50, p90, p99 = np.percentile(samples, [50, 90, 99])
    facts = contender.facts()
    return {
        "model": contender.model,
        "runtime": contender.runtime,
        "threads": contender.threads,
        "runs": len(samples),
        "p50_ms": round(float(p50), 4),
        "p90_ms": round(float(p90), 4),
        "p99_ms": round(float(p99), 4),
        "mean_ms": round(float(np.mean(samples)), 4),
        "size_bytes": facts["size_bytes"],
        "peak_rss_mb": round(facts["peak_rss_mb"], 1),
    }


def _with_model_facts(rows: list[dict[str, Any]], contenders: list[Contender]) -> list[dict[str, Any]]:
    counts = {located: count_model(located) for located in dict.fromkeys(c.located for c in contenders)}
    for row, contender in zip(rows, contenders, strict=True):
        row["params"], row["macs"] = counts[contender.located]
        row["note"] = X86_INT8_NOTE if _scalar_int8(contender.located) else None
    return rows


def _scalar_int8(located: Located) -> bool:
    if located.kind != "lite" or platform.machine().lower() not in ("x86_64", "amd64"):
        return False
    from msedge.lite.ms_file import read_ms, summary

    return summary(read_ms(located.file))["quantised_nodes"] > 0


def _with_ratios(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    first: dict[int, float] = {}
    for row in rows:
        base = first.setdefault(row["threads"], row["p50_ms"])
        row["ratio"] = round(row["p50_ms"] / base, 4) if base else None
    return rows


def _runtimes_of(located: Located, wanted: Sequence[str] | None) -> list[str]:
    check_runtime(located, None)
    known = [name for names in RUNTIMES.values() for name in names]
    for name in wanted or ():
        if name not in known:
            raise UserError(f"there is no runtime '{name}'", suggest(name, known))
    able = RUNTIMES[located.kind]
    if len(able) == 1:
        return list(able)
    if wanted is None:
        return [name for name in able if importlib.util.find_spec(name)]
    chosen = [name for name in able if name in wanted]
    if not chosen:
        raise UserError(f"{' and '.join(wanted)} cannot run {located.file}", f"it takes {' or '.join(able)}")
    return chosen
