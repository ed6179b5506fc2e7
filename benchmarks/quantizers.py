"""Quantisers of others on the same ONNX file and images: ONNX Runtime's static quantisation and NNCF's PTQ."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

NNCF_WORKER = """
import sys
import nncf, numpy, onnx
source, images, out = sys.argv[1:]
model = onnx.load(source)
name = model.graph.input[0].name
samples = numpy.load(images)
dataset = nncf.Dataset([x[None] for x in samples], lambda x: {name: x})
onnx.save(nncf.quantize(model, dataset, model_type=nncf.ModelType.TRANSFORMER, subset_size=len(samples)), out)
"""


def onnxruntime_static(source: Path, images: np.ndarray, out: Path) -> str:
    """QDQ, int8 per channel, min-max: what ONNX Runtime's documentation advises for transformers and CNNs on this CPU."""
    from onnxruntime import quantization as q

    class Reader(q.CalibrationDataReader):
        def __init__(self):
            name = q.onnx_model.onnx.load(str(source)).graph.input[0].name
            self.feeds = iter([{name: x[None]} for x in images])

        def get_next(self):
            return next(self.feeds, None)

    q.quantize_static(
        str(source),
        str(out),
        Reader(),
        quant_format=q.QuantFormat.QDQ,
        per_channel=True,
        activation_type=q.QuantType.QUInt8,
        weight_type=q.QuantType.QInt8,
        calibrate_method=q.CalibrationMethod.MinMax,
    )
    return "onnxruntime.quantization.quantize_static, QDQ, per channel, min-max"


def nncf_ptq(python: str, source: Path, images: np.ndarray, out: Path) -> str:
    """NNCF's post-training quantisation with its model type for transformers, by the interpreter that has nncf."""
    with tempfile.TemporaryDirectory() as folder:
        samples = Path(folder) / "images.npy"
        np.save(samples, images)
        command = [python, "-c", NNCF_WORKER, str(source), str(samples), str(out)]
        done = subprocess.run(command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    if done.returncode:
        sys.exit(f"nncf failed: {done.stdout.strip().splitlines()[-1]}")
    return "nncf.quantize, model type TRANSFORMER"
