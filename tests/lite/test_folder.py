"""Toolchains of kind "folder": a `converter_lite` program; here a wrapper that drives the real converter."""

from __future__ import annotations

import sys
import time
from pathlib import Path

import numpy as np
import pytest

from msedge.errors import ToolFailed, ToolMissing, ToolTimeout
from msedge.lite import ConvertRequest, ToolchainInfo, find_toolchain
from msedge.lite.kinds import FolderToolchain

pytestmark = pytest.mark.lite

WRAPPER = """\
#!/bin/bash
if [ "$1" = --help ]; then echo "usage: converter_lite --fmk --modelFile --outputFile {flags}"; exit 1; fi
LD_LIBRARY_PATH={libraries} exec {python} -I -S - "$@" <<'END'
import os, sys
sys.path.insert(0, {lite!r})
import abi
given = dict(a[2:].split("=", 1) for a in sys.argv[1:])
assert given.pop("saveType", "MINDIR_LITE") == "MINDIR_LITE"
try:
    abi.convert(
        {libraries!r}, given["modelFile"], given["outputFile"], given["fmk"], given.get("configFile", ""),
        given.get("fp16") == "on",
    )
except abi.LiteError as e:
    print("CONVERT RESULT FAILED:", e, flush=True)
    os._exit(1)
abi.C.CDLL(None).fflush(None)
os._exit(0)
END
"""


def program(folder: Path, text: str) -> Path:
    folder.mkdir(parents=True)
    path = folder / "converter_lite"
    path.write_text(text)
    path.chmod(0o755)
    return path


@pytest.fixture(params=["--saveType", ""], ids=["new", "old"])
def wrapper(request, own_copy, tmp_path) -> Path:
    lite = Path(sys.modules["msedge.lite"].__file__).parent
    text = WRAPPER.format(flags=request.param, libraries=str(own_copy / "lib"), python=sys.executable, lite=str(lite))
    package = tmp_path / "mindspore-lite-2.0.0-linux-x64"
    program(package / "tools" / "converter" / "converter", text)
    return package


@pytest.fixture(autouse=True)
def own_probes(monkeypatch, tmp_path, own_copy):
    """Probes are remembered in a cache of the test's own, which shares the installed copy."""
    cache = tmp_path / "cache"
    (cache / "lite").mkdir(parents=True)
    (cache / "lite" / own_copy.name).symlink_to(own_copy)
    monkeypatch.setenv("MSEDGE_CACHE", str(cache))


def test_it_converts_and_the_own_copy_runs_what_it_made(wrapper, small_onnx, small_ms, toolchain, images, tmp_path):
    folder = find_toolchain(str(wrapper))
    assert (folder.info.kind, folder.info.location, folder.info.version) == ("folder", wrapper, "2.0.0")
    assert folder.info.abilities == toolchain.info.abilities
    outcome = folder.convert(ConvertRequest(small_onnx, tmp_path / "m.ms", "ONNX"))
    assert "CONVERT RESULT SUCCESS" in outcome.log
    assert outcome.seconds > 0
    with folder.load(tmp_path / "m.ms") as mine, toolchain.load(small_ms) as other:
        np.testing.assert_array_equal(mine.predict(images), other.predict(images))
        assert mine.trace(images[:1])[0].name == "stem/conv"


def test_config_and_fp16_reach_the_program(wrapper, small_onnx, int8_ms, full_quant_config, tmp_path):
    folder = find_toolchain(str(wrapper))
    folder.convert(ConvertRequest(small_onnx, tmp_path / "int8.ms", "ONNX", full_quant_config))
    assert abs((tmp_path / "int8.ms").stat().st_size - int8_ms.stat().st_size) < 64
    folder.convert(ConvertRequest(small_onnx, tmp_path / "half.ms", "ONNX", fp16_weights=True))
    folder.convert(ConvertRequest(small_onnx, tmp_path / "float.ms", "ONNX"))
    assert (tmp_path / "half.ms").stat().st_size < (tmp_path / "float.ms").stat().st_size


