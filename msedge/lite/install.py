"""msedge's own copy of MindSpore Lite 2.0.0: fetched with pip, checked, unpacked into the user cache, and proved.

A copy is a folder `lite/2.0.0-<machine>` with `lib` (the shared libraries that converting and running need, about 60 % of
the wheel), `include` (the C++ headers) and `install.json`, which records where it came from and what was proved.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import platform
import re
import shutil
import subprocess
import sys
import time
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from msedge.artifact import cache_dir, make_dir, read_json, remove_tree, sha256_file, write_json, writing
from msedge.errors import ArtifactError, ToolError, ToolFailed, ToolMissing
from msedge.lite.abi import CONVERTER_LIBRARY, RUNTIME_LIBRARY, VERSION
from msedge.lite.client import Process
from msedge.lite.kinds import WorkerToolchain
from msedge.lite.probe import probe
from msedge.lite.protocol import ToolchainInfo

Progress = Callable[[str, int, int], None]
"""Called as progress(step, done, total): the steps are "download", "check", "unpack" (bytes) and "prove"."""

RECORD = "install.json"
WHEEL_VARIABLE = "MSEDGE_LITE_WHEEL"
DOWNLOAD_TIMEOUT = 3600.0
_MARGIN = 64 << 20
_NEEDED = re.compile(
    r"mindspore_lite/(lib/(libmindspore_converter|libmindspore-extendrt_python|libmindspore_core|libmindspore_glog"
    r"|libmslite_converter_plugin|libopencv_\w+|libdnnl|libmsplugin-ge-litert_python)\.so[.\d]*|include/.*\.h)"
)


@dataclass(frozen=True)
class Wheel:
    """One pinned wheel: pip's words for its platform, and what makes it this file and no other."""

    sha256: str
    size: int
    pip_platform: tuple[str, ...]


WHEELS = {
    "x86_64": Wheel(
        "199cd0605cc985b88eddb273db9dfe9000a585ba10ca2292b6b36ebfff07b3ec",
        168_649_943,
        ("--platform", "manylinux1_x86_64"),
    ),
    "aarch64": Wheel(
        "9006b56a0285833802b4880f34cbce5f94111ef5ca4071d5df5c61e8c2a3a6f7",
        55_957_681,
        ("--abi", "none", "--platform", "any"),
    ),
}


def this_wheel() -> Wheel:
    """The wheel for this machine. Raises ToolMissing where MindSpore Lite 2.0.0 does not exist for it."""
    machine = platform.machine()
    if sys.platform != "linux" or machine not in WHEELS:
        raise ToolMissing(
            f"MindSpore Lite {VERSION} exists for Linux on x86-64 and aarch64, this is {sys.platform} on {machine}",
            "give a newer official toolchain with --lite or MSEDGE_LITE",
        )
    return WHEELS[machine]


def copy_folder(cache: Path | None = None) -> Path:
    """Where msedge's own copy lies, or would."""
    return (cache or cache_dir()) / "lite" / f"{VERSION}-{platform.machine()}"


def read_copy(folder: Path) -> dict[str, Any] | None:
    """The record of an installed copy, or None where there is none; a file that is missing or of another size counts
    as damage: ToolFailed."""
    if not (folder / RECORD).is_file():
        return None
    damaged = ToolFailed(f"msedge's copy of MindSpore Lite is damaged: {folder}", "run msedge lite install --force")
    try:
        record = read_json(folder / RECORD, "the record of MindSpore Lite")
        for name, expected in record["files"].items():
            if (folder / name).stat().st_size != expected["bytes"]:
                raise damaged
        if not isinstance(record["abilities"], dict):
            raise damaged
    except (ArtifactError, OSError, KeyError, TypeError, AttributeError):
        raise damaged from None
    return record


def check_copy(folder: Path) -> list[str]:
    """The files of an installed copy whose content differs from what was installed (reads them all)."""
    record = read_copy(folder) or {"files": {}}
    return [n for n, expected in record["files"].items() if sha256_file(folder / n) != expected["sha256"]]


