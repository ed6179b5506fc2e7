"""Finding a MindSpore Lite toolchain."""

from __future__ import annotations

import platform
from collections.abc import Callable
from pathlib import Path

from msedge.artifact import cache_dir
from msedge.errors import ToolMissing
from msedge.lite.kinds import WorkerToolchain
from msedge.lite.protocol import Toolchain, ToolchainInfo


def find_toolchain(
    explicit: str | None = None, *, install: bool = True, say: Callable[[str], None] | None = None
) -> Toolchain:
    libraries = cache_dir() / "lite" / f"2.0.0-{platform.machine()}" / "mindspore_lite" / "lib"
    if not libraries.is_dir():
        raise ToolMissing("no MindSpore Lite toolchain was found", "run msedge lite install")
    abilities = {
        "convert": True,
        "predict": True,
        "trace": True,
        "full_quant": True,
        "mindir_version": 1,
        "ascend": False,
    }
    return WorkerToolchain(ToolchainInfo("native", Path(libraries), "2.0.0", abilities))
