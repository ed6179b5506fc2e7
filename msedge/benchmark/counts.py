"""Parameters and multiply-adds of a model, counted the same way whatever file it is in."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
from typing import TYPE_CHECKING

from msedge.artifact import cache_dir, read_json, sha256_bytes, write_json
from msedge.benchmark.environment import worker_environment
from msedge.errors import ArtifactError
from msedge.runtime import Located
from msedge.runtime.spec import spec_of

if TYPE_CHECKING:
    from msedge.models import ModelSpec

Counts = tuple[int | None, int | None]
_TIMEOUT = 300.0
_PROGRAM = """
import json, os, sys
from msedge.models import ModelSpec, build, count_macs, count_params
cell = build(ModelSpec.from_dict(json.load(sys.stdin)))
sys.stdout.write("\\n" + json.dumps([count_params(cell), count_macs(cell)]) + "\\n")
sys.stdout.flush()
os._exit(0)
"""


def count_model(located: Located) -> Counts:
    """(params, macs) of a located model.

    From its spec where it has one: learned numbers, and multiply-adds as timm's tables have them (counted once in a
    process of its own, then remembered in the user's cache). Else from the file itself: the constants' elements, and
    for ONNX the multiply-adds of convolutions and matrix products; None where that is not known.
    """
    spec = spec_of(located)
    if spec and (counts := _of_spec(spec)):
        return counts
    if located.kind == "onnx":
        from msedge.runtime import onnx_graph

        model = onnx_graph.load_graph(located.file)
        return onnx_graph.count_params(model), onnx_graph.count_macs(model)
    if located.kind == "lite":
        from msedge.lite.ms_file import read_ms, summary

        return summary(read_ms(located.file))["params"], None
    return None, None


def _of_spec(spec: ModelSpec) -> Counts | None:
    described = {key: value for key, value in spec.to_dict().items() if key not in ("classes", "preprocess")}
    key = sha256_bytes(json.dumps(described, sort_keys=True).encode())[:32]
    store = cache_dir() / "counts" / f"{key}.json"
    with contextlib.suppress(ArtifactError, KeyError, TypeError):
        known = read_json(store, "a remembered count")
        return int(known["params"]), int(known["macs"])
    counts = _count(spec)
    if counts:
        with contextlib.suppress(ArtifactError, OSError):  # a full or read-only cache is no reason not to answer
            write_json(store, {"model": described, "params": counts[0], "macs": counts[1]})
    return counts


def _count(spec: ModelSpec) -> Counts | None:
    try:
        run = subprocess.run(
            [sys.executable, "-c", _PROGRAM],
            input=json.dumps(spec.to_dict()),
            capture_output=True,
            text=True,
            timeout=_TIMEOUT,
            env=worker_environment(),
            check=True,
        )
        params, macs = json.loads(run.stdout.strip().splitlines()[-1])
    except (subprocess.SubprocessError, OSError, ValueError, IndexError):
        return None
    return int(params), int(macs)
