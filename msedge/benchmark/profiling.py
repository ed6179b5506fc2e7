"""Where a model's time goes: per node and per operator, from the runtime's own reports."""

from __future__ import annotations

import json
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from msedge.errors import ToolFailed, UserError
from msedge.progress import Progress, Say, no_progress, silent
from msedge.runtime import Located, locate
from msedge.runtime.spec import spec_of

if TYPE_CHECKING:
    from msedge.lite.protocol import Toolchain

ROUND = 5  # runs of one kind, with or without reports, before the other kind has its turn


@dataclass(frozen=True)
class Node:
    """One node in the order of execution; `shape` is that of its first output."""

    name: str
    type: str
    shape: tuple[int, ...]


@dataclass(frozen=True)
class Samples:
    """`node_ms` [runs, nodes] and `reported_ms` [runs] from runs with reports, `plain_ms` [runs] from runs without."""

    nodes: tuple[Node, ...]
    node_ms: np.ndarray
    reported_ms: np.ndarray
    plain_ms: np.ndarray


def profile(
    path: Path | str,
    *,
    threads: int = 1,
    runs: int = 50,
    warmup: int = 10,
    image: Path | str | None = None,
    lite: str | Path | Toolchain | None = None,
    say: Say = silent,
    progress: Progress = no_progress,
) -> dict[str, Any]:
    """Time every node of a `.ms` (MindSpore Lite's callbacks) or an ONNX file (onnxruntime's profiler).

    Keys: model, runtime, threads, runs, node_count, nodes_ms (the sum of the nodes' times), plain_ms (a run without
    reports, in turns with the others), reported_ms (a run with them: most of what they add lies between nodes),
    node_floor_ms (the cheapest node: a report's own share in a node's time is no more), nodes (in order of execution:
    name, type, shape of the first output, ms, share of nodes_ms) and types (type, nodes, ms, share; largest first).
    Each time is a median over the runs; on a busy machine nodes_ms is less than plain_ms, for few nodes are interrupted
    and most whole runs are. Raises UserError, what `open_runner` raises, and ToolMissing where the toolchain cannot
    report nodes.
    """
    located = locate(path)
    if located.kind not in ("lite", "onnx"):
        raise UserError(f"{path} cannot be profiled", "give a .ms or an ONNX file, or a convert or export folder")
    if runs < 1 or warmup < 0 or threads < 1:
        raise UserError(f"{runs} runs after {warmup} with {threads} threads cannot be profiled", "1 or more of each")
    image = image and str(image)
    with progress("profiling", runs) as report:
        if located.kind == "lite":
            samples = _of_lite(located, threads, runs, warmup, image, lite, say, report)
        else:
            samples = _of_onnxruntime(located, threads, runs, warmup, image, report)
    runtime = "lite" if located.kind == "lite" else "onnxruntime"
    return {"model": str(path), "runtime": runtime, "threads": threads, "runs": runs, **summarise(samples)}


def summarise(samples: Samples) -> dict[str, Any]:
    """The part of `profile`'s answer that follows from the samples."""
    medians = np.median(samples.node_ms, axis=0)
    total = float(medians.sum())
    reported, plain = float(np.median(samples.reported_ms)), float(np.median(samples.plain_ms))
    by_type: dict[str, list[float]] = defaultdict(list)
    for node, ms in zip(samples.nodes, medians, strict=True):
        by_type[node.type].append(float(ms))
    types = [
        {"type": kind, "nodes": len(each), "ms": round(sum(each), 4), "share": _share(sum(each), total)}
        for kind, each in sorted(by_type.items(), key=lambda item: -sum(item[1]))
    ]
    nodes = [
        {"name": n.name, "type": n.type, "shape": list(n.shape), "ms": round(float(ms), 4), "share": _share(ms, total)}
        for n, ms in zip(samples.nodes, medians, strict=True)
    ]
    return {
        "node_count": len(nodes),
        "nodes_ms": round(total, 4),
        "plain_ms": round(plain, 4),
        "reported_ms": round(reported, 4),
        "node_floor_ms": round(float(medians.min()), 4),
        "types": types,
        "nodes": nodes,
    }


