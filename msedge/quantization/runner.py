"""A quantisation plan as a model that can be run and compared like any other."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from msedge.quantization.graph import ModelGraph
from msedge.quantization.onnx_simulation import Simulation
from msedge.quantization.plan import Plan
from msedge.runtime.base import Runner

if TYPE_CHECKING:
    from msedge.models import ModelSpec


class PlanRunner(Runner):
    """What the plan promises: the ONNX file `file`, simulated in onnxruntime with the rounding of `plan`."""

    runtime = "plan"

    def __init__(self, graph: ModelGraph, plan: Plan, file: Path, spec: ModelSpec | None = None, threads: int = 1):
        super().__init__(file, spec, threads)
        self.name = f"the plan of {self.name}"
        self._simulation, self._plan = Simulation(graph, threads), plan
        shape = next(i for i in graph.model.graph.input if i.name == graph.input).type.tensor_type.shape
        self.input_shape = tuple(d.dim_value for d in shape.dim)

    def _infer(self, x: np.ndarray) -> np.ndarray:
        return self._simulation.logits(x, self._plan)
