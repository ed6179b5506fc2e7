"""ONNX files in onnxruntime and in OpenVINO."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from msedge.errors import ArtifactError, ModelError, ToolMissing
from msedge.runtime.base import Runner

if TYPE_CHECKING:
    from msedge.models import ModelSpec

_DTYPES = {"tensor(float)": np.float32, "tensor(float16)": np.float16}


class OnnxRunner(Runner):
    """onnxruntime's CPU provider with all graph optimisations. Raises ArtifactError, ModelError."""

    runtime = "onnxruntime"

    def __init__(self, file: Path, spec: ModelSpec | None, threads: int):
        super().__init__(file, spec, threads)
        import onnxruntime as ort

        options = ort.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.log_severity_level = 4
        try:
            self._session = ort.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])
        except Exception as e:  # onnxruntime's own exception classes share no public base
            raise damaged_onnx(file, e) from None
        inputs = self._session.get_inputs()
        one_image_input(file, [(i.name, i.shape) for i in inputs])
        if inputs[0].type not in _DTYPES:
            raise ModelError(f"{file} takes {inputs[0].type}, not float images")
        self._dtype = _DTYPES[inputs[0].type]
        self._input = inputs[0].name
        self._output = self._session.get_outputs()[0].name
        self.input_shape = static_shape(inputs[0].shape)

    def _infer(self, x: np.ndarray) -> np.ndarray:
        return self._session.run([self._output], {self._input: x.astype(self._dtype, copy=False)})[0]

    @property
    def size_bytes(self) -> int:
        return onnx_bytes(self.file)


class OpenVinoRunner(Runner):
    """OpenVINO's CPU plugin in latency mode. Raises ToolMissing where it is not installed, ArtifactError, ModelError."""

    runtime = "openvino"

    def __init__(self, file: Path, spec: ModelSpec | None, threads: int):
        super().__init__(file, spec, threads)
        try:
            import openvino
        except ImportError:
            raise ToolMissing("OpenVINO is not installed", "pip install 'openvino>=2024.0'") from None
        core = openvino.Core()
        try:
            model = core.read_model(str(file))
            one_image_input(file, [(i.any_name, [0 if d.is_dynamic else d.get_length() for d in i.partial_shape])
                                   for i in model.inputs])  # fmt: skip
            hints = {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_NUM_THREADS": threads, "INFERENCE_PRECISION_HINT": "f32"}
            compiled = core.compile_model(model, "CPU", hints)
        except RuntimeError as e:
            raise damaged_onnx(file, e) from None
        self._request = compiled.create_infer_request()
        shape = model.inputs[0].partial_shape
        self.input_shape = static_shape([0 if d.is_dynamic else d.get_length() for d in shape])

    def _infer(self, x: np.ndarray) -> np.ndarray:
        self._request.infer([x], share_inputs=True)
        return self._request.get_output_tensor(0).data.copy()

    @property
    def size_bytes(self) -> int:
        return onnx_bytes(self.file)


def damaged_onnx(file: Path, error: Exception) -> ArtifactError:
    """onnxruntime and OpenVINO print several lines with source positions: keep the last sentence that says something."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    reason = lines[-1] if lines else type(error).__name__
    reason = reason.split(" : ")[-1][:200]
    return ArtifactError(f"{file} cannot be loaded as ONNX: {reason}", "the file may be damaged or cut off: write it again")


def one_image_input(file: Path, inputs: list[tuple[str, list]]) -> None:
    if len(inputs) != 1 or len(inputs[0][1]) != 4:
        found = ", ".join(f"{name} {list(shape)}" for name, shape in inputs) or "none"
        raise ModelError(f"{file} does not take one image tensor [N, C, H, W]: its inputs are {found}")


def static_shape(shape: list) -> tuple[int, int, int, int]:
    """Dimensions with 0 for those that the file leaves open."""
    n, c, h, w = (d if isinstance(d, int) and d > 0 else 0 for d in shape)
    return n, c, h, w


def onnx_bytes(file: Path) -> int:
    """Size of an ONNX file with its external data."""
    beside = (file.with_name(file.name + suffix) for suffix in (".data", "_data"))
    return file.stat().st_size + sum(p.stat().st_size for p in beside if p.is_file())
