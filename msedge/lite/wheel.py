"""The pinned MindSpore Lite 2.0.0 wheel: found with pip's settings, fetched so that a break does no harm, and checked."""

from __future__ import annotations

import contextlib
import os
import platform
import shutil
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from msedge.artifact import remove_tree, sha256_file
from msedge.download import download
from msedge.errors import ArtifactError, DownloadError, ToolFailed, ToolMissing
from msedge.lite import pip
from msedge.lite.abi import VERSION

Progress = Callable[[str, int, int], None]
"""Called as progress(step, done, total): the steps are "download", "check", "unpack" (bytes) and "prove"."""

WHEEL_VARIABLE = "MSEDGE_LITE_WHEEL"
STALL_SECONDS = 300.0
_MARGIN = 64 << 20


@dataclass(frozen=True)
class Wheel:
    """One pinned wheel: its name, pip's words for its platform, and what makes it this file and no other."""

    name: str
    sha256: str
    size: int
    pip_platform: tuple[str, ...]


WHEELS = {
    "x86_64": Wheel(
        f"mindspore_lite-{VERSION}-cp37-cp37m-manylinux1_x86_64.whl",
        "199cd0605cc985b88eddb273db9dfe9000a585ba10ca2292b6b36ebfff07b3ec",
        168_649_943,
        ("--platform", "manylinux1_x86_64"),
    ),
    "aarch64": Wheel(
        f"mindspore_lite-{VERSION}-cp37-none-any.whl",
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
        path.unlink()
    need_space(folder, wheel.size, "download")
    staging = folder / ".download.part"
    remove_tree(staging)
    staging.mkdir()
    try:
        return _download(wheel, done, staging, report)
    except pip.PipFailed as e:
        if e.no_space:
            raise ArtifactError(
                f"cannot write {folder}: no space left on the disk", "free some space or set MSEDGE_CACHE"
            ) from None
        raise _not_had(e.reason, "check the network and pip's index settings") from None
    finally:
        remove_tree(staging)
        with contextlib.suppress(OSError):
            done.rmdir()  # where it is empty


def _download(wheel: Wheel, done: Path, staging: Path, report: Progress) -> Path:
    """Fetch it from where the package index has it, to go on after a break; else let pip download it."""
    if url := pip.find("mindspore-lite", wheel.name, wheel.sha256):
        target = done / wheel.name
        try:
            return download(
                url,
                target,
                sha256=wheel.sha256,
                size=wheel.size,
                plain_http=True,  # the index says so, and the sum is pinned
                label="wheel",
                progress=_as_progress(report),
            )
        except DownloadError as e:
            if target.with_name(f"{target.name}.part").exists():  # else pip may know more: a password, a proxy, a certificate
                raise _not_had(e.message, e.hint) from None
    options = ("--python-version", "3.7", "--implementation", "cp", *wheel.pip_platform)
    requirement = f"mindspore-lite=={VERSION}"
    path = pip.fetch(
        requirement, options, staging, STALL_SECONDS, lambda size: report("download", min(size, wheel.size), wheel.size)
    )
    report("download", wheel.size, wheel.size)
    if (found := _checked_sha256(path, report)) != wheel.sha256:
        raise ToolFailed(
            f"the downloaded wheel of MindSpore Lite {VERSION} is not the pinned one: its sha256 is {found}",
            "look at pip's index settings; a package mirror may serve another file",
        )
    done.mkdir(exist_ok=True)
    return path.replace(done / path.name)


def _as_progress(report: Progress):
    @contextlib.contextmanager
    def progress(label: str, total: int):
        yield lambda size: report("download", size, total)

    return progress


def _not_had(reason: str, hint: str) -> ToolMissing:
    return ToolMissing(
        f"MindSpore Lite {VERSION} could not be downloaded: {reason}", f"{hint}, or set {WHEEL_VARIABLE} to the wheel's file"
    )


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
