"""From a path to a runner."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from msedge.errors import ArtifactError, UserError
from msedge.recipe import suggest
from msedge.runtime.base import Runner
from msedge.runtime.locate import Located, locate
from msedge.runtime.spec import spec_of

if TYPE_CHECKING:
    from msedge.lite.protocol import Toolchain

RUNTIMES = {"checkpoint": ("mindspore",), "onnx": ("onnxruntime", "openvino"), "lite": ("lite",)}


def open_runner(
    path: Path | str,
    *,
    threads: int = 1,
    runtime: str | None = None,
    lite: str | Path | Toolchain | None = None,
    say: Callable[[str], None] | None = None,
) -> Runner:
    """Load a model in the runtime that its kind is for.

    `path` is a checkpoint folder or its `.ckpt`, an ONNX file, a `.ms`, or an export or convert folder. `runtime`
    chooses where there is a choice (`openvino` for ONNX). `lite` is a toolchain or where to find one. Raises
    ArtifactError (missing, damaged, unknown), ModelError, UserError (a runtime that cannot take the file), ToolMissing.
    """
    located = locate(path)
    check_runtime(located, runtime)
    if threads < 1:
        raise UserError(f"threads is {threads}", "1 or more")
    if located.kind == "checkpoint":
        from msedge.runtime.mindspore_runner import MindSporeRunner

        return MindSporeRunner(located.file, threads)
    if located.kind == "onnx":
        from msedge.runtime.onnx_runner import OnnxRunner, OpenVinoRunner

        cls = OpenVinoRunner if runtime == "openvino" else OnnxRunner
        return cls(located.file, spec_of(located), threads)
    from msedge.runtime.lite_runner import LiteRunner, toolchain_for

    return LiteRunner(located.file, spec_of(located), threads, toolchain_for(lite, say))


def check_runtime(located: Located, runtime: str | None) -> None:
    """Raise UserError or ArtifactError where no runtime, or not `runtime`, takes the file."""
    if located.kind == "mindir":
        raise ArtifactError(f"{located.file} is a MindIR, which msedge converts but does not run", "run the ONNX file")
    able = RUNTIMES[located.kind]
    if runtime is None or runtime in able:
        return
    known = [name for names in RUNTIMES.values() for name in names]
    if runtime not in known:
        raise UserError(f"there is no runtime '{runtime}'", suggest(runtime, known))
    raise UserError(f"{runtime} does not run {located.file}", f"it takes {' or '.join(able)}")
