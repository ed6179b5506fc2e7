"""msedge's own copy of MindSpore Lite 2.0.0: fetched, checked, unpacked into the user cache, and proved.

A copy is a folder `lite/2.0.0-<machine>` with `lib` (the shared libraries that converting and running need, about 60 % of
the wheel), `include` (the C++ headers) and `install.json`, which records where it came from and what was proved.
"""

from __future__ import annotations

import contextlib
import fcntl
import platform
import re
import time
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from msedge.artifact import cache_dir, make_dir, read_json, remove_tree, sha256_file, write_json, writing
from msedge.errors import ArtifactError, ToolError, ToolFailed
from msedge.lite.abi import CONVERTER_LIBRARY, RUNTIME_LIBRARY, VERSION
from msedge.lite.kinds import WorkerToolchain
from msedge.lite.probe import probe
from msedge.lite.protocol import ToolchainInfo
from msedge.lite.wheel import Progress, Wheel, need_space, obtain_wheel, this_wheel

RECORD = "install.json"
_NEEDED = re.compile(
    r"mindspore_lite/(lib/(libmindspore_converter|libmindspore-extendrt_python|libmindspore_core|libmindspore_glog"
    r"|libmslite_converter_plugin|libopencv_\w+|libdnnl|libmsplugin-ge-litert_python)\.so[.\d]*|include/.*\.h)"
)


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

    With `MSEDGE_LITE_WHEEL` set nothing is downloaded. A download is kept, whole or not, until it has been installed, so
    that a second run goes on from there. Raises ToolMissing (no network, no pip, wrong machine), ToolFailed (the wheel does
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
                _unpack(obtain_wheel(wheel, final.parent, report), staging, wheel, report)
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


def _unpack(path: Path, folder: Path, wheel: Wheel, report: Progress) -> None:
    """Unpack what is needed of the wheel and write the record (without proof) into `folder`."""
    try:
        with zipfile.ZipFile(path) as archive:
            members = [(m, _NEEDED.fullmatch(m.filename)) for m in archive.infolist()]
            wanted = [(m, found[1]) for m, found in members if found]
            total = sum(m.file_size for m, _ in wanted)
            need_space(folder.parent, total, "unpack")
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
