"""The environment of the processes that models are timed in."""

from __future__ import annotations

import os
from pathlib import Path

import msedge


def worker_environment(threads: int = 1) -> dict[str, str]:
    """This environment with `threads` for OpenMP, and msedge importable wherever it was imported from."""
    here = str(Path(msedge.__file__).resolve().parents[1])
    search = os.environ.get("PYTHONPATH")
    path = f"{here}{os.pathsep}{search}" if search else here
    return {**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": str(threads)}
