"""The msedge engine: a model with its quantisation plan, and the float `.ms` rewritten to be exactly that."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from msedge.artifact import write_bytes, writing
from msedge.quantization.graph import ModelGraph
from msedge.quantization.plan import FILE, Plan, load_plan
from msedge.quantization.runner import PlanRunner
from msedge.runtime.source import Source


@dataclass(frozen=True)
class Quantised:
    """A model whose weights may differ from the source's (they were equalised, corrected or trained), and its plan."""

    graph: ModelGraph
    plan: Plan

    def onnx(self, work: Path) -> Path:
        """The float ONNX file that the converter takes."""
        file = work / "quantised.onnx"
        with writing(work):
            file.write_bytes(self.graph.model.SerializeToString())
        return file

    def rewrite(self, ms: Path) -> dict[str, str]:
        """Store the float `.ms` as the plan says; gives the nodes that had to stay float, and why."""
        from msedge.quantization.ms_int8 import rewrite_int8
        from msedge.quantization.ms_weights import rewrite_weights

        data, kept = ms.read_bytes(), {}
        if self.plan.of("int8"):
            done = rewrite_int8(data, self.graph, self.plan)
            data, kept = done.data, dict(done.kept_float)
        if self.plan.of("weight"):
            stored = rewrite_weights(data, self.graph, self.plan)
            data, kept = stored.data, kept | dict(stored.kept_float)
        ms.unlink()  # the converter writes read-only files
        write_bytes(ms, data)
        return kept

    def simulated(self, source: Source) -> PlanRunner:
        return PlanRunner(self.graph, self.plan, source.onnx, source.spec)


def stored_plan(file: Path) -> Plan | None:
    """The plan beside the model file of `msedge quantize`, None where there is none. Raises ArtifactError if damaged."""
    plan = file.with_name(FILE)
    return load_plan(plan) if file.name == "model.onnx" and plan.is_file() else None
