"""What happens when the converter, the runtime, the library, the disk or the user fails: always one error, never a crash."""

from __future__ import annotations

import gc
import os
import shutil
import signal
import subprocess
import sys
import textwrap
import threading
import time
from pathlib import Path

import onnx
import pytest

from msedge.errors import ArtifactError, ToolError, ToolFailed, ToolMissing, ToolTimeout
from msedge.lite import ConvertRequest, ToolchainInfo, session
from msedge.lite.abi import CONVERTER_LIBRARY, RUNTIME_LIBRARY
from msedge.lite.kinds import WorkerToolchain

pytestmark = pytest.mark.lite

TRUNCATED = 900


def damaged_sources(good: bytes) -> dict[str, bytes]:
    return {
        "empty": b"",
        "text": b"no model at all\n" * 20,
        "random": os.urandom(3000),
        "truncated": good[:TRUNCATED],
    }


@pytest.mark.parametrize("kind", ["empty", "text", "random", "truncated"])
@pytest.mark.parametrize("fmk", ["ONNX", "MINDIR"])
def test_a_damaged_source_is_one_clear_error(toolchain, small_onnx, tmp_path, kind, fmk):
    source = tmp_path / "bad.model"
    source.write_bytes(damaged_sources(small_onnx.read_bytes())[kind])
    with pytest.raises(ToolFailed) as caught:
        toolchain.convert(ConvertRequest(source, tmp_path / "out" / "model.ms", fmk, timeout=30))
    assert str(source) in caught.value.message
    assert fmk in caught.value.hint
    assert list((tmp_path / "out").iterdir()) == []


def test_an_unknown_op_is_named_and_the_log_is_whole(toolchain, network, tmp_path):
    model = network()
    model.graph.node[1].op_type = "Nonsense"
    source = tmp_path / "odd.onnx"
    source.write_bytes(model.SerializeToString())
    with pytest.raises(ToolFailed, match="no rule for the ONNX op Nonsense") as caught:
        toolchain.convert(ConvertRequest(source, tmp_path / "odd.ms", "ONNX"))
    assert "UNSUPPORTED OP LIST" in caught.value.log
    assert "\n" not in caught.value.message


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"source": Path("missing.onnx")}, "missing"),
        ({"output": Path("model.mindir")}, r"end in \.ms"),
        ({"fmk": "TFLITE"}, "TFLITE"),
    ],
)
def test_impossible_requests_are_refused(toolchain, small_onnx, tmp_path, change, message):
    request = {"source": small_onnx, "output": tmp_path / "model.ms", "fmk": "ONNX", **change}
    with pytest.raises(ArtifactError, match=message):
        toolchain.convert(ConvertRequest(**request))


def test_a_converter_that_hangs_is_ended_in_time(toolchain, small_onnx, hanging_config, tmp_path):
    started = time.monotonic()
    with pytest.raises(ToolTimeout, match=r"no answer within 1\.5 s"):
        toolchain.convert(ConvertRequest(small_onnx, tmp_path / "out" / "m.ms", "ONNX", hanging_config, timeout=1.5))
    assert time.monotonic() - started < 6
    assert list((tmp_path / "out").iterdir()) == []


def test_a_runtime_that_hangs_is_ended_in_time(toolchain, small_ms, images, monkeypatch, ends_soon):
    monkeypatch.setattr(session, "PREDICT_TIMEOUT", 0.5)
    with toolchain.load(small_ms) as loaded:
        os.kill(loaded.pid, signal.SIGSTOP)
        with pytest.raises(ToolTimeout, match=r"no answer within 0\.5 s"):
            loaded.predict(images)
        assert ends_soon(loaded.pid)
        with pytest.raises(ToolFailed, match="has ended"):
            loaded.predict(images)


def test_a_worker_killed_in_a_call_is_an_error_and_a_new_one_works(toolchain, small_ms, images):
    with toolchain.load(small_ms) as loaded:
        os.kill(loaded.pid, signal.SIGSTOP)  # so that the call is surely under way when the kill comes
        killer = threading.Timer(0.3, os.kill, (loaded.pid, signal.SIGKILL))
        killer.start()
        with pytest.raises(ToolFailed, match="SIGKILL"):
            loaded.predict(images)
        killer.join()
    with toolchain.load(small_ms) as loaded:
        assert loaded.predict(images).shape == (6, 5)


