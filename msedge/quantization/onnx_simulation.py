"""A plan's numbers without its integers: the QDQ form of the model in onnxruntime, in float arithmetic."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx

from msedge.errors import DataError, ModelError
from msedge.progress import Progress, no_progress
from msedge.quantization.graph import ModelGraph
from msedge.quantization.plan import Plan, TensorPlan, fake_quantize
from msedge.quantization.qdq import to_fake_quantized

_KEPT = 4  # sessions


class Simulation:
    """Runs a model in float and by any plan. Activations of int8 nodes are rounded by QuantizeLinear and DequantizeLinear,
    weights in NumPy, biases to int32; sums are exact in integers on a device and float32 here.

    Sessions of the last few plans are kept; plans are told apart by identity.
    """

    def __init__(self, graph: ModelGraph, threads: int = 1):
        self.graph, self.threads = graph, threads
        shape = next(i for i in graph.model.graph.input if i.name == graph.input).type.tensor_type.shape
        self.input_shape = tuple(d.dim_value for d in shape.dim)
        if len(self.input_shape) != 4 or not all(self.input_shape):
            raise ModelError(f"the model's input is {list(self.input_shape)}, not images of one size", "export it with msedge")
        self._sessions: list[tuple[Plan | None, tuple[str, ...], object]] = []
        self._weights: dict[str, tuple[TensorPlan, np.ndarray]] = {}

    def logits(self, images: np.ndarray, plan: Plan | None = None, progress: Progress = no_progress) -> np.ndarray:
        """float32 [N, 3, H, W] to float32 [N, classes]; without a plan in float. Raises ArtifactError, DataError."""
        session, rows = self._session(plan, ()), []
        with progress("simulate", len(images)) as report:
            for batch, n in self._batches(images):
                rows.append(session.run([self.graph.output], {self.graph.input: batch})[0][:n])
                report(sum(map(len, rows)))
        return np.concatenate(rows)

    def tensors(self, image: np.ndarray, names: Sequence[str], plan: Plan | None = None) -> dict[str, np.ndarray]:
        """Tensors by name for one batch; the outputs of int8 nodes as they are after being stored."""
        known = {o for n in self.graph.nodes for o in n.output} | {self.graph.input}
        if unknown := [n for n in names if n not in known]:
            raise ModelError(f"the model has no tensor {unknown[0]!r}")
        ((batch, _),) = self._batches(image)
        wanted = tuple(n for n in dict.fromkeys(names) if n != self.graph.input)
        session = self._session(plan, tuple(sorted(wanted)))
        found = dict(zip(wanted, session.run(list(wanted), {self.graph.input: batch}), strict=True)) if wanted else {}
        return {n: batch if n == self.graph.input else found[n] for n in names}

    def _batches(self, images: np.ndarray) -> list[tuple[np.ndarray, int]]:
        """Batches of the model's size and how many images of each count; the last one is filled up with its last image."""
        size = self.input_shape[0]
        if images.ndim != 4 or images.shape[1:] != self.input_shape[1:] or not len(images):
            raise DataError(f"images are {list(images.shape)}, the model takes {['N', *self.input_shape[1:]]}")
        images = np.ascontiguousarray(images, np.float32)
        parts = [images[i : i + size] for i in range(0, len(images), size)]
        return [(np.concatenate([p, np.repeat(p[-1:], size - len(p), 0)]) if len(p) < size else p, len(p)) for p in parts]

    def _session(self, plan: Plan | None, outputs: tuple[str, ...]):
        for kept in self._sessions:
            if kept[0] is plan and kept[1] == outputs:
                return kept[2]
        session = open_session(self._model(plan, outputs), self.threads)
        self._sessions = [*self._sessions[1 - _KEPT :], (plan, outputs, session)]
        return session

    def _model(self, plan: Plan | None, outputs: tuple[str, ...]) -> onnx.ModelProto:
        plan = plan or Plan(self.graph.fingerprint, {}, {})
        return to_fake_quantized(self.graph, plan, self._fake, outputs)

    def _fake(self, name: str, t: TensorPlan) -> np.ndarray:
        """A weight after being stored; kept, for plans that differ in other tensors."""
        kept = self._weights.get(name)
        if kept is None or kept[0] != t:
            kept = self._weights[name] = (t, fake_quantize(self.graph.weights[name], t))
        return kept[1]


def open_session(model: onnx.ModelProto, threads: int = 1):
    """onnxruntime without integer kernels and without fusions, so that every named tensor is what it says."""
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    options.log_severity_level = 4
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_BASIC
    options.add_session_config_entry("session.disable_quant_qdq", "1")
    return ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
