"""Finding a MindSpore Lite toolchain, asking it once what it can do, and remembering the answer."""

from __future__ import annotations

import hashlib
import importlib.util
import json
import os
import platform
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from msedge.artifact import cache_dir, read_json, write_json
from msedge.errors import ArtifactError, ToolError, ToolMissing
from msedge.lite import install as installer
from msedge.lite.abi import CONVERTER_LIBRARY, RUNTIME_LIBRARY, VERSION
from msedge.lite.kinds import FolderToolchain, PairedToolchain, WorkerToolchain, converter_program, run_converter_program
from msedge.lite.probe import probe
from msedge.lite.protocol import Toolchain, ToolchainInfo
from msedge.lite.wheel import this_wheel

VARIABLE = "MSEDGE_LITE"
Say = Callable[[str], None]
_IDENTIFY = """
import importlib.util, json
spec = importlib.util.find_spec("mindspore_lite")
print(json.dumps(spec.origin if spec else None))
"""


def find_toolchain(explicit: str | None = None, *, install: bool = True, say: Say | None = None) -> Toolchain:
    """The first toolchain of: `explicit` (--lite), MSEDGE_LITE, this interpreter's `mindspore_lite`, msedge's own copy,
    `converter_lite` on PATH; where there is none and `install` allows it, msedge's own copy is installed after saying so.

    `explicit` and MSEDGE_LITE name an interpreter that has `mindspore_lite` (or its environment's folder), a folder with
    `converter_lite`, or a folder with the unpacked libraries of the 2.0.0 wheel. What they name must work: ToolMissing or
    ToolFailed otherwise. Other places that do not work are passed over, with a word to `say`.
    """
    tell = say or (lambda text: None)
    for named, by in ((explicit, "--lite"), (os.environ.get(VARIABLE), VARIABLE)):
        if named:
            return _from_path(Path(named).expanduser(), by, install, tell)
    broken = []
    for look in (_this_interpreter, _own_copy, _on_path):
        try:
            if found := look(install, tell):
                return found
        except ToolError as e:
            tell(f"passed over: {e.message}")
            broken.append(e.message)
    if not install:
        why = "; ".join(broken) or f"looked at {searched_places()}"
        raise ToolMissing(f"no working MindSpore Lite toolchain: {why}", "run msedge lite install")
    return _install(tell)


def searched_places() -> str:
    """Where `find_toolchain` looks, in words."""
    return f"--lite, {VARIABLE}, this Python's mindspore_lite, {installer.copy_folder()}, converter_lite on PATH"


def _install(tell: Say) -> Toolchain:
    size = this_wheel().size >> 20
    tell(f"no MindSpore Lite toolchain was found: fetching version {VERSION} ({size} MB) into {installer.copy_folder()}")
    return _native(installer.install())


def _this_interpreter(install: bool, tell: Say) -> Toolchain | None:
    spec = importlib.util.find_spec("mindspore_lite")
    return _python(Path(sys.executable), Path(spec.origin), install, tell) if spec and spec.origin else None


def _own_copy(install: bool, tell: Say) -> Toolchain | None:
    folder = installer.copy_folder()
    return _native(folder) if (folder / installer.RECORD).is_file() else None


def _on_path(install: bool, tell: Say) -> Toolchain | None:
    program = shutil.which("converter_lite")
    return _folder(Path(program).parent, install, tell) if program else None


def _from_path(path: Path, by: str, install: bool, tell: Say) -> Toolchain:
    if not path.exists():
        raise ToolMissing(f"{by} names a toolchain that is missing: {path}")
    if path.is_file():
        return _interpreter(path, by, install, tell)
    if (path / installer.RECORD).is_file():
        return _native(path)
    if converter_program(path):
        return _folder(path, install, tell)
    if (path / "bin" / "python").exists():
        return _interpreter(path / "bin" / "python", by, install, tell)
    for libraries in (path, path / "lib", path / "mindspore_lite" / "lib"):
        if (libraries / CONVERTER_LIBRARY).is_file() and (libraries / RUNTIME_LIBRARY).is_file():
            return _libraries(path, libraries)
    raise ToolMissing(
        f"{by} names no MindSpore Lite toolchain: {path}",
        "give an interpreter that can import mindspore_lite, or a folder with converter_lite",
    )


def _interpreter(path: Path, by: str, install: bool, tell: Say) -> Toolchain:
    try:
        run = subprocess.run([str(path), "-c", _IDENTIFY], capture_output=True, text=True, timeout=60, check=False)
        origin = json.loads(run.stdout.strip().splitlines()[-1])
    except (OSError, subprocess.TimeoutExpired, ValueError, IndexError):
        raise ToolMissing(f"{by} names a file that is no working Python interpreter: {path}") from None
    if not origin:
        raise ToolMissing(f"{by} names an interpreter without mindspore_lite: {path}", "install mindspore-lite there")
    return _python(path, Path(origin), install, tell)