def test_a_worker_killed_between_calls_is_an_error(toolchain, small_ms, images, ends_soon):
    with toolchain.load(small_ms) as loaded:
        os.kill(loaded.pid, signal.SIGKILL)
        assert ends_soon(loaded.pid)
        with pytest.raises(ToolFailed, match="SIGKILL"):
            loaded.timed(images)


def test_closing_ends_the_worker_and_may_be_repeated(toolchain, small_ms, images, ends_soon):
    loaded = toolchain.load(small_ms)
    pid = loaded.pid
    loaded.close()
    loaded.close()
    assert ends_soon(pid)
    with pytest.raises(ToolFailed, match="has ended"):
        loaded.trace(images[:1])


@pytest.mark.parametrize("cut", [0, 5, 200, 1500, -1000])
def test_a_damaged_ms_is_the_files_fault(toolchain, small_ms, tmp_path, cut):
    path = tmp_path / "cut.ms"
    path.write_bytes(small_ms.read_bytes()[:cut])
    with pytest.raises(ArtifactError, match="damaged") as caught:
        toolchain.load(path)
    assert str(path) in caught.value.message


def test_a_missing_ms_is_named(toolchain, tmp_path):
    with pytest.raises(ArtifactError, match=r"nowhere\.ms"):
        toolchain.load(tmp_path / "nowhere.ms")


def library_copy(own_copy: Path, folder: Path, without: str) -> Path:
    """A folder of links to the libraries, with `without` left out."""
    folder.mkdir()
    for path in (own_copy / "lib").iterdir():
        if path.name != without:
            (folder / path.name).symlink_to(path)
    return folder


def native(libraries: Path) -> WorkerToolchain:
    return WorkerToolchain(ToolchainInfo("native", libraries, "2.0.0", {"trace": True}), libraries)


@pytest.mark.parametrize("size", [0, 1000, 1_000_000])
def test_a_truncated_library_never_takes_msedge_down(own_copy, small_onnx, tmp_path, size):
    libraries = library_copy(own_copy, tmp_path / "lib", CONVERTER_LIBRARY)
    with (own_copy / "lib" / CONVERTER_LIBRARY).open("rb") as whole:
        (libraries / CONVERTER_LIBRARY).write_bytes(whole.read(size))
    with pytest.raises(ToolFailed) as caught:
        native(libraries).convert(ConvertRequest(small_onnx, tmp_path / "m.ms", "ONNX"))
    assert "cannot be loaded" in caught.value.message or "was killed by SIG" in caught.value.message


def test_a_truncated_runtime_library_never_takes_msedge_down(own_copy, small_ms, tmp_path):
    libraries = library_copy(own_copy, tmp_path / "lib", RUNTIME_LIBRARY)
    with (own_copy / "lib" / RUNTIME_LIBRARY).open("rb") as whole:
        (libraries / RUNTIME_LIBRARY).write_bytes(whole.read(70_000_000))
    with pytest.raises(ToolFailed):
        native(libraries).load(small_ms)


def test_a_library_of_another_version_is_refused(own_copy, small_onnx, tmp_path):
    libraries = library_copy(own_copy, tmp_path / "lib", CONVERTER_LIBRARY)
    other = next(p for p in libraries.iterdir() if p.name.startswith("libopencv_core"))
    shutil.copy(other, libraries / CONVERTER_LIBRARY)
    with pytest.raises(ToolFailed, match=r"not version 2\.0\.0"):
        native(libraries).convert(ConvertRequest(small_onnx, tmp_path / "m.ms", "ONNX"))


def test_a_missing_library_is_refused(own_copy, small_ms, tmp_path):
    libraries = library_copy(own_copy, tmp_path / "lib", RUNTIME_LIBRARY)
    with pytest.raises(ToolFailed, match="cannot be loaded"):
        native(libraries).load(small_ms)


def test_a_full_disk_is_named(toolchain, network, tiny_disk, tmp_path):
    onnx.save(network(hidden=8000), tmp_path / "large.onnx")
    disk = tiny_disk(64)
    with pytest.raises(ArtifactError, match="no space left"):
        toolchain.convert(ConvertRequest(tmp_path / "large.onnx", disk / "m.ms", "ONNX"))
    assert list(disk.iterdir()) == []


