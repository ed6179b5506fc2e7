"""Installing msedge's own copy: what goes wrong gives one error and leaves nothing; what goes right is proved."""

from __future__ import annotations

import contextlib
import functools
import http.server
import json
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
import zipfile
from pathlib import Path

import numpy as np
import pytest

from msedge.errors import ArtifactError, ToolFailed, ToolMissing
from msedge.lite import find_toolchain, wheel
from msedge.lite.install import RECORD, check_copy, copy_folder, install, read_copy
from msedge.lite.wheel import WHEEL_VARIABLE, WHEELS, this_wheel

NAME = "mindspore_lite-2.0.0-cp37-cp37m-manylinux1_x86_64.whl"
ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch):
    """pip with no configuration of this machine's, and no wheel given."""
    for name in [n for n in os.environ if n.startswith("PIP_")] + [WHEEL_VARIABLE]:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_NO_CACHE_DIR", "1")


def left_in(cache: Path) -> list[str]:
    return sorted(p.name for p in (cache / "lite").iterdir() if p.name != ".install.lock")


def some_wheel(folder: Path) -> Path:
    """A valid wheel of the right name and the wrong content."""
    folder.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(folder / NAME, "w") as archive:
        archive.writestr("mindspore_lite/__init__.py", "")
        information = "mindspore_lite-2.0.0.dist-info"
        archive.writestr(f"{information}/METADATA", "Metadata-Version: 2.1\nName: mindspore-lite\nVersion: 2.0.0\n")
        archive.writestr(f"{information}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: false\nTag: cp37-cp37m-any\n")
        archive.writestr(f"{information}/RECORD", "")
    return folder / NAME


class Index(http.server.BaseHTTPRequestHandler):
    """A package index with one wheel; `stall` sends half of it and then nothing."""

    def __init__(self, content: bytes, stall: threading.Event | None, *arguments):
        self.content, self.stall = content, stall
        super().__init__(*arguments)

    def do_GET(self):
        if not self.path.endswith(".whl"):
            self.answer(f'<!DOCTYPE html><html><body><a href="/files/{NAME}">{NAME}</a></body></html>'.encode(), "text/html")
        elif self.stall is None:
            self.answer(self.content, "application/octet-stream")
        else:
            self.send_response(200)
            self.send_header("Content-Length", str(2 * len(self.content)))
            self.end_headers()
            self.wfile.write(self.content)
            self.stall.wait(30)

    def answer(self, body: bytes, kind: str):
        self.send_response(200)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *arguments):
        pass


@contextlib.contextmanager
def index(content: bytes, stall: threading.Event | None = None):
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Index, content, stall))
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}/simple"
    finally:
        if stall:
            stall.set()
        server.shutdown()
        server.server_close()
        thread.join()


def x86_64_only():
    if this_wheel() is not WHEELS["x86_64"]:
        pytest.skip("the served wheel is named for x86-64")


def test_the_pins_are_sha256_sums():
    for pinned in WHEELS.values():
        assert len(bytes.fromhex(pinned.sha256)) == 32


def test_another_machine_is_refused(monkeypatch, tmp_path):
    monkeypatch.setattr("platform.machine", lambda: "riscv64")
    with pytest.raises(ToolMissing, match="riscv64"):
        install(cache=tmp_path)


def test_a_given_wheel_of_another_content_is_refused(monkeypatch, tmp_path):
    monkeypatch.setenv(WHEEL_VARIABLE, str(some_wheel(tmp_path / "given")))
    with pytest.raises(ArtifactError, match="not the pinned wheel") as caught:
        install(cache=tmp_path)
    assert this_wheel().sha256 in caught.value.hint
    assert left_in(tmp_path) == []


def test_a_given_wheel_that_is_missing_is_named(monkeypatch, tmp_path):
    monkeypatch.setenv(WHEEL_VARIABLE, str(tmp_path / "no.whl"))
    with pytest.raises(ArtifactError, match=r"no\.whl"):
        install(cache=tmp_path)


