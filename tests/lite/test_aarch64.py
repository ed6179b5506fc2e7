"""The ABI module on aarch64: the real aarch64 wheel on an aarch64 Python, under qemu-user (see prepare_aarch64.sh)."""

from __future__ import annotations

import numpy as np
import pytest

from msedge.errors import ToolFailed
from msedge.lite import ConvertRequest, read_ms
from msedge.lite.probe import probe

pytestmark = [pytest.mark.lite, pytest.mark.slow]


def test_it_converts_runs_traces_and_quantises(aarch64):
    abilities = probe(aarch64, can_run=True, can_trace=True, for_ascend=False)
    expected = {"convert": True, "predict": True, "trace": True, "full_quant": True, "mindir_version": 1, "ascend": False}
    assert abilities == expected


def test_files_and_results_are_those_of_this_machine(aarch64, toolchain, small_onnx, small_ms, images, tmp_path):
    aarch64.convert(ConvertRequest(small_onnx, tmp_path / "m.ms", "ONNX"))
    assert [n.name for n in read_ms(tmp_path / "m.ms").nodes] == [n.name for n in read_ms(small_ms).nodes]
    with aarch64.load(tmp_path / "m.ms") as mine, toolchain.load(small_ms) as other:
        np.testing.assert_allclose(mine.predict(images), other.predict(images), atol=1e-4)
        theirs = {n.name: n for n in other.trace(images[:1])}
        for node in mine.trace(images[:1]):
            assert node.type == theirs[node.name].type
            np.testing.assert_allclose(node.outputs[0], theirs[node.name].outputs[0], atol=1e-3)


def test_a_failing_status_is_told(aarch64, tmp_path):
    (tmp_path / "bad.mindir").write_bytes(b"no mindir")
    with pytest.raises(ToolFailed, match="status 0xffffffff"):
        aarch64.convert(ConvertRequest(tmp_path / "bad.mindir", tmp_path / "m.ms", "MINDIR"))
