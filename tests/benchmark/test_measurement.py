"""bench on real models in their own processes."""

from __future__ import annotations

import importlib.util
import os
import platform
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from small_models import environment, pictures, small_onnx, spec

from msedge.benchmark import bench
from msedge.benchmark.contenders import Contender, make_contender
from msedge.benchmark.measurement import X86_INT8_NOTE, _measure
from msedge.errors import ArtifactError, ModelError, ToolFailed, UserError
from msedge.runtime import locate

KEYS = {"model", "runtime", "threads", "runs", "p50_ms", "p90_ms", "p99_ms", "mean_ms", "size_bytes", "peak_rss_mb"}
KEYS |= {"params", "macs", "ratio", "note"}
PARAMS = 8 * 3 * 9 + 8 + 16 * 8 * 9 + 16 + 16 * 3 + 3
MACS = 16 * 16 * 8 * 27 + 8 * 8 * 16 * 72 + 16 * 3
ONNX_RUNTIMES = ["onnxruntime", *(["openvino"] if importlib.util.find_spec("openvino") else [])]


@pytest.mark.lite
def test_every_model_runtime_and_thread_count_has_its_row(onnx_file, ms_file, toolchain):
    rows = bench([onnx_file, ms_file], threads=(1, 2), runs=12, warmup=2, lite=toolchain)
    expected = [(str(onnx_file), runtime, n) for runtime in ONNX_RUNTIMES for n in (1, 2)]
    expected += [(str(ms_file), "lite", 1), (str(ms_file), "lite", 2)]
    assert [(r["model"], r["runtime"], r["threads"]) for r in rows] == expected
    for row in rows:
        assert set(row) == KEYS
        assert row["runs"] == 12
        assert 0 < row["p50_ms"] <= row["p90_ms"] <= row["p99_ms"] < 1000
        assert 10 < row["peak_rss_mb"] < 10_000
        assert row["params"] == PARAMS
        assert row["macs"] == (None if row["runtime"] == "lite" else MACS)
        assert row["size_bytes"] == Path(row["model"]).stat().st_size
        assert row["note"] is None
        first = next(r for r in rows if r["threads"] == row["threads"])
        assert row["ratio"] == pytest.approx(row["p50_ms"] / first["p50_ms"], abs=1e-3)


@pytest.mark.slow
def test_a_checkpoint_is_timed_and_counted_as_published_tables_do(checkpoint, tmp_path, monkeypatch):
    monkeypatch.setenv("MSEDGE_CACHE", str(tmp_path))
    (row,) = bench([checkpoint], runs=2, warmup=1)
    assert row["runtime"] == "mindspore"
    assert row["params"] == 951_024 + 2 * 321  # timm: 1,272,024 with 1000 classes
    assert 20e6 < row["macs"] < 30e6
    stored = list((tmp_path / "counts").iterdir())
    assert len(stored) == 1
    began = time.perf_counter()
    from msedge.benchmark.counts import count_model

    assert count_model(locate(checkpoint)) == (row["params"], row["macs"])
    assert time.perf_counter() - began < 1


class Recorded(Contender):
    """Remembers when it ran; no model behind it."""

    journal: list[tuple[str, int]]

    def __init__(self, name, journal):
        super().__init__(name, None, "none", 1)
        self.journal = journal

    def run(self, times):
        self.journal.append((self.model, times))
        return [1000.0, *range(times - 1)] if times else []

    def deviation(self, golden):
        return {}

    @property
    def pid(self):
        return 0

    def facts(self):
        return {}

    def close(self):
        pass


def test_models_take_turns_and_the_first_run_of_a_turn_does_not_count():
    from msedge.progress import no_progress

    journal = []
    samples = _measure([Recorded("a", journal), Recorded("b", journal)], 25, 3, no_progress)
    assert journal == [("a", 3), ("b", 3), *[("a", 11), ("b", 11)] * 2, ("a", 6), ("b", 6)]
    assert [len(s) for s in samples] == [25, 25]
    assert max(samples[0]) < 1000


@pytest.mark.lite
def test_int8_on_x86_says_what_its_time_is_worth(toolchain, tmp_path):
    from msedge.converter import convert

    images = pictures(tmp_path / "images", (), 12)
    report = convert(
        small_onnx(tmp_path / "m.onnx", described=spec()),
        tmp_path / "out",
        quant="ptq",
        calib=images,
        calib_images=8,
        lite=toolchain,
    )
    (row,) = bench([report.out], runs=2, warmup=0, lite=toolchain)
    on_x86 = platform.machine().lower() in ("x86_64", "amd64")
    assert row["note"] == (X86_INT8_NOTE if on_x86 else None)


def test_an_image_can_be_fed(onnx_file, tmp_path):
    picture = next(pictures(tmp_path, (), 1).glob("*.jpg"))
    assert len(bench([onnx_file], runs=2, runtimes=["onnxruntime"], image=picture)) == 1
    with pytest.raises(Exception, match="cannot be read"):
        bench([onnx_file], runs=2, runtimes=["onnxruntime"], image=tmp_path / "nothere.jpg")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"runs": 0}, "0 runs"),
        ({"warmup": -1}, "-1 to warm up"),
        ({"threads": (0,)}, "must be 1 or more"),
        ({"threads": ()}, "must be 1 or more"),
        ({"runtimes": ["tensorrt"]}, "there is no runtime 'tensorrt'"),
        ({"runtimes": ["lite"]}, "lite cannot run .*it takes onnxruntime or openvino"),
    ],
)
def test_impossible_orders(onnx_file, options, message):
    with pytest.raises(UserError, match=message):
        bench([onnx_file], **options)


def test_errors_of_the_process_arrive_as_what_they_are(tmp_path):
    cut = tmp_path / "cut.onnx"
    cut.write_bytes(small_onnx(tmp_path / "m.onnx").read_bytes()[:2000])
    with pytest.raises(ArtifactError, match=r"cut\.onnx"):
        bench([cut], runs=1)
    with pytest.raises(ModelError, match=r"model\.json says 48"):
        spec(48).save(tmp_path)
        picture = next(pictures(tmp_path, (), 1).glob("*.jpg"))
        bench([tmp_path / "m.onnx"], runs=1, image=picture)
    with pytest.raises(UserError, match="no model"):
        bench([])


def test_a_process_that_dies_is_named(onnx_file):
    with make_contender("small.onnx", locate(onnx_file), "onnxruntime", 1) as contender:
        assert len(contender.run(2)) == 2
        os.kill(contender._process.pid, signal.SIGKILL)
        with pytest.raises(ToolFailed, match=r"onnxruntime with small\.onnx was killed by SIGKILL"):
            contender.run(1)


def test_ctrl_c_ends_all_processes(onnx_file):
    command = [sys.executable, "-m", "msedge", "bench", str(onnx_file), "--runs", "100000000"]
    process = subprocess.Popen(
        command, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    tasks = Path(f"/proc/{process.pid}/task/{process.pid}/children")
    deadline = time.monotonic() + 60
    workers = []
    while len(workers) < len(ONNX_RUNTIMES) and time.monotonic() < deadline and process.poll() is None:
        time.sleep(0.05)
        workers = tasks.read_text().split() if tasks.exists() else []
    time.sleep(1)
    os.killpg(process.pid, signal.SIGINT)
    out, errors = process.communicate(timeout=30)
    assert (process.returncode, out, errors.strip()) == (130, "", "msedge: stopped")
    assert workers
    assert not any(Path(f"/proc/{pid}").exists() for pid in workers)
