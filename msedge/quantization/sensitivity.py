"""How much each quantised node moves the logits.

Two ways to ask: `alone` quantises one node and leaves the rest float (what it costs), `back` returns one node to float and
leaves the rest quantised (what that would win). Costs add up; wins do not, since the errors of the others hide them. Scores
are written down as they come: a run that is killed goes on where it was.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from msedge.artifact import cache_dir
from msedge.errors import UserError
from msedge.progress import Progress, no_progress
from msedge.quantization.graph import ModelGraph
from msedge.quantization.onnx_simulation import Simulation
from msedge.quantization.plan import NodePlan, Plan
from msedge.runtime.classify import softmax

WAYS = ("alone", "back")
WORKERS = 2
_VERSION = 1  # raise when scores would be others


@dataclass(frozen=True)
class Change:
    """Logits against those of the float model: mean square of the change over their variance (after taking off what is
    common to all classes of an image), mean Kullback-Leibler divergence of the probabilities in nats, changed decisions."""

    error: float
    kl: float
    flips: int


@dataclass(frozen=True)
class Sensitivity:
    """The scores of the plan's quantised nodes: the `Change` that the node makes alone, or that vanishes without it."""

    way: str
    images: int
    scores: dict[str, Change]

    def ranked(self) -> list[str]:
        """Nodes, the most harmful first."""
        return sorted(self.scores, key=lambda name: -self.scores[name].error)

    def to_dict(self) -> dict[str, Any]:
        scores = [{"node": name, **vars(self.scores[name])} for name in self.ranked()]
        return {"way": self.way, "images": self.images, "nodes": scores}


def change(reference: np.ndarray, logits: np.ndarray) -> Change:
    """How far `logits` are from `reference`, both float [N, classes]."""
    a, b = _centred(reference), _centred(logits)
    variance = ((a - a.mean(axis=0)) ** 2).mean() or (a**2).mean() or 1.0
    p, q = softmax(reference), softmax(logits)
    kl = (p * (np.log(np.maximum(p, 1e-30)) - np.log(np.maximum(q, 1e-30)))).sum(axis=1).mean()
    flips = int((reference.argmax(axis=1) != logits.argmax(axis=1)).sum())
    return Change(float(((a - b) ** 2).mean() / variance), float(kl), flips)


def _centred(logits: np.ndarray) -> np.ndarray:
    wide = np.asarray(logits, np.float64)
    return wide - wide.mean(axis=1, keepdims=True) if wide.shape[1] > 1 else wide


def sensitivity(
    simulation: Simulation,
    plan: Plan,
    images: np.ndarray,
    *,
    way: str = "alone",
    nodes: Sequence[str] | None = None,
    cache: Path | None = None,
    workers: int = WORKERS,
    progress: Progress = no_progress,
) -> Sensitivity:
    """Score the quantised nodes of `plan` (or `nodes` of them) on float32 [N, 3, H, W].

    Scores are kept in the folder `cache` (default: the user's cache), in a file named after the model with its weights, the
    plan, the images and the way. Raises UserError for an unknown way or node, ArtifactError for a plan of another model.
    """
    if way not in WAYS:
        raise UserError(f"there is no way '{way}' to score nodes", f"one of {', '.join(WAYS)}")
    plan.check(simulation.graph)
    quantised = plan.of("int8", "weight")
    if unknown := [n for n in nodes or () if n not in quantised]:
        raise UserError(f"the plan does not quantise a node {unknown[0]!r}", f"it has {len(quantised)} quantised nodes")
    wanted = list(nodes if nodes is not None else quantised)
    known = _Scores((cache or cache_dir() / "sensitivity") / f"{_key(simulation.graph, plan, images, way)}.jsonl")
    missing = [n for n in wanted if n not in known.scores]
    if missing:
        _score(simulation, plan, images, way, missing, known, workers, progress, len(wanted))
    return Sensitivity(way, len(images), {n: known.scores[n] for n in wanted})


def _score(simulation, plan, images, way, missing, known, workers, progress, total) -> None:
    reference = simulation.logits(images)
    base = change(reference, simulation.logits(images, plan)) if way == "back" else None
    idle = [simulation, *(Simulation(simulation.graph, simulation.threads) for _ in range(min(workers, len(missing)) - 1))]

    def one(name: str) -> tuple[str, Change]:
        own = idle.pop()
        try:
            found = change(reference, own.logits(images, _asked(plan, name, way)))
        finally:
            idle.append(own)
        return name, _won(base, found) if base else found

    with progress("scoring nodes", total) as report, ThreadPoolExecutor(len(idle)) as pool, known.writing() as write:
        try:
            for done, (name, found) in enumerate(pool.map(one, missing), total - len(missing) + 1):
                write(name, found)
                report(done)
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise


def _asked(plan: Plan, name: str, way: str) -> Plan:
    if way == "back":
        return plan.with_float({name: ""})
    return replace(plan, nodes={n: node if n == name else NodePlan("float") for n, node in plan.nodes.items()})


def _won(base: Change, found: Change) -> Change:
    return Change(base.error - found.error, base.kl - found.kl, base.flips - found.flips)


def _key(graph: ModelGraph, plan: Plan, images: np.ndarray, way: str) -> str:
    """Names all that a score depends on."""
    digest = hashlib.sha256()
    for name in sorted(graph.weights):
        digest.update(name.encode() + np.ascontiguousarray(graph.weights[name]).tobytes())
    raw = plan.to_dict()
    nodes = {name: node.precision for name, node in plan.nodes.items()}
    text = json.dumps([_VERSION, way, graph.fingerprint, raw["tensors"], nodes, images.shape], sort_keys=True)
    digest.update(text.encode() + np.ascontiguousarray(images, np.float32).tobytes())
    return digest.hexdigest()[:32]


class _Scores:
    """Scores in a JSON-lines file, one line for each node; a line that a kill cut off is written again."""

    def __init__(self, file: Path):
        self.file = file
        self.scores: dict[str, Change] = {}
        with contextlib.suppress(OSError):
            for line in file.read_text(errors="replace").splitlines():
                with contextlib.suppress(ValueError, KeyError, TypeError):
                    raw = json.loads(line)
                    self.scores[raw.pop("node")] = Change(float(raw["error"]), float(raw["kl"]), int(raw["flips"]))

    @contextlib.contextmanager
    def writing(self) -> Iterator[Any]:
        """Yield write(name, change). Where the cache cannot be written, scores live as long as the process."""
        try:
            self.file.parent.mkdir(parents=True, exist_ok=True)
            out = self.file.open("a")
        except OSError:
            out = None

        def write(name: str, found: Change) -> None:
            self.scores[name] = found
            if out:
                with contextlib.suppress(OSError):
                    out.write("\n" + json.dumps({"node": name, **vars(found)}))
                    out.flush()
                    os.fsync(out.fileno())

        try:
            yield write
        finally:
            if out:
                out.close()