def install(progress: Progress | None = None, cache: Path | None = None, force: bool = False) -> Path:
    """Install msedge's own copy unless it is there and whole (or `force`); returns its folder.

    With `MSEDGE_LITE_WHEEL` set nothing is downloaded. A finished download is kept until it has been installed, so that
    a second run goes on from there. Raises ToolMissing (no network, no pip, wrong machine), ToolFailed (the wheel does
    not do what it should), ArtifactError (wrong wheel given, no space, no permission); then nothing is half-installed.
    """
    wheel = this_wheel()
    report = progress or (lambda step, done, total: None)
    final = copy_folder(cache)
    make_dir(final.parent)
    with _lock(final.parent / ".install.lock", report):
        if not force:
            with contextlib.suppress(ToolFailed):
                if read_copy(final):
                    return final
        staging = final.parent / f".{final.name}.part"
        remove_tree(staging)  # left by an install that was killed; we hold the lock
        try:
            with writing(final):
                _unpack(_obtain(wheel, final.parent, report), staging, wheel, report)
                report("prove", 0, 1)
                _prove(staging, wheel)
                report("prove", 1, 1)
                _swap(staging, final)
        finally:
            remove_tree(staging)
        remove_tree(final.parent / "download")
    return final


@contextlib.contextmanager
def _lock(path: Path, report: Progress) -> Iterator[None]:
    """Hold the file lock, waiting for another process that installs."""
    with writing(path), path.open("a") as f:
        while True:
            try:
                fcntl.flock(f, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                report("wait for another install", 0, 1)
                time.sleep(0.2)
        yield


def _obtain(wheel: Wheel, folder: Path, report: Progress) -> Path:
    """The checked wheel: the given one, a finished download, or a fresh download."""
    if given := os.environ.get(WHEEL_VARIABLE):
        path = Path(given)
        if not path.is_file():
            raise ArtifactError(f"{WHEEL_VARIABLE} names a file that is missing: {path}")
        if (found := _checked_sha256(path, report)) != wheel.sha256:
            raise ArtifactError(
                f"{path} is not the pinned wheel of MindSpore Lite {VERSION}: its sha256 is {found}",
                f"the pinned one has {wheel.sha256}",
            )
        return path
    done = folder / "download"
    for path in sorted(done.glob("*.whl")):
        if _checked_sha256(path, report) == wheel.sha256:
            return path
    remove_tree(done)
    _need_space(folder, wheel.size, "download")
    staging = folder / ".download.part"
    remove_tree(staging)
    staging.mkdir()
    try:
        path = _download(wheel, staging, report)
        if (found := _checked_sha256(path, report)) != wheel.sha256:
            raise ToolFailed(
                f"the downloaded wheel of MindSpore Lite {VERSION} is not the pinned one: its sha256 is {found}",
                "look at pip's index settings; a package mirror may serve another file",
            )
        done.mkdir()
        return path.replace(done / path.name)
    finally:
        remove_tree(staging)


def _download(wheel: Wheel, staging: Path, report: Progress) -> Path:
    """Let pip download the wheel for another Python into `staging`; returns its path."""
    command = [sys.executable, "-m", "pip", "download", f"mindspore-lite=={VERSION}", "--no-deps"]
    command += ["--only-binary=:all:", "--python-version", "3.7", "--implementation", "cp", *wheel.pip_platform]
    command += ["--dest", str(staging), "--no-input", "--disable-pip-version-check", "--retries", "2"]
    command += _resume_options()
    # pip writes into TMPDIR while it downloads: there its progress can be seen, and it is on the cache's disk
    environment = {**os.environ, "TMPDIR": str(staging), "PYTHONWARNINGS": "ignore"}
    process = Process(command, "pip", environment)
    deadline = time.monotonic() + DOWNLOAD_TIMEOUT
    try:
        while process.returncode is None and time.monotonic() < deadline:
            report("download", min(_bytes_below(staging), wheel.size), wheel.size)
            time.sleep(0.1)
        code, log = process.returncode, process.log()
    finally:
        process.close()
    found = sorted(staging.glob("*.whl"))
    if code == 0 and found:
        report("download", wheel.size, wheel.size)
        return found[0]
    if "No space left on device" in log:
        raise ArtifactError(f"cannot write {staging.parent}: no space left on the disk", "free some space or set MSEDGE_CACHE")
    raise ToolMissing(
        f"MindSpore Lite {VERSION} could not be downloaded: {_pip_reason(log, code)}",
        f"check the network and pip's index settings, or set {WHEEL_VARIABLE} to the wheel's file",
    )


def _pip_reason(log: str, code: int | None) -> str:
    if code is None:
        return f"pip took more than {DOWNLOAD_TIMEOUT:g} s"
    if "No module named pip" in log:
        return "this Python has no pip (python -m ensurepip installs it)"
    lines = [line.strip() for line in log.splitlines() if line.strip()]
    errors = [line.removeprefix("ERROR: ") for line in lines if line.startswith("ERROR")]
    network = [line for line in lines if re.search(r"Connection|resolve|timed out|ProxyError|SSLError", line)]
    chosen = (network[:1] + errors[:1]) or lines[-1:] or [f"pip ended with code {code}"]
    return " | ".join(text[:300] for text in chosen)


def _resume_options() -> list[str]:
    """pip resumes broken connections from 25.1 on."""
    run = subprocess.run([sys.executable, "-m", "pip", "--version"], capture_output=True, text=True, check=False)
    version = re.match(r"pip (\d+)\.(\d+)", run.stdout)
    new = version and (int(version[1]), int(version[2])) >= (25, 1)
    return ["--resume-retries", "5"] if new else []


def _bytes_below(folder: Path) -> int:
    total = 0
    for path in folder.rglob("*"):
        with contextlib.suppress(OSError):
            total += path.stat().st_size if path.is_file() else 0
    return total


def _checked_sha256(path: Path, report: Progress) -> str:
    report("check", 0, 1)
    digest = sha256_file(path)
    report("check", 1, 1)
    return digest


def _need_space(folder: Path, size: int, what: str) -> None:
    free = shutil.disk_usage(folder).free
    if free < size + _MARGIN:
        raise ArtifactError(
            f"not enough space to {what} MindSpore Lite in {folder}: {(size + _MARGIN) >> 20} MB are needed, "
            f"{free >> 20} MB are free",
            "free some space or set MSEDGE_CACHE to a folder on another disk",
        )


def _unpack(path: Path, folder: Path, wheel: Wheel, report: Progress) -> None:
    """Unpack what is needed of the wheel and write the record (without proof) into `folder`."""
    try:
        with zipfile.ZipFile(path) as archive:
            members = [(m, _NEEDED.fullmatch(m.filename)) for m in archive.infolist()]
            wanted = [(m, found[1]) for m, found in members if found]
            total = sum(m.file_size for m, _ in wanted)
            _need_space(folder.parent, total, "unpack")
            done = 0
            for member, name in wanted:
                target = folder / name
                target.parent.mkdir(parents=True, exist_ok=True)
                with archive.open(member) as source, target.open("wb") as sink:
                    while block := source.read(1 << 20):
                        sink.write(block)
                        done += len(block)
                        report("unpack", done, total)
    except zipfile.BadZipFile as e:
        raise ToolFailed(f"the wheel of MindSpore Lite cannot be unpacked: {e}") from e


def _prove(folder: Path, wheel: Wheel) -> None:
    """Convert and run a model with the unpacked copy; record what it can do."""
    libraries = folder / "lib"
    missing = [name for name in (CONVERTER_LIBRARY, RUNTIME_LIBRARY) if not (libraries / name).is_file()]
    if missing:
        raise ToolFailed(f"the wheel of MindSpore Lite lacks {', '.join(missing)}")
    hoped = ToolchainInfo("native", folder, VERSION, {"trace": True})
    started = time.perf_counter()
    try:
        abilities = probe(WorkerToolchain(hoped, libraries), can_run=True, can_trace=True, for_ascend=False)
    except ToolError as e:
        e.message = f"MindSpore Lite {VERSION} was fetched, but does not work here: {e.message}"
        raise
    files = sorted(p for p in libraries.iterdir())
    record = {
        "version": VERSION,
        "wheel_sha256": wheel.sha256,
        "abilities": abilities,
        "proof": {
            "what": "a two-node model was converted, run, traced and quantised",
            "seconds": round(time.perf_counter() - started, 3),
            "python": platform.python_version(),
            "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        },
        "files": {f"lib/{p.name}": {"bytes": p.stat().st_size, "sha256": sha256_file(p)} for p in files},
    }
    write_json(folder / RECORD, record)


def _swap(staging: Path, final: Path) -> None:
    """Put `staging` in the place of `final`, which may exist and be in use (loaded libraries stay valid)."""
    old = final.with_name(f".{final.name}.old")
    remove_tree(old)
    if final.exists() or final.is_symlink():
        final.rename(old)
    try:
        staging.rename(final)
    except OSError:
        if old.exists():
            old.rename(final)
        raise
    if old.is_symlink():
        old.unlink()
    remove_tree(old)
