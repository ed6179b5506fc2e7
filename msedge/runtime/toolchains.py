"""All Lite toolchains of this machine, not only the first."""

from __future__ import annotations

import importlib.util
import os
import shutil
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from msedge.errors import ToolError
from msedge.lite import find_toolchain
from msedge.lite.install import RECORD, copy_folder
from msedge.lite.protocol import ToolchainInfo


@dataclass(frozen=True)
class Found:
    """A place where a toolchain is, with what it can do, or with why it does not work."""

    place: str
    info: ToolchainInfo | None
    problem: str = ""


def all_toolchains() -> list[Found]:
    """Every toolchain in the order in which msedge looks for them; installs nothing and raises nothing."""
    found = []
    for place, where in _places():
        try:
            found.append(Found(place, find_toolchain(where, install=False).info))
        except ToolError as e:
            found.append(Found(place, None, str(e)))
    return found


def _places() -> Iterator[tuple[str, str]]:
    if given := os.environ.get("MSEDGE_LITE"):
        yield "MSEDGE_LITE", given
    if importlib.util.find_spec("mindspore_lite"):
        yield "this Python", sys.executable
    if (copy_folder() / RECORD).is_file():
        yield "msedge's own copy", str(copy_folder())
    if program := shutil.which("converter_lite"):
        yield "PATH", str(Path(program).parent)