def _share(ms: float, total: float) -> float:
    return round(float(ms) / total, 4) if total else 0.0


def _rounds(runs: int) -> Iterator[range]:
    for start in range(0, runs, ROUND):
        yield range(start, min(start + ROUND, runs))


def _of_lite(located: Located, threads, runs, warmup, image, lite, say, report) -> Samples:
    from msedge.benchmark.worker import sample_input
    from msedge.runtime.lite_runner import LiteRunner, toolchain_for

    with LiteRunner(located.file, spec_of(located), threads, toolchain_for(lite, say)) as runner:
        x = sample_input(runner, image)
        for _ in range(warmup):
            runner.timed(x)
        seen = [
            Node(n.name, n.type, n.outputs[0].shape if n.outputs else ()) for n in runner.session.trace(x, keep_outputs=True)
        ]
        node_ms, reported_ms, plain_ms = [], [], []
        for turn in _rounds(runs):
            runner.session.trace(x, keep_outputs=False)
            for i in turn:
                traced, ms = runner.session.timed_trace(x, keep_outputs=False)
                if [n.name for n in traced] != [n.name for n in seen]:
                    raise ToolFailed(f"{located.file} ran other nodes than in the run before")
                node_ms.append([n.ms for n in traced])
                reported_ms.append(ms)
                report(i + 1)
            plain_ms += [runner.timed(x)[1] for _ in (None, *turn)][1:]
    return Samples(tuple(seen), np.array(node_ms), np.array(reported_ms), np.array(plain_ms))


def _of_onnxruntime(located: Located, threads, runs, warmup, image, report) -> Samples:
    from msedge.benchmark.worker import sample_input
    from msedge.runtime.onnx_runner import OnnxRunner

    with OnnxRunner(located.file, spec_of(located), threads) as plain, _reporting(located.file, threads) as (run, events):
        x = sample_input(plain, image)
        for _ in range(warmup):
            plain.timed(x)
            run(x)
        reported_ms, plain_ms = [], []
        for turn in _rounds(runs):
            plain_ms += [plain.timed(x)[1] for _ in (None, *turn)][1:]
            for i in turn:
                reported_ms.append(run(x))
                report(i + 1)
        per_run = _split_runs(events(), warmup + runs)[warmup:]
    nodes = tuple(_onnx_node(event) for event in per_run[0])
    node_ms = np.array([[event["dur"] / 1e3 for event in each] for each in per_run])
    return Samples(nodes, node_ms, np.array(reported_ms), np.array(plain_ms))


@contextmanager
def _reporting(file: Path, threads: int):
    """Yield `run(x)`, milliseconds of a run that reports, and `events()`: the nodes' events of all such runs."""
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    options.log_severity_level = 4
    options.enable_profiling = True
    with tempfile.TemporaryDirectory(prefix="msedge-profile-") as folder:
        options.profile_file_prefix = str(Path(folder) / "run")
        session = ort.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])
        name = session.get_inputs()[0].name

        def events() -> list[dict[str, Any]]:
            written = json.loads(Path(session.end_profiling()).read_text())
            return [e for e in written if e.get("cat") == "Node" and e["name"].endswith("_kernel_time")]

        def run(x: np.ndarray) -> float:
            began = time.perf_counter()
            session.run(None, {name: x})
            return (time.perf_counter() - began) * 1e3

        yield run, events


def _split_runs(events: list[dict[str, Any]], runs: int) -> list[list[dict[str, Any]]]:
    """The profiler writes one list for all runs; each run executes the same nodes in the same order."""
    count, rest = divmod(len(events), runs)
    per_run = [events[i * count : (i + 1) * count] for i in range(runs)]
    if rest or not count or any([e["name"] for e in each] != [e["name"] for e in per_run[0]] for each in per_run):
        raise ToolFailed("onnxruntime's profiler did not report the same nodes in every run", "try fewer runs")
    return per_run


def _onnx_node(event: dict[str, Any]) -> Node:
    shapes = event["args"].get("output_type_shape") or [{}]
    shape = next(iter(shapes[0].values()), ())
    return Node(event["name"].removesuffix("_kernel_time"), event["args"]["op_name"], tuple(shape))
