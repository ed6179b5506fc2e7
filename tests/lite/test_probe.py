"""The models that probing converts are what they claim to be."""

from __future__ import annotations

import ast
import sys
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest

from msedge.errors import ToolFailed
from msedge.lite import ToolchainInfo, kinds, probe
from msedge.lite.kinds import WorkerToolchain


def test_the_probe_is_a_valid_onnx_with_the_stated_result():
    data = probe.two_node_onnx()
    onnx.checker.check_model(onnx.load_from_string(data))
    session = onnxruntime.InferenceSession(data, providers=["CPUExecutionProvider"])
    np.testing.assert_allclose(session.run(None, {"x": probe.probe_input()})[0], probe.probe_output(), atol=1e-6)


def test_the_probe_tells_every_layout_apart():
    result, x, w = probe.probe_output(), probe.probe_input(), probe.probe_weights()
    wrong = [x.transpose(0, 1, 3, 2), x.reshape(1, 4, 4, 2).transpose(0, 3, 1, 2), x[:, ::-1]]
    for image in wrong:
        assert not np.allclose(np.einsum("oc,nchw->nohw", w, image).reshape(1, -1), result, atol=1e-3)


@pytest.mark.lite
def test_a_runtime_with_wrong_numbers_fails_its_probe(own_copy, monkeypatch):
    monkeypatch.setattr(probe, "probe_output", lambda: np.zeros((1, 48), np.float32))
    trial = WorkerToolchain(ToolchainInfo("native", own_copy, "2.0.0", {"trace": True}), own_copy / "lib")
    with pytest.raises(ToolFailed, match="wrong result"):
        probe.probe(trial, can_run=True, can_trace=True, for_ascend=False)


@pytest.mark.lite
def test_abilities_that_fail_are_said_to_be_missing(own_copy, monkeypatch):
    monkeypatch.setattr(probe, "_CONFIG", "[common_quant_param]\nquant_type=NO_SUCH_QUANT\n")
    monkeypatch.setattr(probe, "future_mindir", lambda: b"")
    trial = WorkerToolchain(ToolchainInfo("native", own_copy, "2.0.0", {"trace": False}), own_copy / "lib")
    abilities = probe.probe(trial, can_run=True, can_trace=True, for_ascend=False)
    assert abilities["convert"] and abilities["predict"]
    assert (abilities["full_quant"], abilities["trace"], abilities["mindir_version"]) == (False, False, None)


@pytest.mark.parametrize("name", ["worker.py", "abi.py", "pyworker.py"])
def test_the_worker_runs_on_python_3_7_without_msedge(name):
    source = Path(kinds.__file__).with_name(name).read_text()
    tree = ast.parse(source, feature_version=(3, 7))
    imported = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            imported |= {a.name.partition(".")[0] for a in node.names}
        elif isinstance(node, ast.ImportFrom):
            imported.add((node.module or "").partition(".")[0])
    assert imported <= set(sys.stdlib_module_names) | {"mindspore_lite", "numpy"}
    if name != "pyworker.py":
        assert "numpy" not in imported
