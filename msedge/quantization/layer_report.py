"""Where a quantised model loses its accuracy: the error of every node, simulated and in the real runtime."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from msedge.artifact import write_json
from msedge.errors import DataError
from msedge.progress import Progress, no_progress
from msedge.quantization.divergence import PARTED_DB, Agreement
from msedge.quantization.graph import Unit
from msedge.quantization.kernel_check import KernelCheck
from msedge.quantization.node_values import RuntimeNodes
from msedge.quantization.onnx_simulation import Simulation
from msedge.quantization.plan import Plan, TensorPlan

KERNEL_STEPS = 1  # that a right kernel may be off

Values = dict[str, np.ndarray]


@dataclass(frozen=True)
class NodeError:
    """One node against the float model, over all images. SQNR in dB and mean cosine of the output by the plan (errors of the
    nodes before included); shares of the float model's values outside the planned range, of the output (`clipped`) and the
    worst input; ranges seen and planned (None where the output is not quantised).

    `runtime_db` and `runtime_cosine`: the real runtime against the float model; `simulation_db`: against the simulated plan
    (roundings that differ add up over the nodes); `kernel_steps`: the kernel against exact arithmetic on its own inputs, the
    largest difference in steps of the output's scale. None where not measured.
    """

    name: str
    op: str
    precision: str
    sqnr_db: float
    cosine: float
    clipped: float
    input_clipped: float
    seen: tuple[float, float]
    calibrated: tuple[float, float] | None
    runtime_db: float | None = None
    runtime_cosine: float | None = None
    simulation_db: float | None = None
    kernel_steps: int | None = None


@dataclass(frozen=True)
class LayerReport:
    """`nodes` in the order of execution."""

    images: int
    nodes: tuple[NodeError, ...]

    def worst(self, n: int) -> list[NodeError]:
        """The `n` quantised nodes with the least SQNR."""
        return sorted((e for e in self.nodes if e.precision != "float"), key=lambda e: e.sqnr_db)[:n]

    def first_below(self, what: str = "runtime_db", limit: float = PARTED_DB) -> NodeError | None:
        """The first node whose `what` (sqnr_db, runtime_db, simulation_db) is below `limit` dB."""
        return next((e for e in self.nodes if getattr(e, what) is not None and getattr(e, what) < limit), None)

    @property
    def wrong_kernels(self) -> list[NodeError]:
        """The nodes whose kernel computes something else than the plan says."""
        return [e for e in self.nodes if e.kernel_steps is not None and e.kernel_steps > KERNEL_STEPS]

    def to_dict(self) -> dict[str, Any]:
        first = {what: self.first_below(what) for what in ("sqnr_db", "runtime_db", "simulation_db")}
        return {
            "images": self.images,
            "first_below": {what: e.name if e else None for what, e in first.items()},
            "limit_db": PARTED_DB,
            "wrong_kernels": [e.name for e in self.wrong_kernels],
            "nodes": [dict(vars(e)) for e in self.nodes],
        }

    def save(self, file: Path) -> None:
        """Write it as JSON. Raises ArtifactError."""
        write_json(file, self.to_dict())


def layer_report(
    simulation: Simulation,
    plan: Plan,
    images: np.ndarray,
    runtime: RuntimeNodes | None = None,
    progress: Progress = no_progress,
) -> LayerReport:
    """Measure every node of the plan on float32 [N, 3, H, W]; with `runtime` (the `.ms` that the plan was written into) also
    what the real kernels make of it. Raises DataError for no images, ArtifactError for a plan of another model.
    """
    if not len(images):
        raise DataError("there are no images to measure layers with", "eight are enough")
    plan.check(simulation.graph)
    units = [u for name, u in simulation.graph.units.items() if name in plan.nodes]
    tallies = {u.name: _Tally(u.name) for u in units}
    real = _Real(runtime, plan) if runtime else None
    wanted = list(dict.fromkeys(t for u in units for t in (*u.roots, *u.inputs, u.output, *(real.tensors(u) if real else ()))))
    with progress("measuring layers", len(images)) as report:
        for done, image in enumerate(images, 1):
            float_values = simulation.tensors(image[None], wanted)
            planned = simulation.tensors(image[None], wanted, plan)
            for unit in units:
                tallies[unit.name].plan.add(float_values[unit.output], planned[unit.output])
                tallies[unit.name].see(float_values, unit, plan)
            if real:
                real.add(image[None], float_values, planned, tallies)
            report(done)
    return LayerReport(len(images), tuple(tallies[u.name].result(u.op, plan, u.output) for u in units))


class _Real:
    """Reads the runtime and adds what it says to the tallies."""

    def __init__(self, runtime: RuntimeNodes, plan: Plan):
        self.runtime = runtime
        self.check = KernelCheck(runtime.runner.file.read_bytes(), runtime.graph, plan)

    def tensors(self, unit: Unit) -> tuple[str, ...]:
        return (self.runtime.tensor_of[unit.name],)

    def add(self, image: np.ndarray, float_values: Values, planned: Values, tallies: dict[str, _Tally]) -> None:
        nodes = self.runtime.read(image)
        shapes = {t: v.shape for t, v in float_values.items()}
        stored = {n.name: n.outputs[0] for n in nodes}
        for name, value in self.runtime.in_onnx_layout(self.runtime.real(nodes), shapes).items():
            tensor, tally = self.runtime.tensor_of[name], tallies.get(name)
            if tally is None:
                continue
            tally.runtime.add(float_values[tensor], value)
            tally.simulation.add(planned[tensor], value)
            if (steps := self.check.steps(name, stored, shapes)) is not None:
                tally.steps = max(steps, tally.steps or 0)


@dataclass
class _Tally:
    name: str
    plan: Agreement = field(default_factory=Agreement)
    runtime: Agreement = field(default_factory=Agreement)
    simulation: Agreement = field(default_factory=Agreement)
    steps: int | None = None
    low: float = math.inf
    high: float = -math.inf
    clipped: list[float] = field(default_factory=list)
    input_clipped: list[float] = field(default_factory=list)

    def see(self, values: Values, unit: Unit, plan: Plan) -> None:
        out = values[unit.output]
        self.low, self.high = min(self.low, float(out.min())), max(self.high, float(out.max()))
        if plan.nodes[unit.name].precision == "int8":
            self.clipped.append(clipped_share(out, plan.tensors[unit.output]))
            self.input_clipped.append(max(clipped_share(values[r], plan.tensors[r]) for r in unit.roots))

    def result(self, op: str, plan: Plan, output: str) -> NodeError:
        precision = plan.nodes[self.name].precision
        return NodeError(
            self.name,
            op,
            precision,
            self.plan.db,
            self.plan.cosine,
            float(np.mean(self.clipped)) if self.clipped else 0.0,
            float(np.mean(self.input_clipped)) if self.input_clipped else 0.0,
            (self.low, self.high),
            range_of(plan.tensors[output]) if precision == "int8" else None,
            self.runtime.db,
            self.runtime.cosine,
            self.simulation.db,
            self.steps,
        )


def range_of(t: TensorPlan) -> tuple[float, float]:
    """Smallest and largest real number that a tensor with one scale can store."""
    return (t.low - t.zero_point[0]) * t.scale[0], (t.high - t.zero_point[0]) * t.scale[0]


def clipped_share(values: np.ndarray, t: TensorPlan) -> float:
    """Share of `values` that the plan cannot store within half a step."""
    low, high = range_of(t)
    half = t.scale[0] / 2
    return float(((values < low - half) | (values > high + half)).mean())
