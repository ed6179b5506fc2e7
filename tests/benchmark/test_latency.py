"""benchmarks/latency.py with real runtimes, at a size that takes seconds."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys

import pytest
from small_models import ROOT, environment

SCRIPT = ROOT / "benchmarks" / "latency.py"


@pytest.mark.slow
@pytest.mark.lite
def test_lite_and_a_peer_and_mindspores_own_export_at_64_pixels(tmp_path):
    arguments = ["--models", "mobilevit_xxs:64", "--threads", "1", "--runs", "3", "--runtimes", "lite,own-export,onnxruntime"]
    command = [sys.executable, str(SCRIPT), *arguments, "--work", str(tmp_path / "work"), "--out", str(tmp_path)]
    done = subprocess.run(command, env=environment(), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    (model,) = json.loads((tmp_path / "latency.json").read_text())["models"].values()
    rows = {row["runtime"]: row for row in model["rows"]}
    assert {name: row["status"] for name, row in rows.items()} == {
        "lite": "ok",
        "own-export": "wrong numbers",  # LayerNorm, docs/export.md
        "own-export-repaired": "ok",
        "onnxruntime": "ok",
    }
    for row in rows.values():
        if row["status"] == "ok":
            assert row["max_abs"] < 1e-4
            assert row["runs"] == 3
            assert 0 < row["p10_ms"] <= row["p50_ms"] <= row["p90_ms"] < 1000
            assert 0 < row["cpu_ms"] < 1000
    assert rows["lite"]["nodes"] < rows["own-export-repaired"]["nodes"]
    ratio = rows["lite"]["p50_ms"] / rows["onnxruntime"]["p50_ms"]
    assert f"| {ratio:.2f} |" in (tmp_path / "latency.md").read_text()


def test_the_table_takes_the_best_peer_that_is_right_and_says_what_is_not():
    location = importlib.util.spec_from_file_location("latency_table", ROOT / "benchmarks" / "latency_table.py")
    table = importlib.util.module_from_spec(location)
    location.loader.exec_module(table)
    base = {"model": "m", "image_size": 32, "threads": 1, "nodes": None, "status": "ok", "waiting_cpu": 0.0}
    rows = [
        base | {"runtime": "lite", "p50_ms": 4.0, "p10_ms": 3.0, "nodes": 7},
        base | {"runtime": "lite-tanh", "p50_ms": 3.0, "p10_ms": 3.0},
        base | {"runtime": "onnxruntime", "p50_ms": 5.0, "p10_ms": 4.0},
        base | {"runtime": "openvino", "p50_ms": 8.0, "p10_ms": 8.0, "waiting_cpu": 0.5},
        base | {"runtime": "mnn", "status": "wrong numbers"},
        base | {"runtime": "ncnn", "status": "does not load: no Gather"},
        base | {"runtime": "own-export-repaired", "p50_ms": 6.0, "p10_ms": 6.0},
    ]
    conditions = {
        "date": "d",
        "commit": "c",
        "runs": 1,
        "block": 1,
        "rest_seconds": 0,
        "weights": "w",
        "cpu": "x",
        "versions": {},
    }
    text = table.markdown({"conditions": conditions, "models": {"m": {"rows": rows, "other_load": 0.7}}})
    line = (
        "| m 32 | 1 | 4.00 | 3.00 | 5.00 | 8.00 | wrong numbers | does not load | 6.00 | 0.80 | 0.75 | 0.60 | 0.75 | 1.50 | 7 |"
    )
    assert line in text.splitlines()
    assert "- m, ncnn: does not load: no Gather" in text
    assert "- m, openvino, 1 threads: burns 0.50 cores waiting" in text
    assert "other processes used 0.70 cores meanwhile" in text
