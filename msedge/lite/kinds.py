"""The three kinds of toolchain behind `protocol.Toolchain`."""

from __future__ import annotations

import contextlib
import os
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from msedge.artifact import atomic_path
from msedge.errors import ArtifactError, ToolFailed
from msedge.lite.client import Worker
from msedge.lite.protocol import ConvertOutcome, ConvertRequest, ToolchainInfo
from msedge.lite.session import WorkerSession

FMK = ("ONNX", "MINDIR")
_MS_IDENTIFIER = b"MSL2"


def library_environment(folder: Path) -> dict[str, str]:
    """This process's environment with `folder` first on the libraries' search path."""
    search = os.environ.get("LD_LIBRARY_PATH")
    return {**os.environ, "LD_LIBRARY_PATH": f"{folder}{os.pathsep}{search}" if search else str(folder)}


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
        yield temporary.resolve(), config
        if not temporary.is_file():
            raise ToolFailed(f"the converter reported success and wrote no {request.output.name}")
        temporary.chmod(0o644)
        with temporary.open("rb") as f:
            if f.read(8)[4:] != _MS_IDENTIFIER:
                raise ToolFailed(
                    f"the converter reported success, but what it wrote as {request.output.name} is no .ms"
                )


class WorkerToolchain:
    """Kinds "native" (msedge's copy of the wheel, driven through ctypes) and "python" (an interpreter with
    `mindspore_lite`)."""

    def __init__(self, info: ToolchainInfo):
        self.info = info
        if info.kind == "native":
            self._command = [sys.executable, "-I", "-S"]
            self._backend, self._libraries = "abi", info.location
        else:
            self._command = [str(info.location)]
            self._backend, self._libraries = "pyworker", None

    def _start(self, role: str, what: str) -> Worker:
        folder = self._libraries or Path()
        environment = library_environment(folder) if self._libraries else dict(os.environ)
        return Worker(self._command, self._backend, role, folder, what, environment)

    def convert(self, request: ConvertRequest) -> ConvertOutcome:
        with conversion_files(request) as (output, config):
            worker = self._start("convert", "the MindSpore Lite converter")
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
        return WorkerSession(lambda: self._start("run", "the MindSpore Lite runtime"), Path(model), threads, True)
