"""The quantisation plan: what every node computes in, and the scale of every quantised tensor. One JSON file.

PTQ and QAT write it; the `.ms` rewriter, the QDQ ONNX writer, the simulations and the reports read it.
`real = scale * (stored - zero_point)`; stored numbers are signed, `bits` wide. Symmetric tensors have zero point 0 and use
[-(2^(bits-1) - 1), 2^(bits-1) - 1]; the others use the whole range from -2^(bits-1).

A node of precision `int8` reads its inputs quantised and writes its output quantised (MindSpore Lite's int8 kernels have no
other form); `weight` keeps float arithmetic and stores the weight with few bits; `float` stays as it is.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from msedge.artifact import read_json, write_json
from msedge.errors import ArtifactError
from msedge.quantization.graph import ModelGraph

FORMAT, VERSION, FILE = "msedge.quantization_plan", 1, "plan.json"
PRECISIONS = ("int8", "weight", "float")
ROLES = ("activation", "weight")
MIN_BITS, MAX_BITS = 2, 16


@dataclass(frozen=True)
class TensorPlan:
    """How one tensor is stored. `scale` and `zero_point` have one entry, or one for each index of `axis`; with `group`,
    one for each (index of `axis`, run of `group` elements along the rest), row by row."""

    role: str
    scale: tuple[float, ...]
    zero_point: tuple[int, ...]
    bits: int = 8
    symmetric: bool = False
    axis: int | None = None
    group: int = 0

    @property
    def low(self) -> int:
        """Smallest stored number."""
        return -(2 ** (self.bits - 1)) + (1 if self.symmetric else 0)

    @property
    def high(self) -> int:
        """Largest stored number."""
        return 2 ** (self.bits - 1) - 1

    def problem(self) -> str:
        """What is wrong with it, in words; empty where nothing is."""
        if self.role not in ROLES:
            return f"its role is {self.role!r}, not one of {', '.join(ROLES)}"
        if not MIN_BITS <= self.bits <= MAX_BITS:
            return f"it has {self.bits} bits, not {MIN_BITS} to {MAX_BITS}"
        if not self.scale or len(self.scale) != len(self.zero_point):
            return f"it has {len(self.scale)} scales and {len(self.zero_point)} zero points"
        if bad := [s for s in self.scale if not math.isfinite(s) or s <= 0]:
            return f"it has the scale {bad[0]}; scales are finite and above 0"
        if bad := [z for z in self.zero_point if not self.low <= z <= self.high]:
            return f"it has the zero point {bad[0]}, outside {self.low} to {self.high}"
        if self.symmetric and any(self.zero_point):
            return "it is symmetric and has a zero point that is not 0"
        if len(self.scale) > 1 and self.axis is None:
            return f"it has {len(self.scale)} scales and no axis"
        return ""


@dataclass(frozen=True)
class NodePlan:
    """What a node computes in, and why."""

    precision: str
    why: str = ""


@dataclass(frozen=True)
class Plan:
    """`graph` is the fingerprint of the model's structure (see `ModelGraph.fingerprint`), `made_by` says how the plan came
    about (method, settings, calibration), for people and manifests."""

    graph: str
    tensors: dict[str, TensorPlan]
    nodes: dict[str, NodePlan]
    made_by: dict[str, Any] = field(default_factory=dict)

    def of(self, *precisions: str) -> tuple[str, ...]:
        """The names of the nodes with one of these precisions, in the order of the plan."""
        return tuple(name for name, node in self.nodes.items() if node.precision in precisions)

    def with_float(self, names: dict[str, str]) -> Plan:
        """The plan with these nodes in float; `names` says why for each."""
        nodes = {n: NodePlan("float", names[n]) if n in names else node for n, node in self.nodes.items()}
        return replace(self, nodes=nodes)

    def to_dict(self) -> dict[str, Any]:
        return {
            "format": FORMAT,
            "version": VERSION,
            "graph": self.graph,
            "made_by": self.made_by,
            "nodes": {name: dict(vars(node)) for name, node in self.nodes.items()},
            "tensors": {name: _tensor_dict(t) for name, t in self.tensors.items()},
        }

    def save(self, file: Path) -> None:
        """Write it as JSON, whole or not at all. Raises ArtifactError."""
        write_json(file, self.to_dict())

    def check(self, graph: ModelGraph) -> None:
        """Raise ArtifactError unless the plan is sound and belongs to this model."""
        check_plan(self, graph)


def _tensor_dict(t: TensorPlan) -> dict[str, Any]:
    return {**vars(t), "scale": list(t.scale), "zero_point": list(t.zero_point)}


def load_plan(file: Path | str) -> Plan:
    """Read a plan and check what can be checked without its model. Raises ArtifactError."""
    file = Path(file)
    raw = read_json(file, "the quantisation plan")
    if not isinstance(raw, dict) or raw.get("format") != FORMAT:
        raise ArtifactError(f"{file} is no quantisation plan", "msedge quantize writes one")
    if raw.get("version") != VERSION:
        raise ArtifactError(f"{file} has plan version {raw.get('version')}; this msedge reads {VERSION}", "make the plan again")
    try:
        tensors = {name: _tensor(t) for name, t in raw["tensors"].items()}
        nodes = {name: NodePlan(**n) for name, n in raw["nodes"].items()}
        plan = Plan(str(raw["graph"]), tensors, nodes, dict(raw["made_by"]))
    except (KeyError, TypeError, ValueError, AttributeError, json.JSONDecodeError) as e:
        raise ArtifactError(f"{file} is damaged: {e}", "make the plan again") from None
    _check_values(plan, str(file))
    return plan


def _tensor(raw: dict[str, Any]) -> TensorPlan:
    scale, zero = tuple(float(s) for s in raw["scale"]), tuple(int(z) for z in raw["zero_point"])
    return TensorPlan(**{**raw, "scale": scale, "zero_point": zero, "bits": int(raw["bits"])})


def _check_values(plan: Plan, where: str) -> None:
    for name, tensor in plan.tensors.items():
        if problem := tensor.problem():
            raise ArtifactError(f"{where}: tensor {name!r}: {problem}", "make the plan again")
    for name, node in plan.nodes.items():
        if node.precision not in PRECISIONS:
            raise ArtifactError(f"{where}: node {name!r} is {node.precision!r}", f"a node is one of {', '.join(PRECISIONS)}")


def check_plan(plan: Plan, graph: ModelGraph, where: str = "the plan") -> None:
    """Raise ArtifactError unless every value is sound, every node is in the model and every tensor it needs is there."""
    _check_values(plan, where)
    units = graph.units
    if unknown := [n for n in plan.nodes if n not in units]:
        raise ArtifactError(f"{where}: the model has no node {unknown[0]!r} that can be quantised", "is it of another model?")
    if plan.graph != graph.fingerprint:
        raise ArtifactError(f"{where} belongs to another model", "make a plan for this one: msedge quantize")
    for name in plan.of("int8", "weight"):
        unit = units[name]
        tensors = [unit.weight] if plan.nodes[name].precision == "weight" else [*unit.roots, unit.weight, unit.output]
        for tensor in tensors:
            if tensor is None:
                continue
            if tensor not in plan.tensors:
                raise ArtifactError(f"{where}: the tensor {tensor!r} of node {name!r} is missing", "make the plan again")
            _check_axis(plan.tensors[tensor], tensor, graph, where)


def _check_axis(t: TensorPlan, name: str, graph: ModelGraph, where: str) -> None:
    if t.axis is None or name not in graph.weights:
        return
    shape = graph.weights[name].shape
    if not 0 <= t.axis < len(shape):
        raise ArtifactError(f"{where}: tensor {name!r} has axis {t.axis}, its shape is {list(shape)}", "make the plan again")
    groups = math.ceil(math.prod(shape) // shape[t.axis] / t.group) if t.group else 1
    if len(t.scale) not in (1, shape[t.axis] * groups):
        raise ArtifactError(
            f"{where}: tensor {name!r} has {len(t.scale)} scales, its axis {t.axis} needs {shape[t.axis] * groups}",
            "make the plan again",
        )


def quantize_array(x: np.ndarray, t: TensorPlan) -> np.ndarray:
    """The stored numbers of x as int32, in the shape of x; rounds half to even, clips to the plan's range."""
    grouped, scale, zero = _laid_out(np.asarray(x, np.float64), t)
    stored = np.clip(np.rint(grouped / scale) + zero, t.low, t.high).astype(np.int32)
    return _laid_back(stored, x.shape, t)


