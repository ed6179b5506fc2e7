"""Post-training quantisation: a few calibration images give every int8 node its scales.

The scales come first. Every further step (evener channels, error-compensated rounding, bias correction) is tried on
images that it did not learn from, and stays only where the logits come closer to the float model's.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from fnmatch import fnmatchcase
from typing import Any

import numpy as np

from msedge.errors import UserError
from msedge.progress import Progress, Say, no_progress, silent
from msedge.quantization.bias_correction import correct_biases, mean_errors
from msedge.quantization.calibration import check_images
from msedge.quantization.equalise import equalise, equalise_tensors
from msedge.quantization.graph import ModelGraph
from msedge.quantization.migration import migrate, migrate_tensors
from msedge.quantization.observers import OBSERVERS
from msedge.quantization.onnx_simulation import Simulation
from msedge.quantization.plan import NodePlan, Plan
from msedge.quantization.ptq_scales import WEIGHT_METHODS, activation_plans, channel_ranges, weight_plans, with_room_for_biases
from msedge.quantization.rounding import round_weights, second_moments
from msedge.quantization.scheme import Scheme
from msedge.quantization.shared_scales import with_shared_scales

FEWEST_TO_JUDGE = 8  # images; with fewer no step is tried
WORTH = 0.98  # a step must bring the error of the logits below this share
_DEFAULT_WHY = "int8 unless said otherwise"


@dataclass(frozen=True)
class PtqSettings:
    """`activations` names an observer, `weights` a search (mse, minmax); `symmetric` is about activations. `equalise`,
    `migrate`, `rounding` and `bias_correction` are the steps to try. `float_nodes` are patterns (`stem.*`) of nodes that stay
    float, `early_float` the share of all weights up to which leading nodes do. Raises UserError for what cannot be."""

    activations: str = "mse"
    weights: str = "mse"
    per_channel: bool = True
    symmetric: bool = False
    equalise: bool = True
    migrate: bool = True
    rounding: bool = True
    bias_correction: bool = True
    float_nodes: tuple[str, ...] = ()
    early_float: float = 0.0

    def __post_init__(self):
        for key, value, known in (("activations", self.activations, OBSERVERS), ("weights", self.weights, WEIGHT_METHODS)):
            if value not in known:
                raise UserError(f"quantisation: {key} is {value!r}", f"one of {', '.join(known)}")
        if not 0 <= self.early_float <= 1:
            raise UserError(f"quantisation: early_float is {self.early_float}", "a share from 0 to 1")

    @classmethod
    def naive(cls) -> PtqSettings:
        """What one would write first: the extremes of every tensor, one scale for each, nothing further."""
        return cls.plain(activations="minmax", weights="minmax", per_channel=False)

    @classmethod
    def plain(cls, **settings: Any) -> PtqSettings:
        """Scales only, without the steps that change weights."""
        return cls(**{"equalise": False, "migrate": False, "rounding": False, "bias_correction": False} | settings)


_DEFAULT = PtqSettings()


def make_plan(
    graph: ModelGraph,
    images: np.ndarray,
    settings: PtqSettings = _DEFAULT,
    say: Say = silent,
    progress: Progress = no_progress,
) -> tuple[ModelGraph, Plan]:
    """The model, with the weights that the plan is for, and its plan. `images` are float32 [N, 3, H, W]; every fourth is held
    out to judge the steps.

    Raises DataError for images that cannot calibrate, UserError for a pattern that no node has.
    """
    check_images(images)
    if len(images) == 1:
        say("one calibration image: the scales fit that image only; 64 to 256 are usual")
    made = _Ptq(graph, images, settings, say, progress).run()
    made[1].check(made[0])
    return made


@dataclass(frozen=True)
class _State:
    """`exact` is `graph` before rounding and correction: the float function with the same channels."""

    graph: ModelGraph
    plan: Plan
    exact: ModelGraph


class _Ptq:
    def __init__(self, graph: ModelGraph, images: np.ndarray, settings: PtqSettings, say: Say, progress: Progress):
        self.graph, self.settings, self.say, self.progress = graph, settings, say, progress
        self.nodes = precisions(graph, settings)
        self.all = images
        self.held = images[3::4] if len(images) >= FEWEST_TO_JUDGE else images[:0]
        self.seen = np.delete(images, np.s_[3::4], 0) if len(self.held) else images
        self.steps: list[dict[str, Any]] = []

    def run(self) -> tuple[ModelGraph, Plan]:
        s = self.settings
        state = self._scaled(self.graph)
        steps: list[tuple[str, bool, Callable[[_State], _State]]] = [
            ("even channels", s.equalise or s.migrate, self._evened),
            ("error-compensated rounding", s.rounding, self._rounded),
            ("bias correction", s.bias_correction, self._corrected),
        ]
        wanted = [(name, step) for name, on, step in steps if on]
        if wanted and not len(self.held):
            self.say(f"{len(self.all)} calibration images are too few to judge further steps: scales only")
        elif wanted:
            target = Simulation(self.graph).logits(self.held)
            error = self._error(state, target)
            for name, step in wanted:
                state, error = self._judged(name, step(state), state, error, target)
        return state.graph, replace(state.plan, made_by=self._made_by())

    def _judged(self, name: str, new: _State, old: _State, error: float, target: np.ndarray) -> tuple[_State, float]:
        changed = self._error(new, target)
        kept = changed < WORTH * error
        self.steps.append({"step": name, "error_before": error, "error_after": changed, "kept": kept})
        self.say(f"{name}: error of the logits on held-out images {error:.4f} to {changed:.4f}, {'kept' if kept else 'left'}")
        return (new, changed) if kept else (old, error)

    def _error(self, state: _State, target: np.ndarray) -> float:
        """Root mean square error of the logits, as a share of their spread."""
        logits = Simulation(state.graph).logits(self.held, state.plan)
        return float(np.sqrt(((logits - target) ** 2).mean()) / max(target.std(), 1e-12))

    def _scaled(self, graph: ModelGraph) -> _State:
        s = self.settings
        units = [graph.units[n] for n, node in self.nodes.items() if node.precision == "int8"]
        scheme = Scheme(symmetric=s.symmetric)
        tensors = activation_plans(graph, self.all, units, s.activations, scheme, self.say, self.progress)
        tensors |= weight_plans(graph, units, s.weights, s.per_channel)
        plan = Plan(graph.fingerprint, with_room_for_biases(graph, units, tensors), self.nodes)
        return _State(graph, with_shared_scales(graph, plan), graph)

    def _evened(self, state: _State) -> _State:
        s, graph = self.settings, state.graph
        axes = (equalise_tensors(graph) if s.equalise else {}) | (migrate_tensors(graph) if s.migrate else {})
        ranges = channel_ranges(graph, self.seen, axes, self.progress)
        graph = equalise(graph, ranges) if s.equalise else graph
        return self._scaled(migrate(graph, ranges) if s.migrate else graph)

    def _rounded(self, state: _State) -> _State:
        units = [state.graph.units[n] for n in state.plan.of("int8")]
        moments = second_moments(state.graph, self.seen, units, self.progress)
        return replace(state, graph=round_weights(state.graph, state.plan, moments))

    def _corrected(self, state: _State) -> _State:
        errors = mean_errors(state.exact, state.plan, self.seen, state.graph, self.progress)
        return replace(state, graph=correct_biases(state.graph, errors))

    def _made_by(self) -> dict[str, Any]:
        settings = {**asdict(self.settings), "float_nodes": list(self.settings.float_nodes)}
        return {"method": "ptq", "settings": settings, "images": len(self.all), "steps": self.steps}


def precisions(graph: ModelGraph, settings: PtqSettings) -> dict[str, NodePlan]:
    """What each node computes in, and why. Raises UserError for a pattern that no node has."""
    for pattern in settings.float_nodes:
        if not any(fnmatchcase(name, pattern) for name in graph.units):
            first = next(iter(graph.units))
            raise UserError(f"no node that can be quantised is named {pattern!r}", f"nodes are named like {first!r}")
    early = _early(graph, settings.early_float)
    nodes = {}
    for name in graph.units:
        pattern = next((p for p in settings.float_nodes if fnmatchcase(name, p)), None)
        if pattern is not None:
            nodes[name] = NodePlan("float", f"named by {pattern!r}")
        elif name in early:
            why = f"early: its error passes through every layer, and it holds {early[name]:.2%} of the weights"
            nodes[name] = NodePlan("float", why)
        else:
            nodes[name] = NodePlan("int8", _DEFAULT_WHY)
    return nodes


def _early(graph: ModelGraph, share: float) -> dict[str, float]:
    """The leading nodes whose weights are together at most this share of all, with the share of each."""
    sizes = {n: graph.weights[u.weight].size if u.weight else 0 for n, u in graph.units.items()}
    total, found, so_far = sum(sizes.values()), {}, 0
    for name, size in sizes.items():
        so_far += size
        if not share or so_far > share * total:
            break
        found[name] = size / total
    return found
