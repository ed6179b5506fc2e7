"""The worker's backend for an interpreter that can import `mindspore_lite`: the same two things that `abi.py` offers.

Runs inside the worker process on any Python from 3.7 with numpy and any `mindspore_lite` from 2.0 on; never imports msedge.
"""

import time

import mindspore_lite
import numpy as np

VERSION = mindspore_lite.__version__


def convert(folder, source, output_stem, fmk, config_path="", fp16_weights=False):
    """Convert `source` to `output_stem + ".ms"`; returns the seconds taken. `folder` is not used."""
    converter = mindspore_lite.Converter()
    converter.save_type = mindspore_lite.ModelType.MINDIR_LITE
    if fp16_weights:
        converter.weight_fp16 = True
    kind = getattr(mindspore_lite.FmkType, fmk)
    started = time.perf_counter()
    converter.convert(kind, source, output_stem, config_file=config_path)
    return time.perf_counter() - started


def _describe(tensor):
    return {
        "name": tensor.name,
        "shape": [int(d) for d in tensor.shape],
        "dtype": tensor.dtype.name.lower(),
        "format": getattr(getattr(tensor, "format", None), "name", "unknown"),
    }


class Model:
    """A `.ms` loaded on CPU. Its outputs are not known before the first run."""

    def __init__(self, folder, path, threads):
        context = mindspore_lite.Context()
        context.target = ["cpu"]
        context.cpu.thread_num = threads
        self._model = mindspore_lite.Model()
        self._model.build_from_file(path, mindspore_lite.ModelType.MINDIR_LITE, context)
        self._inputs = self._model.get_inputs()
        self.inputs = [_describe(t) for t in self._inputs]
        self.set_inputs([bytes(t.data_size) for t in self._inputs])
        self.outputs = [_describe(t) for t in self._model.predict(self._inputs)]

    def set_inputs(self, arrays):
        """Copy raw bytes into the model's inputs. Raises ValueError if a size differs."""
        for tensor, info, data in zip(self._inputs, self.inputs, arrays):  # noqa: B905 (Python 3.7)
            tensor.set_data_from_numpy(np.frombuffer(data, info["dtype"]).reshape(info["shape"]))

    def predict(self, emit):
        """Run once; `emit(description, memory)` is called per output. Returns the seconds in predict."""
        started = time.perf_counter()
        outputs = self._model.predict(self._inputs)
        seconds = time.perf_counter() - started
        for tensor in outputs:
            emit(_describe(tensor), np.ascontiguousarray(tensor.get_data_to_numpy()))
        return seconds

    def trace(self, emit_node, emit_output):
        raise NotImplementedError("mindspore_lite's Python module reports no single nodes")