def dequantize_array(stored: np.ndarray, t: TensorPlan) -> np.ndarray:
    """Real values, float32, of stored numbers."""
    grouped, scale, zero = _laid_out(np.asarray(stored, np.float64), t)
    return _laid_back(((grouped - zero) * scale).astype(np.float32), stored.shape, t)


def fake_quantize(x: np.ndarray, t: TensorPlan) -> np.ndarray:
    """x as it is after being stored by the plan, float32."""
    return dequantize_array(quantize_array(x, t), t)


def _laid_out(x: np.ndarray, t: TensorPlan) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """x with its scales and zero points in shapes that broadcast; groups as [axis, groups, group], padded with zeros."""
    scale, zero = np.asarray(t.scale), np.asarray(t.zero_point, np.float64)
    if t.group:
        rows = np.moveaxis(x, t.axis, 0).reshape(x.shape[t.axis], -1)
        rows = np.pad(rows, ((0, 0), (0, -rows.shape[1] % t.group)))
        rows = rows.reshape(len(rows), -1, t.group)
        return rows, scale.reshape(*rows.shape[:2], 1), zero.reshape(*rows.shape[:2], 1)
    if t.axis is None or len(scale) == 1:
        return x, scale.reshape(()), zero.reshape(())
    shape = [-1 if i == t.axis else 1 for i in range(x.ndim)]
    return x, scale.reshape(shape), zero.reshape(shape)


def _laid_back(x: np.ndarray, shape: tuple[int, ...], t: TensorPlan) -> np.ndarray:
    if not t.group:
        return x
    moved = (shape[t.axis], *(s for i, s in enumerate(shape) if i != t.axis))
    rows = x.reshape(shape[t.axis], -1)[:, : math.prod(moved[1:])]
    return np.ascontiguousarray(np.moveaxis(rows.reshape(moved), 0, t.axis))
