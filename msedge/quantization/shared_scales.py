"""Weight scales on a fine geometric grid, so that channels share them: a `.ms` stores each different scale once.

A scale of its own costs a channel 20 bytes of the file (a table and its place in a list), a shared one 4. Models this small
have one channel for each hundred weights or so.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from msedge.quantization.graph import ModelGraph
from msedge.quantization.plan import Plan, TensorPlan

STEPS_PER_OCTAVE = 256  # a scale moves by at most 0.14 %, a sixth of a step at the end of 8 bits


def with_shared_scales(graph: ModelGraph, plan: Plan) -> Plan:
    """The plan with the scales of its int8 nodes' weights at the nearest points of the grid (float32 numbers)."""
    weights = {graph.units[name].weight for name in plan.of("int8")} - {None}
    tensors = {name: _on_grid(t) if name in weights else t for name, t in plan.tensors.items()}
    return replace(plan, tensors=tensors)


def _on_grid(t: TensorPlan) -> TensorPlan:
    places = np.rint(np.log2(np.array(t.scale)) * STEPS_PER_OCTAVE)
    return replace(t, scale=tuple(np.exp2(places / STEPS_PER_OCTAVE).astype(np.float32).tolist()))