def test_no_network_is_one_clear_error(monkeypatch, tmp_path):
    monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:9/simple")
    monkeypatch.setenv("PIP_RETRIES", "0")
    with pytest.raises(ToolMissing, match="could not be downloaded") as caught:
        install(cache=tmp_path)
    assert WHEEL_VARIABLE in caught.value.hint
    assert "\n" not in caught.value.message
    assert left_in(tmp_path) == []


def test_a_downloaded_wheel_of_another_content_is_refused(monkeypatch, tmp_path):
    x86_64_only()
    content = some_wheel(tmp_path / "served").read_bytes()
    seen = []
    with index(content) as url:
        monkeypatch.setenv("PIP_INDEX_URL", url)
        with pytest.raises(ToolFailed, match="not the pinned one"):
            install(cache=tmp_path, progress=lambda step, done, total: seen.append((step, done, total)))
    assert left_in(tmp_path) == []
    size = this_wheel().size
    assert ("download", size, size) in seen


def test_an_index_without_the_wheel_is_one_clear_error(monkeypatch, tmp_path):
    monkeypatch.setattr(wheel, "VERSION", "99.0.0")
    with index(b"") as url:
        monkeypatch.setenv("PIP_INDEX_URL", url)
        with pytest.raises(ToolMissing, match=r"could not be downloaded: Could not find a version"):
            install(cache=tmp_path)
    assert left_in(tmp_path) == []


CHILD = """
    import sys
    from pathlib import Path
    from msedge.lite.install import install
    def told(step, done, total):
        if step == "download" and done:
            print("under way", flush=True)
    install(cache=Path(sys.argv[1]), progress=told)
"""


@pytest.mark.parametrize("signal_number", [signal.SIGINT, signal.SIGKILL])
def test_an_interrupted_download_is_no_install(monkeypatch, tmp_path, signal_number, ends_soon):
    x86_64_only()
    stall = threading.Event()
    with index(b"half a wheel" * 100_000, stall) as url:
        environment = {**os.environ, "PIP_INDEX_URL": url, "PYTHONPATH": str(ROOT), "TMPDIR": str(tmp_path)}
        command = [sys.executable, "-c", textwrap.dedent(CHILD), str(tmp_path)]
        child = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment)
        assert child.stdout.readline() == "under way\n"
        pip = int(Path(f"/proc/{child.pid}/task/{child.pid}/children").read_text().split()[-1])
        child.send_signal(signal_number)
        child.communicate(timeout=10)
        assert ends_soon(pip)
    assert not copy_folder(tmp_path).exists()
    if signal_number == signal.SIGINT:
        assert left_in(tmp_path) == []
    monkeypatch.setenv(WHEEL_VARIABLE, str(some_wheel(tmp_path / "given")))
    with pytest.raises(ArtifactError):  # the lock is free again, and what was half there is not taken for a wheel
        install(cache=tmp_path)
    monkeypatch.delenv(WHEEL_VARIABLE)
    monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:9/simple")
    with pytest.raises(ToolMissing):
        install(cache=tmp_path)
    assert left_in(tmp_path) == []


def test_a_download_that_stalls_is_given_up(monkeypatch, tmp_path):
    x86_64_only()
    monkeypatch.setattr(wheel, "STALL_SECONDS", 3.0)
    with index(b"half a wheel" * 100_000, threading.Event()) as url:
        monkeypatch.setenv("PIP_INDEX_URL", url)
        with pytest.raises(ToolMissing, match="nothing came for 3 s"):
            install(cache=tmp_path)
    assert left_in(tmp_path) == []


def test_a_partial_download_beside_is_not_taken_for_a_wheel(monkeypatch, tmp_path):
    some_wheel(tmp_path / "lite" / "download")
    monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:9/simple")
    with pytest.raises(ToolMissing):
        install(cache=tmp_path)
    assert left_in(tmp_path) == []


def test_a_disk_too_small_is_refused_before_the_download(monkeypatch, tmp_path, tiny_disk):
    monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:9/simple")
    disk = tiny_disk(2000)
    with pytest.raises(ArtifactError, match="not enough space to download") as caught:
        install(cache=disk)
    assert "MSEDGE_CACHE" in caught.value.hint
    assert left_in(disk) == []


