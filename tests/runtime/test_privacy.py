"""Nothing that msedge loads writes files of its own or calls home."""

from __future__ import annotations

import subprocess
import sys

from small_models import environment


def test_onnxruntime_leaves_no_session_file(onnx_file, tmp_path):
    program = f"from msedge.runtime import open_runner; open_runner({str(onnx_file)!r}).close()"
    env = environment(TMPDIR=str(tmp_path), HOME=str(tmp_path), XDG_CACHE_HOME=str(tmp_path))
    env.pop("ORT_DISABLE_TELEMETRY", None)
    subprocess.run([sys.executable, "-c", program], env=env, check=True)
    assert list(tmp_path.iterdir()) == []
