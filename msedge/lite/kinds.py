"""The three kinds of toolchain behind `protocol.Toolchain`."""

from __future__ import annotations

import contextlib
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from msedge.artifact import atomic_path
from msedge.errors import ArtifactError, ToolError, ToolFailed, ToolMissing
from msedge.lite.client import Worker
from msedge.lite.process import Process, describe_exit
from msedge.lite.protocol import ConvertOutcome, ConvertRequest, Session, Toolchain, ToolchainInfo
from msedge.lite.session import WorkerSession

FMK = ("ONNX", "MINDIR")
_MS_IDENTIFIER = b"MSL2"


def library_environment(*folders: Path) -> dict[str, str]:
    """This process's environment with `folders` first on the libraries' search path."""
    search = [str(f) for f in folders] + [p for p in [os.environ.get("LD_LIBRARY_PATH")] if p]
    return {**os.environ, "LD_LIBRARY_PATH": os.pathsep.join(search)}


@contextlib.contextmanager
def conversion_files(request: ConvertRequest) -> Iterator[tuple[Path, Path | None]]:
    """Check a request, yield (the temporary `.ms` to be written, the config file or None), then finish the output.

    Raises ArtifactError where the source is missing or the output cannot be written, ToolFailed where what was written
    is no `.ms`.
    """
    if request.fmk not in FMK:
        raise ArtifactError(f"unknown source format {request.fmk!r}", f"use one of {', '.join(FMK)}")
    if request.output.suffix != ".ms":
        raise ArtifactError(f"the converter writes files that end in .ms, not {request.output.name}")
    if not request.source.is_file():
        raise ArtifactError(f"the model to convert is missing: {request.source}")
    with tempfile.TemporaryDirectory(prefix="msedge-convert-") as folder, atomic_path(request.output) as temporary:
        config = None
        if request.config_text:
            config = Path(folder) / "converter.cfg"
            config.write_text(request.config_text)
        try:
            yield temporary.resolve(), config
        except ToolError as e:
            _explain_full_disk(request, e)
            if isinstance(e, ToolFailed) and not e.hint:
                e.hint = f"check that {request.source.name} is a whole {request.fmk} model"
            raise
        if not temporary.is_file():
            raise ToolFailed(f"the converter reported success and wrote no {request.output.name}")
        temporary.chmod(0o644)
        with temporary.open("rb") as f:
            if f.read(8)[4:] != _MS_IDENTIFIER:
                raise ToolFailed(f"the converter reported success, but what it wrote as {request.output.name} is no .ms")


def _explain_full_disk(request: ConvertRequest, error: ToolError) -> None:
    free = shutil.disk_usage(request.output.parent).free
    if "Write model file failed" in error.log and free < request.source.stat().st_size:
        raise ArtifactError(
            f"cannot write {request.output}: no space left on the disk", "free some space or choose another --out"
        ) from error


class WorkerToolchain:
    """Kinds "native" (the wheel's libraries, driven through ctypes) and "python" (an interpreter with `mindspore_lite`).

    `libraries` is the folder of the shared libraries.
    """

    def __init__(self, info: ToolchainInfo, libraries: Path):
        self.info = info
        self._libraries = libraries
        if info.kind == "native":
            self._command, self._backend = [sys.executable, "-I", "-S"], "abi"
        else:
            self._command, self._backend = [str(info.location)], "pyworker"

    def _environment(self, full_quant: bool) -> dict[str, str]:
        environment = library_environment(self._libraries)
        if self.info.kind == "python" and full_quant:
            # the runtime library's Model shadows the converter's own, with which FULL_QUANT calibrates
            environment["LD_PRELOAD"] = str(self._libraries / "libmindspore_converter.so")
        return environment

    def convert(self, request: ConvertRequest) -> ConvertOutcome:
        with conversion_files(request) as (output, config):
            what = f"the MindSpore Lite converter, given {request.source},"
            environment = self._environment("FULL_QUANT" in request.config_text)
            worker = Worker(self._command, self._backend, "convert", self._libraries, what, environment)
            try:
                answer = worker.call(
                    "convert",
                    request.timeout,
                    source=str(request.source.resolve()),
                    output_stem=str(output.with_suffix("")),
                    fmk=request.fmk,
                    config_path=str(config or ""),
                    fp16_weights=request.fp16_weights,
                )
                return ConvertOutcome(worker.log(), answer["seconds"], worker.start_seconds)
            finally:
                worker.close()

    def load(self, model: Path, threads: int = 1) -> WorkerSession:
        what = f"the MindSpore Lite runtime, given {model},"
        return WorkerSession(
            lambda: Worker(self._command, self._backend, "run", self._libraries, what, self._environment(False)),
            Path(model),
            threads,
            bool(self.info.abilities["trace"]),
        )


def converter_program(folder: Path) -> Path | None:
    """`converter_lite` in `folder`, or where the official package (unpacked at `folder`) keeps it."""
    for place in (folder, folder / "tools" / "converter" / "converter"):
        if (place / "converter_lite").is_file():
            return place / "converter_lite"
    return None


class FolderToolchain:
    """Kind "folder": the official `converter_lite` program, which cannot run models.

    `knows_save_type` says whether the program has `--saveType` (from Lite 1.9 or so on; before, it wrote only `.ms`).
    """

    def __init__(self, info: ToolchainInfo, knows_save_type: bool):
        self.info = info
        self._program = converter_program(info.location) or info.location / "converter_lite"
        self._save_type = ["--saveType=MINDIR_LITE"] if knows_save_type else []

    def convert(self, request: ConvertRequest) -> ConvertOutcome:
        with conversion_files(request) as (output, config):
            arguments = [
                f"--fmk={request.fmk}",
                f"--modelFile={request.source.resolve()}",
                f"--outputFile={output.with_suffix('')}",
                *self._save_type,
                *([f"--configFile={config}"] if config else []),
                *(["--fp16=on"] if request.fp16_weights else []),
            ]
            started = time.perf_counter()
            log = run_converter_program(self._program, arguments, f"converter_lite, given {request.source},", request.timeout)
            return ConvertOutcome(log, time.perf_counter() - started, 0.0)

    def load(self, model: Path, threads: int = 1) -> Session:
        raise ToolMissing("converter_lite cannot run models", "run msedge lite install: msedge's own copy can")


class PairedToolchain:
    """A toolchain that converts and another that runs what it converted; `info` is the converter's."""

    def __init__(self, info: ToolchainInfo, converter: Toolchain, runner: Toolchain):
        self.info = info
        self._converter = converter
        self._runner = runner

    def convert(self, request: ConvertRequest) -> ConvertOutcome:
        return self._converter.convert(request)

    def load(self, model: Path, threads: int = 1) -> Session:
        return self._runner.load(model, threads)


def run_converter_program(program: Path, arguments: list[str], what: str, timeout: float, any_code: bool = False) -> str:
    """Run `converter_lite` with its libraries; returns all that it printed.

    Raises ToolMissing, ToolTimeout, and ToolFailed where it ends with another code than 0 (unless `any_code`).
    """
    folder = program.parent
    environment = library_environment(folder.parent / "lib", folder / "lib", folder)
    process = Process([str(program), *arguments], what, environment)
    try:
        code = process.wait(timeout)
        if code and not any_code:
            raise process.failure(describe_exit(code))
        return process.log()
    finally:
        process.close()
