"""A cell to MindIR, through MindSpore's own export."""

from __future__ import annotations

import contextlib
import os
import shutil
import sys
import tempfile
import warnings
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from msedge.artifact import atomic_path
from msedge.errors import ExportError
from msedge.mindspore_setup import load_mindspore

ms = load_mindspore()


@contextlib.contextmanager
def inference(cell: ms.nn.Cell) -> Iterator[None]:
    """The cell and all inside it with training switched off; their own switches come back afterwards, and the names of
    parameters, which MindSpore changes where a `construct` takes a slice of a CellList."""
    switches = [(c, c.training) for _, c in cell.cells_and_names()]
    names = [(p, p.name) for p in cell.get_parameters()]
    cell.set_train(False)
    try:
        yield
    finally:
        for c, training in switches:
            c.training = training
        for p, name in names:
            if p.name != name:
                p.name = name


def cell_to_mindir(cell: ms.nn.Cell, input_shape: tuple[int, ...], path: Path) -> None:
    """Compile `cell` for a float32 input of `input_shape` (N, C, H, W) and write it as `path`, atomically.

    Raises ExportError where MindSpore cannot compile it, ArtifactError where the disk refuses. Compiling takes seconds:
    3 to 10 for the architectures of msedge.
    """
    example = ms.Tensor(np.zeros(input_shape, np.float32))
    with tempfile.TemporaryDirectory(prefix="msedge-export-") as folder, _quiet(folder):
        stem = Path(folder) / "model"
        try:
            with inference(cell):
                ms.export(cell, example, file_name=str(stem), file_format="MINDIR")
        except Exception as e:  # the compiler raises whatever class the failing line has
            raise ExportError(
                f"MindSpore cannot compile {type(cell).__name__} for input {list(input_shape)}: {first_line(e)}",
                "check that it runs in graph mode at this image size; --debug shows the compiler's report",
            ) from e
        made = stem.with_suffix(".mindir")
        if not made.is_file():
            raise ExportError(f"{type(cell).__name__} is larger than 1 GB", "MindIR splits such models: use a smaller one")
        with atomic_path(Path(path)) as temporary:
            shutil.copyfile(made, temporary)


def first_line(error: BaseException) -> str:
    """The first line of an error's text that says something, without rules of dashes."""
    lines = (line.strip() for line in str(error).splitlines())
    return next((line for line in lines if line.strip("-#* ")), type(error).__name__)


@contextlib.contextmanager
def _quiet(folder: str) -> Iterator[None]:
    """MindSpore's reports of failed compilations go to `folder`, not to the working directory, and what its C++ side prints
    to a file there: the exception says the same. Its warnings are its own."""
    before = os.environ.get("MS_OM_PATH")
    os.environ["MS_OM_PATH"] = folder
    try:
        with warnings.catch_warnings(), _stderr_to(Path(folder) / "stderr.txt"):
            warnings.simplefilter("ignore")
            yield
    finally:
        if before is None:
            os.environ.pop("MS_OM_PATH")
        else:
            os.environ["MS_OM_PATH"] = before


@contextlib.contextmanager
def _stderr_to(file: Path) -> Iterator[None]:
    """Redirect the process's error stream, below Python; with MSEDGE_DEBUG it stays."""
    if os.environ.get("MSEDGE_DEBUG"):
        yield
        return
    sys.stderr.flush()
    kept = os.dup(2)
    try:
        with file.open("wb") as f:
            os.dup2(f.fileno(), 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
