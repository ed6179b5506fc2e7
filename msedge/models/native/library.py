"""The compiled library: built once per processor and source from the C files beside this one, kept in the cache folder.

It is an extra. Where there is no C compiler, or MSEDGE_NATIVE is 0, `library` gives None and MindSpore's operators do
the work, with the same results to float32 accuracy.
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
import hashlib
import os
import platform
import shutil
import subprocess
from pathlib import Path

from msedge.artifact import atomic_path, cache_dir, make_dir
from msedge.errors import MsedgeError

_SOURCES = Path(__file__).parent
_FLAGS = ("-O3", "-fopenmp-simd", "-fno-math-errno", "-fno-trapping-math", "-fPIC", "-shared", "-pthread")
_TARGETS = (("-march=native", "-mprefer-vector-width=512"), ("-march=native",), ("-mcpu=native",), ())
_SECONDS = 120  # at most, for one attempt to compile


def compiler() -> str | None:
    """The C compiler: `CC`, or the first of cc, gcc and clang; None where there is none."""
    names = (os.environ.get("CC", ""), "cc", "gcc", "clang")
    return next((found for name in names if name and (found := shutil.which(name))), None)


def threads() -> int:
    """How many threads the operators use: OMP_NUM_THREADS, or the processors that this process may use."""
    wanted = os.environ.get("OMP_NUM_THREADS", "")
    if wanted.isdigit() and int(wanted):
        return int(wanted)
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@functools.cache
def library() -> Path | None:
    """The compiled library, loaded and with its threads started, or None where there is none to be had."""
    command = compiler()
    if os.environ.get("MSEDGE_NATIVE") == "0" or command is None or os.name != "posix":
        return None
    with contextlib.suppress(OSError, MsedgeError, subprocess.SubprocessError):
        path = _path(command)
        loaded = _loaded(path)
        if loaded is None:  # not built yet, or damaged
            _build(command, path)
            loaded = ctypes.CDLL(str(path))
        loaded.set_threads(threads())
        return path
    return None


def _loaded(path: Path) -> ctypes.CDLL | None:
    try:
        return ctypes.CDLL(str(path))
    except OSError:
        return None


def _sources() -> list[Path]:
    return sorted(_SOURCES.glob("*.[ch]"))


def _path(command: str) -> Path:
    """Where the library for this source, compiler and processor is kept."""
    digest = hashlib.sha256(_processor().encode())
    for part in (command, *_FLAGS, *(source.read_text() for source in _sources())):
        digest.update(part.encode())
    return cache_dir() / "native" / f"{digest.hexdigest()[:20]}.so"


def _build(command: str, path: Path) -> None:
    """Compile for this very processor, or for its family where the compiler cannot. Raises SubprocessError."""
    sources = [str(source) for source in _sources() if source.suffix == ".c"]
    make_dir(path.parent)
    with atomic_path(path) as out:
        for i, target in enumerate(_TARGETS):
            line = [command, *_FLAGS, *target, *sources, "-lm", "-o", str(out)]
            try:
                subprocess.run(line, check=True, capture_output=True, timeout=_SECONDS)
                return
            except subprocess.CalledProcessError:
                if i == len(_TARGETS) - 1:
                    raise


def _processor() -> str:
    """What `-march=native` depends on."""
    with contextlib.suppress(OSError):
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return "\n".join(sorted({line for line in lines if line.startswith(("model name", "flags", "Features"))}))
    return platform.platform() + platform.processor()
