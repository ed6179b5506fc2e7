"""How the compiled library is built, found again, and done without."""

from __future__ import annotations

import ctypes
import os
import subprocess
import sys

import numpy as np
import pytest

from msedge.models.native import library as module

needs_compiler = pytest.mark.skipif(module.compiler() is None, reason="no C compiler")


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """An empty cache folder and a library that is looked for anew."""
    monkeypatch.setenv("MSEDGE_CACHE", str(tmp_path))
    monkeypatch.delenv("MSEDGE_NATIVE", raising=False)
    module.library.cache_clear()
    yield tmp_path
    module.library.cache_clear()


@needs_compiler
def test_is_built_once_and_found_again(cache):
    path = module.library()
    assert path.parent == cache / "native"
    built = path.stat().st_mtime_ns
    module.library.cache_clear()
    assert module.library() == path
    assert path.stat().st_mtime_ns == built
    assert list(path.parent.iterdir()) == [path]


@needs_compiler
def test_a_damaged_file_is_built_again(cache):
    path = module._path(module.compiler())
    path.parent.mkdir()
    path.write_bytes(b"\x7fELF damaged")
    assert module.library() == path
    assert path.stat().st_size > 10_000


def test_can_be_switched_off(cache, monkeypatch):
    monkeypatch.setenv("MSEDGE_NATIVE", "0")
    assert module.library() is None


def test_no_compiler_means_no_library(cache, monkeypatch):
    monkeypatch.setenv("PATH", str(cache))
    monkeypatch.delenv("CC", raising=False)
    assert module.compiler() is None
    assert module.library() is None


def test_a_compiler_that_fails_means_no_library(cache, monkeypatch):
    broken = cache / "cc"
    broken.write_text("#!/bin/sh\nexit 1\n")
    broken.chmod(0o755)
    monkeypatch.setenv("CC", str(broken))
    assert module.compiler() == str(broken)
    assert module.library() is None
    assert not list((cache / "native").iterdir())


def test_threads_follow_the_environment(monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    assert module.threads() == 3
    monkeypatch.setenv("OMP_NUM_THREADS", "all")
    assert 1 <= module.threads() <= os.cpu_count()


SUMS = """
import ctypes, sys
import numpy as np
library = ctypes.CDLL(sys.argv[1])
library.set_threads(int(sys.argv[2]))
rng = np.random.default_rng(0)
inputs = [rng.standard_normal(s).astype(np.float32) for s in ((1000, 33), (33,), (1000,), (1000,), (1000, 33))]
outputs = [np.zeros(s, np.float32) for s in ((1000, 33), (33,), (33,))]
arrays = inputs + outputs
data = (ctypes.c_void_p * len(arrays))(*(a.ctypes.data for a in arrays))
ranks = (ctypes.c_int * len(arrays))(*(a.ndim for a in arrays))
keep = [(ctypes.c_int64 * a.ndim)(*a.shape) for a in arrays]
shapes = (ctypes.POINTER(ctypes.c_int64) * len(arrays))(*keep)
assert library.layer_norm_gradient(len(arrays), data, ranks, shapes, None, None, None) == 0
sys.stdout.write("".join(a.tobytes().hex() for a in outputs))
"""


@needs_compiler
def test_results_do_not_depend_on_the_number_of_threads():
    path = module.library()
    results = {
        subprocess.run([sys.executable, "-c", SUMS, str(path), threads], capture_output=True, text=True, check=True).stdout
        for threads in ("1", "2", "5")
    }
    assert len(results) == 1
    assert len(results.pop()) == 8 * (1000 * 33 + 66)


@needs_compiler
def test_works_in_a_forked_child():
    library = ctypes.CDLL(str(module.library()))
    library.set_threads(2)
    x, y = np.linspace(-3, 3, 5000, dtype=np.float32), np.zeros(5000, np.float32)
    data = (ctypes.c_void_p * 2)(x.ctypes.data, y.ctypes.data)
    ranks, shape = (ctypes.c_int * 2)(1, 1), (ctypes.c_int64 * 1)(5000)
    shapes = (ctypes.POINTER(ctypes.c_int64) * 2)(shape, shape)

    def right() -> bool:
        library.silu(2, data, ranks, shapes, None, None, None)
        return bool(np.allclose(y, x / (1 + np.exp(-x)), atol=1e-6))

    assert right()
    child = os.fork()
    if child == 0:
        y[:] = 0
        os._exit(0 if right() else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
