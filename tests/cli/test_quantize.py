"""msedge quantize as a user calls it, and the conversion that follows its plan."""

from __future__ import annotations

import json

import cv2
import numpy as np
import pytest
from small_models import msedge, pictures, small_onnx

pytestmark = pytest.mark.lite


@pytest.fixture(scope="module")
def quantised(models, images, tmp_path_factory):
    out = tmp_path_factory.mktemp("quantised") / "q"
    done = msedge("quantize", models / "net.onnx", "--out", out, "--calib", images, "--calib-images", 12, "--data", images)
    return out, done


def test_a_plan_for_people_and_its_files(quantised):
    out, done = quantised
    assert done.returncode == 0, done.stderr
    assert "int8 nodes; simulated: agreement" in done.stdout
    assert "SQNR dB" in done.stdout
    assert {p.name for p in out.iterdir()} == {
        "model.onnx", "model.json", "plan.json", "layers.json", "quantization.json", "manifest.json"
    }  # fmt: skip


def test_convert_follows_the_plan(quantised, images, tmp_path):
    out, _ = quantised
    done = msedge("convert", out, "--out", tmp_path / "int8", "--data", images, "--json")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert (found["quant"], found["engine"], found["passed"]) == ("PostTraining", "msedge", True)
    assert found["planned"]["cosine_mean"] > 0.9999
    assert (
        json.loads((tmp_path / "int8" / "plan.json").read_text())["tensors"]
        == json.loads((out / "plan.json").read_text())["tensors"]
    )
    other = msedge("convert", out, "--out", tmp_path / "w", "--quant", "weight")
    assert (other.returncode, "is for PostTraining, not WeightQuant" in other.stderr) == (2, True)
    plain = msedge("convert", out, "--out", tmp_path / "float", "--quant", "none", "--json")
    assert json.loads(plain.stdout)["quantised_nodes"] == 0


@pytest.mark.parametrize("bits", [8, 4])
def test_weights_only(models, images, tmp_path, bits):
    done = msedge("convert", models / "net.onnx", "--out", tmp_path / "w", "--quant", "WeightQuant", "--bits", bits,
                  "--data", images, "--json", "--int8-cosine", 0.9, "--agreement", 0.5)  # fmt: skip
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["quant"] == "WeightQuant"
    assert found["planned"]["cosine_mean"] > 0.99999


def test_a_budget_that_holds_and_its_curve(models, images, tmp_path):
    options = ["--calib", images, "--calib-images", 12, "--data", images, "--budget", "agreement=0.9", "--json"]
    done = msedge("quantize", models / "net.onnx", "--out", tmp_path / "q", *options)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert (found["passed"], found["budget"]["met"]) == (True, True)
    assert found["agreement"] >= 0.9
    assert json.loads((tmp_path / "q" / "curve.json").read_text())["curve"]
    assert (tmp_path / "q" / "curve.svg").read_text().startswith("<?xml")


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (("nothere", "--calib", "{images}"), "there is no model nothere"),
        (("{net}",), "give --calib DIR, or --calib builtin:catdog"),
        (("{net}", "--calib", "{images}", "--bits", 4), "MindSpore Lite's integer kernels have 8"),
        (("{net}", "--mode", "weight", "--bits", 0), "weights cannot have 0 bits"),
        (("{net}", "--mode", "weight", "--bits", 17), "weights cannot have 17 bits"),
        (("{net}", "--mode", "weight", "--group", -1), "a group of -1 weights"),
        (("{net}", "--calib", "{images}", "--observer", "psychic"), "'psychic'"),
        (("{net}", "--calib", "{images}", "--keep-float", "nothere*"), "nothere*"),
        (("{net}", "--calib", "{images}", "--budget", "cheap"), "--budget 0.5pp"),
        (("{net}", "--calib", "{images}/cat"), "images of cat only; the model also knows dog, fox"),
        (("{net}", "--calib", "{black}"), "are of one colour: no range can be learned"),
    ],
)
def test_wrong_input_is_one_line_and_exit_2(models, images, tmp_path, args, message):
    for name in ("cat", "dog", "fox"):
        (tmp_path / "black" / name).mkdir(parents=True)
        for i in range(3):
            cv2.imwrite(str(tmp_path / "black" / name / f"{i}.png"), np.zeros((40, 40 + i, 3), np.uint8))
    places = {"net": models / "net.onnx", "images": images, "black": tmp_path / "black"}
    done = msedge("quantize", *(str(a).format(**places) for a in args), "--out", tmp_path / "q", cwd=tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    assert message in done.stderr.splitlines()[-1], done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "q").exists()


def test_a_few_images_are_taken_with_a_word(models, tmp_path):
    few = pictures(tmp_path / "few", ("cat", "dog", "fox"), 1)
    done = msedge("quantize", models / "net.onnx", "--out", tmp_path / "q", "--calib", few)
    assert done.returncode == 0, done.stderr
    assert "a few more would make better scales" in done.stderr


def test_a_quantised_ms_or_onnx_is_no_source(quantised, tmp_path):
    out, _ = quantised
    again = small_onnx(tmp_path / "m.onnx")
    assert msedge("convert", out, "--out", tmp_path / "int8").returncode == 0
    done = msedge("quantize", tmp_path / "int8" / "model.ms", "--calib", "x", "--out", tmp_path / "q")
    assert (done.returncode, "is a .ms already" in done.stderr) == (2, True)
    assert again.is_file()
