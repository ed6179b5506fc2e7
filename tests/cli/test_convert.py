"""msedge convert as a user calls it."""

from __future__ import annotations

import json

import pytest
from small_models import msedge, unconvertible_onnx

pytestmark = pytest.mark.lite


def test_one_line_says_all(models, images, tmp_path):
    done = msedge("convert", models / "net.onnx", "--out", tmp_path / "out", cwd=tmp_path)
    assert done.returncode == 0
    assert done.stderr == ""
    assert len(done.stdout.splitlines()) == 1
    assert "model.ms: float, 7.9 KB, cosine 1.0" in done.stdout
    assert done.stdout.strip().endswith("on 8 drawn inputs: passed")


def test_post_training_and_json(models, images, tmp_path):
    done = msedge(
        "convert", models / "net.onnx", "--out", "int8", "--quant", "posttraining", "--calib", images, "--calib-images", 12,
        "--data", images, "--json", cwd=tmp_path,
    )  # fmt: skip
    found = json.loads(done.stdout)
    assert (found["out"], found["quant"], found["n"], found["calibration_images"]) == ("int8", "PostTraining", 24, 12)
    assert done.returncode == (0 if found["passed"] else 1)
    assert "calibrating with 12 images" in done.stderr


def test_a_gate_that_does_not_hold_is_exit_1(models, tmp_path):
    done = msedge("convert", models / "net.onnx", "--out", "h", "--quant", "fp16", "--fp16-cosine", 1, cwd=tmp_path)
    assert done.returncode == 1
    assert "FAILED: pooled cosine 0.9999999" in done.stdout
    assert "the files are there to look at, see parity.json" in done.stderr
    assert (tmp_path / "h" / "model.ms").is_file()


def test_a_failing_converter_is_exit_3_and_shows_its_log(tmp_path):
    file = unconvertible_onnx(tmp_path / "m.onnx")
    done = msedge("convert", file, "--out", "out", cwd=tmp_path)
    assert (done.returncode, done.stdout) == (3, "")
    assert "einsum" in done.stderr
    assert str(tmp_path / "out" / "convert.log") in done.stderr
    assert len(done.stderr.splitlines()) == 1
    done = msedge("convert", file, "--out", "out2", "--debug", cwd=tmp_path)
    assert "Traceback" in done.stderr


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (("nothere", "--out", "o"), "there is no model nothere"),
        (("net.onnx",), "Missing option '--out'"),
        (("net.onnx", "--out", "net.ms"), "a file of that name is in the way"),
        (("net.onnx", "--out", "."), "holds other files"),
        (("net.onnx", "--out", "o", "--quant", "AwareTraining"), "has no trained plan beside it"),
        (("net.onnx", "--out", "o", "--quant", "ptq"), "give --calib DIR, or --calib builtin:catdog"),
        (("net.onnx", "--out", "o", "--target", "npu"), "there is no target 'npu'"),
        (("net.onnx", "--out", "o", "--fmk", "TF"), "msedge converts ONNX and MINDIR"),
        (("net.onnx", "--out", "/proc/o"), "cannot write /proc/o"),
    ],
)
def test_wrong_input_is_one_line_and_exit_2(models, args, message):
    before = sorted(p.name for p in models.iterdir())
    done = msedge("convert", *args, cwd=models)
    assert (done.returncode, done.stdout) == (2, "")
    assert message in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert sorted(p.name for p in models.iterdir()) == before


def test_a_toolchain_that_is_not_there_is_exit_3(models, tmp_path):
    done = msedge("convert", models / "net.onnx", "--out", "o", "--lite", "/nowhere", cwd=tmp_path)
    assert done.returncode == 3
    assert "--lite names a toolchain that is missing: /nowhere" in done.stderr
    assert list(tmp_path.iterdir()) == []
