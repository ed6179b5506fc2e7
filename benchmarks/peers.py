"""MNN and ncnn as peers of `benchmarks/latency.py`: conversion of an ONNX file, and the process that a model is timed in.

    pip install --no-deps mnn ncnn pnnx

Development only. `pnnx` is used as the program that its wheel carries, which needs no torch. Both run in float32: MNN with
precision "high", ncnn without its fp16 and bf16 storage.
"""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path

import numpy as np

from msedge.benchmark import worker
from msedge.benchmark.contenders import ProcessContender
from msedge.errors import ToolFailed, ToolMissing
from msedge.runtime import Located, Runner
from msedge.runtime.onnx_graph import load_graph

PEERS = ("mnn", "ncnn")
_TIMEOUT = 300
_MNN_CONVERT = "import sys, _tools; _tools.mnnconvert(sys.argv)"  # MNN's own command also reports to a server


def convert(peer: str, onnx: Path, out: Path) -> Path:
    """Convert `onnx` into the folder `out` and return the peer's model file. Raises ToolMissing, ToolFailed."""
    out.mkdir(parents=True, exist_ok=True)
    return {"mnn": _to_mnn, "ncnn": _to_ncnn}[peer](onnx.resolve(), out.resolve())


def _to_mnn(onnx: Path, out: Path) -> Path:
    _need("MNN")
    model = out / "model.mnn"
    arguments = ["mnnconvert", "-f", "ONNX", "--modelFile", str(onnx), "--MNNModel", str(model), "--bizCode", "msedge"]
    return _convert([sys.executable, "-c", _MNN_CONVERT, *arguments[1:]], out, model)


def _to_ncnn(onnx: Path, out: Path) -> Path:
    _need("ncnn")
    found = importlib.util.find_spec("pnnx")
    if not found:
        raise ToolMissing("pnnx is not installed", "pip install --no-deps pnnx")
    program = Path(found.submodule_search_locations[0]) / "pnnx"
    copy = out / "model.onnx"  # pnnx writes beside what it reads
    copy.write_bytes(onnx.read_bytes())
    return _convert([str(program), str(copy), "fp16=0"], out, out / "model.ncnn.param")


def _need(module: str) -> None:
    if not importlib.util.find_spec(module):
        raise ToolMissing(f"{module} is not installed", f"pip install --no-deps {module.lower()}")


def _convert(command: list[str], out: Path, model: Path) -> Path:
    model.unlink(missing_ok=True)
    try:
        done = subprocess.run(command, cwd=out, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=_TIMEOUT)
    except subprocess.TimeoutExpired:
        raise ToolFailed(f"{Path(command[0]).name} gave no model within {_TIMEOUT} s") from None
    if done.returncode or not model.is_file():
        last = (done.stdout.strip().splitlines() or ["it printed nothing"])[-1]
        raise ToolFailed(f"exit code {done.returncode}: {last[:200]}", log=done.stdout)
    return model


class MnnRunner(Runner):
    runtime = "mnn"

    def __init__(self, file: Path, threads: int, shape: tuple[int, int, int, int], names: tuple[str, str]):
        super().__init__(file, None, threads)
        import MNN

        self._expr = MNN.expr
        self._manager = MNN.nn.create_runtime_manager(({"backend": "CPU", "precision": "high", "numThread": threads},))
        self._net = MNN.nn.load_module_from_file(str(file), names[:1], names[1:], runtime_manager=self._manager)
        self.input_shape = shape

    def _infer(self, x: np.ndarray) -> np.ndarray:
        return self._net.onForward([self._expr.const(x, x.shape, self._expr.NCHW)])[0].read().copy()


class NcnnRunner(Runner):
    runtime = "ncnn"

    def __init__(self, file: Path, threads: int, shape: tuple[int, int, int, int], names: tuple[str, str]):
        super().__init__(file, None, threads)
        import ncnn

        self._ncnn = ncnn
        self._net = ncnn.Net()
        options = self._net.opt
        options.num_threads = threads
        for kind in ("fp16", "bf16"):
            for use in ("packed", "storage"):
                setattr(options, f"use_{kind}_{use}", False)
        options.use_fp16_arithmetic = False
        layers = {line.split()[0] for line in file.read_text().splitlines()[2:]}
        if missing := sorted(layer for layer in layers if ncnn.layer_to_index(layer) < 0):
            raise ToolFailed(f"ncnn has no {', '.join(missing)}, which pnnx leaves in")
        if self._net.load_param(str(file)) or self._net.load_model(str(file.with_suffix(".bin"))):
            raise ToolFailed(f"ncnn cannot load {file.name}")
        self.input_shape = shape

    def _infer(self, x: np.ndarray) -> np.ndarray:
        with self._net.create_extractor() as run:
            run.input("in0", self._ncnn.Mat(x[0]))
            failed, out = run.extract("out0")
            if failed:
                raise ToolFailed(f"ncnn cannot run {self.file.name}")
            return np.array(out).reshape(1, -1)

    @property
    def size_bytes(self) -> int:
        return super().size_bytes + self.file.with_suffix(".bin").stat().st_size


class PeerContender(ProcessContender):
    """A converted model; `onnx` is what it was made from and lies beside it or above."""

    def __init__(self, name: str, peer: str, file: Path, onnx: Path, threads: int):
        super().__init__(name, Located(peer, file), peer, threads, program=(str(Path(__file__).resolve()), str(onnx.resolve())))


def open_peer(path: str, threads: int, runtime: str) -> Runner:
    graph = load_graph(Path(sys.argv[1])).graph
    shape = tuple(d.dim_value for d in graph.input[0].type.tensor_type.shape.dim)
    names = (graph.input[0].name, graph.output[0].name)
    return {"mnn": MnnRunner, "ncnn": NcnnRunner}[runtime](Path(path), threads, shape, names)


if __name__ == "__main__":
    worker.main(sys.argv[2:], open_peer)