def _native(folder: Path) -> Toolchain:
    record = installer.read_copy(folder)
    if record is None:
        raise ToolMissing(f"msedge's copy of MindSpore Lite is missing: {folder}", "run msedge lite install")
    return WorkerToolchain(ToolchainInfo("native", folder, record["version"], record["abilities"]), folder / "lib")


def _libraries(folder: Path, libraries: Path) -> Toolchain:
    def ask() -> dict[str, Any]:
        trial = WorkerToolchain(ToolchainInfo("native", folder, VERSION, {"trace": True}), libraries)
        return {"version": VERSION, "abilities": probe(trial, can_run=True, can_trace=True, for_ascend=False)}

    answer = _remembered("native", [libraries / CONVERTER_LIBRARY, libraries / RUNTIME_LIBRARY], ask)
    return WorkerToolchain(ToolchainInfo("native", folder, answer["version"], answer["abilities"]), libraries)


def _python(interpreter: Path, origin: Path, install: bool, tell: Say) -> Toolchain:
    libraries = origin.parent / "lib"
    version_file = origin.parent / "version.py"

    def ask() -> dict[str, Any]:
        found = re.search(r"__version__\s*=\s*['\"]([^'\"]+)", version_file.read_text()) if version_file.is_file() else None
        version = found[1] if found else "unknown"
        trial = WorkerToolchain(ToolchainInfo("python", interpreter, version, {"trace": False}), libraries)
        return {"version": version, "abilities": probe(trial, can_run=None, can_trace=False, for_ascend=True)}

    answer = _remembered("python", [interpreter, origin, version_file], ask)
    info = ToolchainInfo("python", interpreter, answer["version"], answer["abilities"])
    return _with_runner(WorkerToolchain(info, libraries), install, tell)


def _folder(folder: Path, install: bool, tell: Say) -> Toolchain:
    program = converter_program(folder)

    def ask() -> dict[str, Any]:
        knows = "saveType" in run_converter_program(program, ["--help"], "converter_lite --help", 60.0, any_code=True)
        version = _folder_version(program)
        trial = FolderToolchain(ToolchainInfo("folder", folder, version, {}), knows)
        abilities = probe(trial, can_run=False, can_trace=False, for_ascend=True)
        return {"version": version, "abilities": abilities, "knows_save_type": knows}

    answer = _remembered("folder", [program], ask)
    info = ToolchainInfo("folder", folder, answer["version"], answer["abilities"])
    return _with_runner(FolderToolchain(info, answer["knows_save_type"]), install, tell)


def _with_runner(converter: Toolchain, install: bool, tell: Say) -> Toolchain:
    """`converter`, and msedge's own copy to run what it converts where it cannot."""
    info = converter.info
    if info.abilities["predict"]:
        return converter
    try:
        runner = _own_copy(install, tell) or (_install(tell) if install else None)
    except ToolError as e:
        tell(f"{info.location} can convert, but nothing here can run models: {e.message}")
        runner = None
    if runner is None:
        return converter
    abilities = {**info.abilities, "predict": runner.info.abilities["predict"], "trace": runner.info.abilities["trace"]}
    return PairedToolchain(replace(info, abilities=abilities), converter, runner)


def _folder_version(program: Path) -> str:
    """The version in the name of the unpacked official package; `converter_lite` itself does not tell it."""
    found = re.findall(r"mindspore-lite-(\d+\.\d+\.\d+\w*)", str(program.resolve()))
    return found[-1] if found else "unknown"


def _remembered(kind: str, files: list[Path], ask: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """The answer of an earlier probe of exactly these files (path, time, size), or a fresh one."""
    stats = [(str(p.absolute()), p.stat().st_mtime_ns, p.stat().st_size) for p in files if p.exists()]
    key = json.dumps([kind, platform.machine(), stats])
    store = cache_dir() / "lite" / "probes" / f"{hashlib.sha256(key.encode()).hexdigest()[:32]}.json"
    if store.is_file():
        try:
            known = read_json(store, "a remembered probe")
            if known["key"] == key and isinstance(known["answer"]["abilities"], dict):
                return known["answer"]
        except (ArtifactError, KeyError, TypeError):
            store.unlink(missing_ok=True)
    answer = ask()
    write_json(store, {"key": key, "answer": answer})
    return answer