def test_an_output_folder_that_is_a_file_is_named(toolchain, small_onnx, tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(ArtifactError, match="cannot write"):
        toolchain.convert(ConvertRequest(small_onnx, tmp_path / "file" / "m.ms", "ONNX"))


def test_an_interpreter_that_cannot_start_is_a_missing_tool(small_ms, tmp_path):
    info = ToolchainInfo("python", tmp_path / "no-python", "2.0.0", {"trace": False})
    with pytest.raises(ToolMissing, match="cannot be started"):
        WorkerToolchain(info, tmp_path).load(small_ms)


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ("echo this is no protocol; echo { >&5 ; sleep 60", "no answer|closed"),
        ("exit 3", "ended with code 3"),
        ("kill -SEGV $$", "killed by SIGSEGV"),
        ('for fd in /proc/$$/fd/*; do n=${fd##*/}; [ "$n" -gt 2 ] && echo garbage >&$n; done; sleep 60', "garbage"),
        ("yes the converter goes mad", "printed more than"),
    ],
    ids=["mute", "exit", "crash", "garbage", "endless"],
)
def test_an_interpreter_that_misbehaves_is_one_error(small_onnx, tmp_path, monkeypatch, body, expected):
    monkeypatch.setattr("msedge.lite.client.START_TIMEOUT", 2.0)
    program = tmp_path / "python"
    program.write_text(f"#!/bin/bash\n{body} 2>/dev/null\n")
    program.chmod(0o755)
    info = ToolchainInfo("python", program, "2.0.0", {"trace": False})
    with pytest.raises(ToolError, match=expected):
        WorkerToolchain(info, tmp_path).convert(ConvertRequest(small_onnx, tmp_path / "m.ms", "ONNX"))
    assert not (tmp_path / "m.ms").exists()


PARENT = """
    import sys
    from pathlib import Path
    from msedge.lite import ConvertRequest, find_toolchain
    copy, source, output, config = sys.argv[1:]
    toolchain = find_toolchain(copy)
    print("ready", flush=True)
    toolchain.convert(ConvertRequest(Path(source), Path(output), "ONNX", Path(config).read_text()))
"""


@pytest.fixture
def converting_parent(own_copy, small_onnx, hanging_config, tmp_path):
    """A Python process that is converting (and will for ever), the converter's process id, and its output folder."""
    config = tmp_path / "hanging.cfg"
    config.write_text(hanging_config)
    output = tmp_path / "out" / "m.ms"
    command = [sys.executable, "-c", textwrap.dedent(PARENT), own_copy, small_onnx, output, config]
    root = Path(__file__).resolve().parents[2]
    environment = {**os.environ, "PYTHONPATH": str(root), "TMPDIR": str(tmp_path)}
    parent = subprocess.Popen(
        [str(c) for c in command], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
    )
    try:
        assert parent.stdout.readline() == "ready\n"
        yield parent, child_of(parent.pid), output.parent
    finally:
        parent.kill()
        parent.communicate()


def child_of(pid: int) -> int:
    """The process id of the only child, once it is waiting inside the converter."""
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        if children and CONVERTER_LIBRARY in Path(f"/proc/{children[0]}/maps").read_text():
            time.sleep(0.3)
            return int(children[0])
        time.sleep(0.02)
    raise AssertionError("the converter did not start")


def test_ctrl_c_ends_the_converter_and_leaves_nothing(converting_parent, ends_soon):
    parent, converter, folder = converting_parent
    parent.send_signal(signal.SIGINT)
    _, stderr = parent.communicate(timeout=10)
    assert "KeyboardInterrupt" in stderr
    assert ends_soon(converter)
    assert list(folder.iterdir()) == []


def test_the_converter_ends_when_msedge_is_killed(converting_parent, ends_soon):
    parent, converter, folder = converting_parent
    parent.kill()
    parent.wait(timeout=10)
    assert ends_soon(converter)
    assert not (folder / "m.ms").exists()


def test_a_session_that_nobody_closes_ends_with_its_last_reference(toolchain, small_ms, images, ends_soon):
    loaded = toolchain.load(small_ms)
    loaded.predict(images)
    pid = loaded.pid
    del loaded
    gc.collect()
    assert ends_soon(pid)