def test_a_disk_that_fills_up_is_named(monkeypatch, tmp_path, tiny_disk):
    x86_64_only()
    monkeypatch.setattr(wheel, "need_space", lambda *a: None)
    with index(b"x" * 8_000_000) as url:
        monkeypatch.setenv("PIP_INDEX_URL", url)
        disk = tiny_disk(4000)
        with pytest.raises(ArtifactError, match="no space left"):
            install(cache=disk)
    assert left_in(disk) == []


def test_a_cache_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "lite").write_text("in the way")
    with pytest.raises(ArtifactError, match="cannot write"):
        install(cache=tmp_path)


def test_this_python_without_pip_is_told(monkeypatch, tmp_path):
    bare = tmp_path / "python"
    bare.write_text(f'#!/bin/sh\nexec {sys.executable} -I -S "$@"\n')
    bare.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(bare))
    with pytest.raises(ToolMissing, match="has no pip"):
        install(cache=tmp_path / "cache")


@pytest.fixture(scope="session")
def real_wheel() -> Path:
    given = os.environ.get(WHEEL_VARIABLE)
    if not given:
        pytest.skip(f"{WHEEL_VARIABLE} names no wheel; the install from the network is tested by every other fixture")
    return Path(given)


@pytest.mark.lite
def test_an_installed_copy_is_recorded_proved_and_whole(own_copy):
    record = json.loads((own_copy / RECORD).read_text())
    assert record["wheel_sha256"] == this_wheel().sha256
    assert record["abilities"]["predict"] is True
    assert "two-node model" in record["proof"]["what"]
    assert set(record["files"]) == {f"lib/{p.name}" for p in (own_copy / "lib").iterdir()}
    assert check_copy(own_copy) == []
    assert (own_copy / "include" / "api" / "model.h").is_file()
    assert not any(p.name.endswith(".part") for p in own_copy.parent.iterdir())


@pytest.mark.lite
def test_installing_again_does_nothing(own_copy, monkeypatch):
    monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:9/simple")
    before = (own_copy / RECORD).stat().st_mtime_ns
    steps = []
    assert install(progress=lambda *a: steps.append(a)) == own_copy
    assert (own_copy / RECORD).stat().st_mtime_ns == before
    assert steps == []


@pytest.mark.lite
@pytest.mark.slow
def test_two_processes_install_at_once_and_damage_is_repaired(real_wheel, tmp_path, small_ms, images):
    environment = {**os.environ, WHEEL_VARIABLE: str(real_wheel), "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", textwrap.dedent(CHILD), str(tmp_path)]
    children = [subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment) for _ in range(2)]
    for child in children:
        _, stderr = child.communicate(timeout=300)
        assert (child.returncode, stderr) == (0, "")
    folder = copy_folder(tmp_path)
    assert left_in(tmp_path) == [folder.name]
    library = folder / "lib" / "libmindspore_core.so"
    with library.open("r+b") as f:
        f.truncate(1000)
    with pytest.raises(ToolFailed, match="damaged"):
        read_copy(folder)
    subprocess.run(command, check=True, env=environment, timeout=300)
    assert check_copy(folder) == []
    with find_toolchain(str(folder)).load(small_ms) as session:
        assert np.isfinite(session.predict(images)).all()


@pytest.mark.lite
@pytest.mark.slow
def test_a_copy_that_does_not_work_is_not_installed(real_wheel, monkeypatch, tmp_path):
    monkeypatch.setenv(WHEEL_VARIABLE, str(real_wheel))
    monkeypatch.setattr("msedge.lite.probe.probe_output", lambda: np.zeros((1, 48), np.float32))
    started = time.monotonic()
    with pytest.raises(ToolFailed, match="fetched, but does not work here"):
        install(cache=tmp_path)
    assert left_in(tmp_path) == []
    assert time.monotonic() - started < 120
