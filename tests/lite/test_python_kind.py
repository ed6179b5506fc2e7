"""Toolchains of kind "python": an interpreter that can import `mindspore_lite`."""

from __future__ import annotations

import sys
import textwrap
from pathlib import Path

import numpy as np
import pytest

from msedge.errors import ToolFailed, ToolMissing
from msedge.lite import ConvertRequest, find_toolchain

pytestmark = pytest.mark.lite


def test_it_is_probed(python_toolchain):
    info = python_toolchain.info
    assert info.kind == "python"
    assert {"convert": True, "predict": True, "trace": False, "full_quant": True}.items() <= info.abilities.items()
    assert info.version != "2.0.0" or info.abilities["mindir_version"] == 1


def test_its_files_and_results_are_those_of_the_own_copy(python_toolchain, toolchain, small_onnx, small_ms, images, tmp_path):
    python_toolchain.convert(ConvertRequest(small_onnx, tmp_path / "m.ms", "ONNX"))
    with python_toolchain.load(tmp_path / "m.ms") as mine, toolchain.load(small_ms) as other:
        assert (mine.inputs, mine.outputs) == (other.inputs, other.outputs)
        logits, ms = mine.timed(images)
        np.testing.assert_allclose(logits, other.predict(images), atol=1e-5)
        assert ms > 0


def test_full_quant_and_fp16(python_toolchain, toolchain, small_onnx, int8_ms, full_quant_config, images, tmp_path):
    python_toolchain.convert(ConvertRequest(small_onnx, tmp_path / "int8.ms", "ONNX", full_quant_config))
    python_toolchain.convert(ConvertRequest(small_onnx, tmp_path / "half.ms", "ONNX", fp16_weights=True))
    with python_toolchain.load(tmp_path / "int8.ms") as mine, toolchain.load(int8_ms) as other:
        np.testing.assert_allclose(mine.predict(images), other.predict(images), atol=1e-5)
    with python_toolchain.load(tmp_path / "half.ms") as half:
        assert np.isfinite(half.predict(images)).all()


def test_trace_is_refused_with_the_way_out(python_toolchain, small_ms, images):
    with python_toolchain.load(small_ms) as session, pytest.raises(ToolMissing, match="msedge lite install"):
        session.trace(images[:1])


def test_a_damaged_source_is_one_error(python_toolchain, tmp_path):
    (tmp_path / "bad.onnx").write_bytes(b"\x08" * 300)
    with pytest.raises(ToolFailed, match=r"bad\.onnx"):
        python_toolchain.convert(ConvertRequest(tmp_path / "bad.onnx", tmp_path / "m.ms", "ONNX"))
    assert not (tmp_path / "m.ms").exists()


def test_an_interpreter_without_mindspore_lite_is_refused(tmp_path):
    bare = tmp_path / "python"
    bare.write_text(f'#!/bin/sh\nexec {sys.executable} -I -S "$@"\n')
    bare.chmod(0o755)
    with pytest.raises(ToolMissing, match="without mindspore_lite"):
        find_toolchain(str(bare))


def test_a_broken_mindspore_lite_is_refused_with_its_own_words(tmp_path):
    package = tmp_path / "site" / "mindspore_lite"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text('raise ImportError("libmindspore is of another glibc")\n')
    interpreter = tmp_path / "python"
    interpreter.write_text(f'#!/bin/sh\nPYTHONPATH={tmp_path / "site"} exec {sys.executable} "$@"\n')
    interpreter.chmod(0o755)
    with pytest.raises(ToolFailed, match="of another glibc"):
        find_toolchain(str(interpreter))


def test_a_module_that_converts_but_does_not_run_is_paired_with_the_own_copy(
    own_copy, small_onnx, images, tmp_path, monkeypatch
):
    """As official modules from 2.1 on may be: this one is the real converter behind mindspore_lite's interface."""
    monkeypatch.setenv("MSEDGE_CACHE", str(tmp_path / "cache"))
    (tmp_path / "cache" / "lite").mkdir(parents=True)
    (tmp_path / "cache" / "lite" / own_copy.name).symlink_to(own_copy)
    package = tmp_path / "site" / "mindspore_lite"
    package.mkdir(parents=True)
    (package / "version.py").write_text("__version__ = '2.6.0'\n")
    (package / "__init__.py").write_text(textwrap.dedent(CONVERTS_ONLY))
    interpreter = tmp_path / "python"
    lite = Path(sys.modules["msedge.lite"].__file__).parent
    paths = f"PYTHONPATH={tmp_path / 'site'}:{lite} LIBRARIES={own_copy / 'lib'} LD_LIBRARY_PATH={own_copy / 'lib'}"
    interpreter.write_text(f'#!/bin/sh\n{paths} exec {sys.executable} "$@"\n')
    interpreter.chmod(0o755)
    found = find_toolchain(str(interpreter))
    assert (found.info.kind, found.info.version) == ("python", "2.6.0")
    assert found.info.abilities["predict"] and found.info.abilities["trace"]
    found.convert(ConvertRequest(small_onnx, tmp_path / "m.ms", "ONNX"))
    with found.load(tmp_path / "m.ms") as session:
        assert session.predict(images).shape == (6, 5)


CONVERTS_ONLY = """
    import enum, os
    import abi
    from mindspore_lite.version import __version__
    class FmkType(enum.Enum):
        ONNX = 2
        MINDIR = 3
    class ModelType(enum.Enum):
        MINDIR_LITE = 4
    class Converter:
        save_type = weight_fp16 = None
        def convert(self, fmk, source, output, config_file=""):
            assert self.save_type is ModelType.MINDIR_LITE
            abi.convert(os.environ["LIBRARIES"], source, output, fmk.name, config_file, bool(self.weight_fp16))
"""