def test_its_failure_is_told_with_the_cause(wrapper, small_onnx, tmp_path):
    (tmp_path / "bad.onnx").write_bytes(small_onnx.read_bytes()[:900])
    with pytest.raises(ToolFailed, match=r"ended with code 1.*Read onnx model file failed"):
        find_toolchain(str(wrapper)).convert(ConvertRequest(tmp_path / "bad.onnx", tmp_path / "m.ms", "ONNX"))
    assert not (tmp_path / "m.ms").exists()


def folder_toolchain(folder: Path) -> FolderToolchain:
    return FolderToolchain(ToolchainInfo("folder", folder, "unknown", {}), True)


@pytest.mark.parametrize(
    ("body", "error", "message"),
    [
        ("echo starting; kill -ABRT $$", ToolFailed, "was killed by SIGABRT: starting"),
        ("echo first; echo no such model >&2; exit 7", ToolFailed, "ended with code 7: first | no such model"),
        ("sleep 60", ToolTimeout, "no answer within 0.5 s"),
        ("sleep 60 & wait", ToolTimeout, "no answer within 0.5 s"),
        ("head -c 2000 /dev/urandom; exit 1", ToolFailed, "ended with code 1"),
        ("echo CONVERT RESULT SUCCESS:0", ToolFailed, "wrote no m.ms"),
        ('for a in "$@"; do case $a in --outputFile=*) echo text > "${a#*=}.ms";; esac; done', ToolFailed, "is no .ms"),
        ("yes", ToolFailed, "printed more than"),
    ],
    ids=["crash", "code", "hang", "hanging-child", "garbage", "nothing", "no-ms", "endless"],
)
def test_a_program_that_misbehaves_is_one_error(small_onnx, tmp_path, body, error, message):
    program(tmp_path / "bin", f"#!/bin/bash\n{body}\n")
    started = time.monotonic()
    limit = 0.5 if error is ToolTimeout else 30.0
    with pytest.raises(error) as caught:
        folder_toolchain(tmp_path / "bin").convert(ConvertRequest(small_onnx, tmp_path / "out" / "m.ms", "ONNX", timeout=limit))
    assert message in caught.value.message
    assert time.monotonic() - started < 20
    assert list((tmp_path / "out").iterdir()) == []


def test_children_of_a_hanging_program_end_with_it(small_onnx, tmp_path, ends_soon):
    pid_file = tmp_path / "pid"
    program(tmp_path / "bin", f"#!/bin/bash\nsleep 60 & echo $! > {pid_file}\nwait\n")
    with pytest.raises(ToolTimeout):
        folder_toolchain(tmp_path / "bin").convert(ConvertRequest(small_onnx, tmp_path / "m.ms", "ONNX", timeout=0.5))
    assert ends_soon(int(pid_file.read_text()))


def test_a_program_that_cannot_be_started_is_missing(small_onnx, tmp_path):
    program(tmp_path / "bin", "#!/no/such/shell\n")
    with pytest.raises(ToolMissing, match="cannot be started"):
        folder_toolchain(tmp_path / "bin").convert(ConvertRequest(small_onnx, tmp_path / "m.ms", "ONNX"))


def test_without_a_runner_it_says_how_to_get_one(small_ms, tmp_path):
    with pytest.raises(ToolMissing, match="msedge lite install"):
        folder_toolchain(tmp_path).load(small_ms)


def test_a_broken_program_named_by_the_user_is_an_error_not_a_fallback(tmp_path):
    program(tmp_path / "bin", "#!/bin/bash\nexit 9\n")
    with pytest.raises(ToolFailed, match="ended with code 9"):
        find_toolchain(str(tmp_path / "bin"))


def test_a_program_on_the_path_is_found_after_the_own_copy(wrapper, own_copy, tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", f"{wrapper / 'tools' / 'converter' / 'converter'}:/usr/bin:/bin")
    assert find_toolchain().info.kind == "native"
    (tmp_path / "cache" / "lite" / own_copy.name).unlink()
    said = []
    found = find_toolchain(install=False, say=said.append)
    assert (found.info.kind, found.info.abilities["predict"]) == ("folder", False)
