"""The one place that loads MindSpore: settings that must come before the import, and its noise at exit."""

from __future__ import annotations

import contextlib
import os
import sys
import warnings
from collections.abc import Iterator
from types import ModuleType

_noise_filtered = False


def _cpu_has_avx512() -> bool:
    try:
        with open("/proc/cpuinfo") as f:  # noqa: PTH123 (a one-line read of a kernel file)
            return any("avx512f" in line for line in f if line.startswith("flags"))
    except OSError:
        return False


def _drop_cell_destructor_noise() -> None:
    """MindSpore's Cell.__del__ fails while the interpreter shuts down; drop those reports and no others."""
    global _noise_filtered
    if _noise_filtered:
        return
    _noise_filtered = True
    inner = sys.unraisablehook

    def hook(report, /, *, inner=inner, finalizing=sys.is_finalizing):
        name = getattr(report.object, "__qualname__", "")
        if name == "Cell.__del__" and finalizing():
            return
        inner(report)

    sys.unraisablehook = hook


def load_mindspore() -> ModuleType:
    """Import MindSpore ready for msedge's use and return it.

    On CPUs with AVX-512 the oneDNN inside MindSpore 2.10 falls back to a reference loop for plain convolutions
    (100 times slower); capped at AVX2 it uses its JIT kernels. A value set by the user is left alone.
    """
    if "mindspore" not in sys.modules and _cpu_has_avx512():
        os.environ.setdefault("ONEDNN_MAX_CPU_ISA", "AVX2")
    os.environ.setdefault("GLOG_v", "3")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import mindspore
    _drop_cell_destructor_noise()
    return mindspore


@contextlib.contextmanager
def graph_mode() -> Iterator[None]:
    """Compile every cell called inside; the caller's mode comes back afterwards.

    Not `ms.jit`: a function compiled by it keeps the parameter values of its first call, and does not see what
    `Parameter.set_data` brings later.
    """
    ms = load_mindspore()
    before = ms.get_context("mode")
    ms.set_context(mode=ms.GRAPH_MODE)
    try:
        yield
    finally:
        ms.set_context(mode=before)
