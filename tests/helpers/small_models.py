"""Small models and pictures made by code, for the suites of runtime, verification, converter, benchmark and cli."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from msedge.data.preprocess import Preprocess
from msedge.models.spec import ModelSpec

ROOT = Path(__file__).resolve().parents[2]


def spec(size: int = 32, classes: tuple[str, ...] = ("cat", "dog", "fox"), **preprocess) -> ModelSpec:
    """The description of `small_onnx`; its architecture is one that only exists as ONNX."""
    return ModelSpec("small", {}, len(classes), size, classes, Preprocess(size, **preprocess))


def small_onnx(
    path: Path,
    *,
    size: int = 32,
    classes: int = 3,
    batch: int | str = 1,
    seed: int = 0,
    described: ModelSpec | None = None,
    input_name: str = "x",
    order: list[int] | None = None,
    widen: float = 0.0,
) -> Path:
    """Two convolutions, mean, linear layer; `order` permutes the classes, `widen` adds noise to the last weights."""
    rng = np.random.default_rng(seed)
    weights = {
        "w1": rng.normal(size=(8, 3, 3, 3)) * 0.3,
        "b1": rng.normal(size=8) * 0.1,
        "w2": rng.normal(size=(16, 8, 3, 3)) * 0.2,
        "b2": rng.normal(size=16) * 0.1,
        "wf": rng.normal(size=(16, classes)) * 0.6,
        "bf": rng.normal(size=classes) * 0.1,
    }
    weights["wf"] = weights["wf"] + widen * np.random.default_rng(99).normal(size=(16, classes))
    if order:
        weights["wf"], weights["bf"] = weights["wf"][:, order], weights["bf"][order]
    conv = {"strides": [2, 2], "pads": [1] * 4, "kernel_shape": [3, 3]}
    nodes = [
        helper.make_node("Conv", [input_name, "w1", "b1"], ["c1"], name="conv1", **conv),
        helper.make_node("Relu", ["c1"], ["r1"], name="relu1"),
        helper.make_node("Conv", ["r1", "w2", "b2"], ["c2"], name="conv2", **conv),
        helper.make_node("Relu", ["c2"], ["r2"], name="relu2"),
        helper.make_node("GlobalAveragePool", ["r2"], ["p"], name="pool"),
        helper.make_node("Flatten", ["p"], ["f"], name="flatten", axis=1),
        helper.make_node("Gemm", ["f", "wf", "bf"], ["logits"], name="head"),
    ]
    graph = helper.make_graph(
        nodes,
        "small",
        [helper.make_tensor_value_info(input_name, TensorProto.FLOAT, [batch, 3, size, size])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, [batch, classes])],
        [numpy_helper.from_array(value.astype(np.float32), name) for name, value in weights.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], producer_name="test", ir_version=8)
    if described:
        helper.set_model_props(model, {"msedge.model": json.dumps(described.to_dict())})
    onnx.checker.check_model(model)
    path.parent.mkdir(parents=True, exist_ok=True)
    onnx.save(model, str(path))
    return path


def unconvertible_onnx(path: Path) -> Path:
    """Runs in onnxruntime; the Lite 2.0.0 converter refuses it (Einsum of one input)."""
    nodes = [
        helper.make_node("Einsum", ["x"], ["e"], name="einsum", equation="nchw->nc"),
    ]
    graph = helper.make_graph(
        nodes,
        "einsum",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 3, 8, 8])],
        [helper.make_tensor_value_info("e", TensorProto.FLOAT, [1, 3])],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    onnx.save(model, str(path))
    return path


def unloadable_onnx(path: Path) -> Path:
    """Runs in onnxruntime and converts; the Lite 2.0.0 runtime does not load it (instance norm of rank 3)."""
    rng = np.random.default_rng(0)
    constants = {
        "flat": np.array([1, 1, -1]),
        "back": np.array([1, 3, 8, 8]),
        "one": np.ones(1, np.float32),
        "zero": np.zeros(1, np.float32),
        "w": rng.normal(size=(4, 3, 8, 8)).astype(np.float32),
        "end": np.array([1, 4]),
    }
    nodes = [
        helper.make_node("Reshape", ["x", "flat"], ["r"], name="flat"),
        helper.make_node("InstanceNormalization", ["r", "one", "zero"], ["n"], name="norm"),
        helper.make_node("Reshape", ["n", "back"], ["b"], name="back"),
        helper.make_node("Conv", ["b", "w"], ["c"], name="conv", kernel_shape=[8, 8], strides=[1, 1], pads=[0] * 4),
        helper.make_node("Reshape", ["c", "end"], ["y"], name="end"),
    ]
    graph = helper.make_graph(
        nodes,
        "norm",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 3, 8, 8])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 4])],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    onnx.checker.check_model(model)
    onnx.save(model, str(path))
    return path


def pictures(folder: Path, classes: tuple[str, ...], each: int, size: int = 40, seed: int = 0) -> Path:
    """Class folders with smooth colourful JPEGs; no classes: the images lie in the folder itself."""
    rng = np.random.default_rng(seed)
    for name in classes or ("",):
        (folder / name).mkdir(parents=True, exist_ok=True)
        for i in range(each):
            coarse = rng.integers(0, 256, (5, 5, 3), dtype=np.uint8)
            image = cv2.resize(coarse, (size, size), interpolation=cv2.INTER_CUBIC)
            cv2.imwrite(str(folder / name / f"{name or 'image'}_{i:03d}.jpg"), image)
    return folder


def noise(n: int, size: int = 32, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((n, 3, size, size)).astype(np.float32)


def environment(**extra: str) -> dict[str, str]:
    """For processes of msedge: this checkout first, one thread."""
    return {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", **extra}


def msedge(*args: object, cwd: Path | None = None, timeout: float = 120, **env: str) -> subprocess.CompletedProcess[str]:
    """Run the command line in a process of its own."""
    command = [sys.executable, "-m", "msedge", *map(str, args)]
    return subprocess.run(
        command, capture_output=True, text=True, cwd=cwd, env=environment(**env), timeout=timeout, check=False
    )
