"""The pinned MindSpore Lite 2.0.0 wheel: fetched by pip (its download for another Python) and checked."""

from __future__ import annotations

import contextlib
import os
import platform
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from msedge.artifact import remove_tree, sha256_file
from msedge.errors import ArtifactError, ToolFailed, ToolMissing
from msedge.lite.abi import VERSION
from msedge.lite.process import Process

Progress = Callable[[str, int, int], None]
"""Called as progress(step, done, total): the steps are "download", "check", "unpack" (bytes) and "prove"."""

WHEEL_VARIABLE = "MSEDGE_LITE_WHEEL"
STALL_SECONDS = 300.0
_MARGIN = 64 << 20


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


def obtain_wheel(wheel: Wheel, folder: Path, report: Progress) -> Path:
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
    need_space(folder, wheel.size, "download")
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
    command += ["--dest", str(staging), "--no-input", "--disable-pip-version-check"]
    command += _resume_options()
    # pip writes into TMPDIR while it downloads: there its progress can be seen, and it is on the cache's disk
    environment = {"PIP_RETRIES": "2", **os.environ, "TMPDIR": str(staging), "PYTHONWARNINGS": "ignore"}
    process = Process(command, "pip", environment)
    done, grown = 0, time.monotonic()
    try:
        while process.returncode is None and time.monotonic() - grown < STALL_SECONDS:
            if (size := _bytes_below(staging)) != done:
                done, grown = size, time.monotonic()
            report("download", min(done, wheel.size), wheel.size)
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
        return f"nothing came for {STALL_SECONDS:g} s"
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


def need_space(folder: Path, size: int, what: str) -> None:
    free = shutil.disk_usage(folder).free
    if free < size + _MARGIN:
        raise ArtifactError(
            f"not enough space to {what} MindSpore Lite in {folder}: {(size + _MARGIN) >> 20} MB are needed, "
            f"{free >> 20} MB are free",
            "free some space or set MSEDGE_CACHE to a folder on another disk",
        )
