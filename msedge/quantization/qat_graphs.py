"""The parts of quantisation-aware training that the training loop does not have: graphs, scales, and the judge."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from msedge.data.batches import EvalBatches
from msedge.errors import ModelError
from msedge.mindspore_setup import load_mindspore
from msedge.models.spec import ModelSpec
from msedge.quantization.graph import ModelGraph
from msedge.quantization.plan import Plan
from msedge.quantization.shared_scales import with_shared_scales
from msedge.recipe import QatConfig
from msedge.training.evaluate import Evaluator
from msedge.training.loop import Fitting
from msedge.training.teacher import CellTeacher

load_mindspore()

from mindspore import Tensor, nn  # noqa: E402

from msedge.exporter.stage import export_cell  # noqa: E402
from msedge.quantization.cell import GraphCell  # noqa: E402


@dataclass(frozen=True)
class Graphs:
    """The same model exported for one image (what is shipped) and for a batch (what is trained)."""

    single: ModelGraph
    batched: ModelGraph

    @classmethod
    def export(cls, cell: nn.Cell, spec: ModelSpec, batch: int) -> Graphs:
        with tempfile.TemporaryDirectory(prefix="msedge-qat-") as scratch:
            folders = [export_cell(cell, spec, Path(scratch) / str(n), batch=n, golden=2) for n in (1, batch)]
            return cls(*(ModelGraph.load(folder / "model.onnx") for folder in folders))

    def batched_like(self, single: ModelGraph) -> ModelGraph:
        """The graph for a batch with the float weights of `single`. Raises ModelError where their units differ."""
        for name, unit in single.units.items():
            other = self.batched.units.get(name)
            if other is None or replace(other, inputs=()) != replace(unit, inputs=()):  # the way from the roots may differ
                raise ModelError(f"the node {name!r} is not the same in a batch", "train this model at another data.batch_size")
        fixed = unlike(self.batched, single)
        return self.batched.with_weights({n: single.weights[n] for n in self.batched.weights if n not in fixed})


def unlike(batched: ModelGraph, single: ModelGraph) -> frozenset[str]:
    """Initialisers that depend on the batch (shapes, indices, a class token for each image): they are not trained."""

    def same(name: str) -> bool:
        value, other = batched.weights[name], single.weights.get(name)
        return value.dtype.kind == "f" and other is not None and other.shape == value.shape

    return frozenset(name for name in batched.weights if not same(name))


class ScaleSchedule:
    """The model in training and its shadow, and how their scales change: learned at a rate of their own, then put on the
    grid that a `.ms` stores cheaply, and frozen."""

    def __init__(self, batched: ModelGraph, single: ModelGraph, plan: Plan, config: QatConfig):
        self.single, self.plan, self.config = single, plan, config
        fixed = unlike(batched, single)
        self.model = GraphCell(batched, plan, learn=True, learned=config.activation, fixed=fixed)
        self.shadow = GraphCell(batched, plan, learned=config.activation)

    def attach(self, fitting: Fitting) -> None:
        self.fitting = fitting
        scales = {id(p) for p in self.model.scales()}
        self.is_scale = np.array([id(p) in scales for p in fitting.step.parameters])

    def prepare(self, epoch: int) -> None:
        """Set the rates of `epoch`; at the first step of the frozen epochs put the scales where they stay."""
        c = self.config
        first_frozen = c.epochs - c.freeze_epochs
        frozen = epoch >= first_frozen
        self.model.follow(0.0 if frozen else c.momentum)
        self.fitting.step.shares = np.where(self.is_scale, 0.0 if frozen else c.scale_lr / c.lr, 1.0).astype(np.float32)
        if epoch == first_frozen and self.fitting.progress.step_in_epoch == 0:
            found = (self.shadow if self.fitting.average else self.model).tensors()
            plan = replace(self.plan, tensors={**self.plan.tensors, **found})
            for cell in (self.model, self.shadow):
                cell.set_tensors(self.on_grid(self.single, plan).tensors)

    @staticmethod
    def on_grid(graph: ModelGraph, plan: Plan) -> Plan:
        return with_shared_scales(graph, plan)


class Agreement:
    """Judges a quantised model by how often it decides as the float model on validation images."""

    def __init__(self, teacher: CellTeacher, images: EvalBatches):
        self.images = images
        self.float = [teacher.logits(x)[:valid] for x, _, valid in images]

    def judge(self, evaluator: Evaluator) -> tuple[float, dict[str, float]]:
        """The score (agreement, less a ten-thousandth of the KL) and the columns of the history."""
        own = [evaluator.logits(x)[:valid] for x, _, valid in self.images]
        labels = [labels[:valid] for _, labels, valid in self.images]
        ours, floats, labels = (np.concatenate(v) for v in (own, self.float, labels))
        agreement = float((ours.argmax(1) == floats.argmax(1)).mean())
        log_p, log_q = _log_softmax(floats), _log_softmax(ours)
        kl = float((np.exp(log_p) * (log_p - log_q)).sum(1).mean())
        columns = {
            "val_agreement": agreement,
            "val_accuracy": float((ours.argmax(1) == labels).mean()),
            "val_kl": kl,
            "float_accuracy": float((floats.argmax(1) == labels).mean()),
        }
        return agreement - 1e-4 * min(kl, 1.0), columns


def _log_softmax(logits: np.ndarray) -> np.ndarray:
    shifted = logits.astype(np.float64) - logits.max(1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(1, keepdims=True))


def restore(cell: GraphCell, values: dict[str, np.ndarray]) -> None:
    """Set all parameters of a cell."""
    for parameter in cell.get_parameters():
        parameter.set_data(Tensor(values[parameter.name]))
