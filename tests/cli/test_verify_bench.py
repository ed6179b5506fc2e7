"""msedge verify and msedge bench as a user calls them."""

from __future__ import annotations

import json

import pytest
from small_models import msedge, small_onnx, spec

pytestmark = pytest.mark.lite
CLASSES = ("cat", "dog", "fox")


def test_verify_answers_for_people(models, images):
    done = msedge("verify", "net.onnx", "net.ms", "--data", images, cwd=models)
    assert done.returncode == 0
    assert done.stderr == ""
    for words in ("A net.onnx", "B net.ms", "images", "24", "100.00 % (0 flipped)", "1.000000 mean"):
        assert words in done.stdout


def test_verify_json_is_all_of_stdout(models, images):
    done = msedge("verify", "net.onnx", "net.ms", "--data", images, "--limit", 6, "--json", cwd=models)
    found = json.loads(done.stdout)
    keys = {"n", "top1_a", "top1_b", "agreement", "flips", "cosine_mean", "cosine_min", "max_abs", "sqnr_db"}
    assert set(found) >= keys
    assert (found["n"], found["flips"], found["passed"]) == (6, 0, True)


@pytest.mark.parametrize("gate", [("--min-agreement", 1), ("--min-cosine", 0.9999), ("--max-drop", 0)])
def test_a_gate_that_does_not_hold_is_exit_1_with_the_answer_printed(models, images, tmp_path, gate):
    small_onnx(tmp_path / "b.onnx", seed=3, described=spec(classes=CLASSES))
    done = msedge("verify", "net.onnx", tmp_path / "b.onnx", "--data", images, "--json", *gate, cwd=models)
    held = msedge("verify", "net.onnx", "net.onnx", "--data", images, "--json", *gate, cwd=models)
    found = json.loads(done.stdout)
    worse = {"--max-drop": found["top1_a"] > found["top1_b"]}.get(gate[0], True)
    assert done.returncode == (1 if worse else 0)
    assert found["passed"] is not worse
    assert ("does not hold" in done.stderr) is worse
    assert held.returncode == 0


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (("nothere.ms", "net.ms", "--data", "."), "there is no model nothere.ms"),
        (("net.onnx", "net.ms", "--data", "nothere"), "the image folder nothere is missing"),
        (("net.onnx", "net.ms", "--data", "builtin:birds"), "there is no 'builtin:birds'"),
        (("net.onnx", "net.ms"), "Missing option '--data'"),
        (("net.onnx", "net.ms", "--data", ".", "--min-agreement", "97"), "97.0 is not in the range 0<=x<=1"),
    ],
)
def test_wrong_input_is_one_line_and_exit_2(models, args, message):
    done = msedge("verify", *args, cwd=models)
    assert (done.returncode, done.stdout) == (2, "")
    assert len(done.stderr.splitlines()) == 1
    assert message in done.stderr


def test_bench_answers_for_people_and_for_programs(models):
    done = msedge("bench", "net.onnx", "net.ms", "--runs", 5, "--runtime", "onnxruntime", cwd=models)
    assert done.returncode == 0
    for words in ("net.onnx", "onnxruntime", "net.ms", "lite", "p50 ms", "ratio", "129 k"):
        assert words in done.stdout
    done = msedge("bench", "net.ms", "--threads", "2,1", "--runs", 5, "--json", cwd=models)
    assert [row["threads"] for row in json.loads(done.stdout)] == [2, 1]


def test_bench_profile_shows_operators_nodes_and_what_reports_cost(models):
    done = msedge("bench", "--profile", "net.ms", "--runs", 3, "--warmup", 1, "--top", 2, cwd=models)
    assert done.returncode == 0, done.stderr
    for words in ("net.ms, lite", "Conv2DFusion", "the 2 slowest nodes", "conv2", "1 x 8 x 8 x 16", "share", "with reports"):
        assert words in done.stdout
    assert "head" not in done.stdout
    done = msedge("bench", "net.ms", "net.onnx", "--profile", "--runs", 3, "--json", cwd=models)
    found = json.loads(done.stdout)
    assert [(one["model"], one["runtime"]) for one in found] == [("net.ms", "lite"), ("net.onnx", "onnxruntime")]


@pytest.mark.parametrize(
    ("args", "message"),
    [
        ((), "Missing argument 'MODEL...'"),
        (("net.onnx", "--profile", "--runtime", "openvino"), "openvino reports no nodes"),
        (("net.onnx", "--profile", "--top", "0"), "0 is not in the range"),
        (("net.onnx", "--threads", "one"), "'one' is not a list of thread counts"),
        (("net.onnx", "--threads", "0"), "'0' is not a list of thread counts"),
        (("net.onnx", "--runs", "0"), "0 is not in the range"),
        (("net.onnx", "--runtime", "onnxruntim"), "did you mean 'onnxruntime'"),
        (("nothere.onnx",), "there is no model nothere.onnx"),
        (("model.json",), "model.json is not a model that msedge knows"),
    ],
)
def test_bench_wrong_input(models, args, message):
    done = msedge("bench", *args, cwd=models)
    assert (done.returncode, done.stdout) == (2, "")
    assert message in done.stderr
    assert len(done.stderr.splitlines()) == 1
