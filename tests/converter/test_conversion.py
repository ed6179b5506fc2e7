"""Conversions with the real converter, loaded and run in the real runtime."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import onnx
import pytest
from small_models import environment, noise, pictures, small_onnx, spec, unconvertible_onnx, unloadable_onnx

from msedge.converter import convert
from msedge.errors import ArtifactError, DataError, ModelError, ToolFailed, ToolMissing, ToolTimeout, UserError
from msedge.lite.ms_file import read_ms, summary
from msedge.quantization import load_plan
from msedge.recipe import GateConfig
from msedge.runtime import load_spec, open_runner

pytestmark = pytest.mark.lite
CLASSES = ("cat", "dog", "fox")
FILES = {"model.ms", "model.json", "convert.log", "parity.json", "manifest.json"}


def names(folder: Path) -> set[str]:
    return {p.name for p in folder.iterdir()}


def parity(out: Path) -> dict:
    return json.loads((out / "parity.json").read_text())


def test_float(described, tmp_path, toolchain):
    report = convert(described, tmp_path / "out", lite=toolchain)
    assert report.passed
    assert names(tmp_path / "out") == FILES
    assert names(tmp_path) == {"out"}
    assert load_spec(report.model) == spec(classes=CLASSES)
    found = parity(report.out)
    assert (found["quant"], found["n"], found["passed"], found["gate"]) == ("none", 8, True, {"min_cosine": 0.9999})
    assert found["max_abs"] < 1e-4
    assert found["size_bytes"] == report.model.stat().st_size
    manifest = json.loads((report.out / "manifest.json").read_text())
    assert manifest["kind"] == "convert"
    assert manifest["parents"] == {"small.onnx": hashlib.sha256(described.read_bytes()).hexdigest()}
    assert manifest["files"]["model.ms"]["sha256"] == hashlib.sha256(report.model.read_bytes()).hexdigest()
    assert set(manifest["files"]) == FILES - {"manifest.json"}
    with open_runner(described) as a, open_runner(report.model, lite=toolchain) as b:
        np.testing.assert_allclose(b.predict(noise(4)), a.predict(noise(4)), atol=1e-5)


def test_fp16_halves_the_weights(tmp_path, toolchain):
    file = small_onnx(tmp_path / "m.onnx", classes=4000)
    full = convert(file, tmp_path / "none", lite=toolchain)
    half = convert(file, tmp_path / "fp16", quant="FP16", lite=toolchain)
    assert half.passed
    assert half.size_bytes < 0.6 * full.size_bytes
    assert "fp16" in half.verdict()


@pytest.mark.parametrize("engine", ["msedge", "converter"])
def test_post_training(described, dataset, tmp_path, toolchain, engine):
    lines = []
    options = {"calib": dataset, "calib_images": 48, "lite": toolchain, "say": lines.append}
    report = convert(described, tmp_path / "out", quant="ptq", engine=engine, **options)
    assert report.passed, report.reasons
    found = parity(report.out)
    assert (found["quant"], found["n"], found["calibration_images"]) == ("PostTraining", 60, 48)
    assert found["gate"] == {"min_cosine": 0.99, "min_agreement": 0.97}
    assert 0.99 <= found["cosine_mean"] < 1
    assert found["golden"]["n"] == 8
    assert found["top1_a"] is not None
    inside = summary(read_ms(report.model))
    assert inside["quantised_nodes"] == found["quantised_nodes"] >= 3
    assert inside["bytes_by_dtype"]["int8"] > 1000
    manifest = json.loads((report.out / "manifest.json").read_text())
    assert len(manifest["calibration"]["images"]) == 48
    assert manifest["engine"] == found["engine"] == engine
    if engine == "converter":
        assert manifest["calibration"]["layout"] == "NHWC"
    else:
        assert found["planned"]["cosine_mean"] > 0.9999
        assert load_plan(report.out / "plan.json").of("int8")
    assert any("calibrating with 48 images" in line for line in lines)
    text = report.verdict()
    assert text.startswith("model.ms: int8, ")
    assert text.endswith("% on 60 images not used for calibration: passed")


def test_calibration_has_the_models_own_preprocessing(dataset, tmp_path, toolchain):
    """The same network over 0..255 pixels: scales from wrongly normalised images would be off by a factor of sixty."""
    described = spec(classes=CLASSES, mean=(0, 0, 0), std=(1 / 255,) * 3)
    file = small_onnx(tmp_path / "m.onnx", described=described)
    report = convert(file, tmp_path / "out", quant="ptq", calib=dataset, calib_images=30, lite=toolchain)
    assert report.parity.comparison.cosine_mean > 0.99


def test_a_gate_that_does_not_hold_still_leaves_the_files(described, tmp_path, toolchain):
    report = convert(described, tmp_path / "out", quant="fp16", gate=GateConfig(fp16_cosine=1.0), lite=toolchain)
    assert not report.passed
    assert names(tmp_path / "out") == FILES
    assert parity(report.out)["passed"] is False
    assert "is below 1" in parity(report.out)["reasons"][0]
    assert "FAILED" in report.verdict()


def test_an_earlier_result_is_replaced(described, tmp_path, toolchain):
    convert(described, tmp_path / "out", lite=toolchain)
    convert(described, tmp_path / "out", quant="fp16", lite=toolchain)
    assert parity(tmp_path / "out")["quant"] == "fp16"
    assert names(tmp_path) == {"out"}


def test_golden_inputs_beside_the_model_are_used_and_checked(tmp_path, toolchain):
    file = small_onnx(tmp_path / "export" / "model.onnx")
    spec(classes=CLASSES).save(file.parent)
    x = noise(3)
    with open_runner(file) as runner:
        logits = runner.predict(x)
    np.savez(file.parent / "golden.npz", inputs=x, logits=logits)
    report = convert(file.parent, tmp_path / "out", lite=toolchain)
    assert report.parity.on == "3 golden inputs"
    np.savez(file.parent / "golden.npz", inputs=x, logits=-logits)
    with pytest.raises(ArtifactError, match=r"golden\.npz does not belong"):
        convert(file.parent, tmp_path / "out2", lite=toolchain)
    assert names(tmp_path) == {"export", "out"}


def test_a_model_without_description_says_what_is_assumed(dataset, tmp_path, toolchain):
    lines = []
    file = small_onnx(tmp_path / "m.onnx")
    report = convert(file, tmp_path / "out", quant="ptq", calib=dataset, calib_images=12, lite=toolchain, say=lines.append)
    assert sum("ImageNet's mean and std at 32 px are assumed" in line for line in lines) == 1
    assert names(report.out) == FILES - {"model.json"} | {"plan.json"}


def test_an_open_batch_and_an_awkward_input_name_are_settled(dataset, tmp_path, toolchain):
    lines = []
    file = small_onnx(tmp_path / "m.onnx", batch="n", input_name="image:0")
    spec(classes=CLASSES).save(tmp_path)
    report = convert(file, tmp_path / "out", quant="ptq", calib=dataset, calib_images=12, lite=toolchain, say=lines.append)
    assert report.passed
    assert [i["shape"] for i in summary(read_ms(report.model))["inputs"]] == [[1, 32, 32, 3]]
    assert load_spec(report.out) == spec(classes=CLASSES)
    assert any("takes any number of images" in line for line in lines)
    assert not any("assumed" in line for line in lines)


def test_shapes_that_cannot_be_settled(dataset, tmp_path, toolchain):
    four = small_onnx(tmp_path / "four.onnx", batch=4)
    assert convert(four, tmp_path / "float", lite=toolchain).passed
    with pytest.raises(ModelError, match="4 images at a time, calibration needs one"):
        convert(four, tmp_path / "int8", quant="ptq", calib=dataset, calib_images=4, lite=toolchain)
    model = onnx.load(str(four))
    model.graph.input[0].type.tensor_type.shape.dim[2].dim_param = "h"
    onnx.save(model, str(four))
    with pytest.raises(ModelError, match="leaves the size of its images open"):
        convert(four, tmp_path / "open", lite=toolchain)
    assert names(tmp_path) == {"four.onnx", "float"}


def test_the_converters_failure_leaves_only_its_log(tmp_path, toolchain):
    with pytest.raises(ToolFailed, match="einsum") as caught:
        convert(unconvertible_onnx(tmp_path / "m.onnx"), tmp_path / "out", lite=toolchain)
    assert names(tmp_path / "out") == {"convert.log"}
    assert names(tmp_path) == {"m.onnx", "out"}
    assert str(tmp_path / "out" / "convert.log") in caught.value.hint
    assert "einsum" in (tmp_path / "out" / "convert.log").read_text()


def test_a_result_that_does_not_load_is_the_tools_failure(tmp_path, toolchain):
    with pytest.raises(ToolFailed, match=r"wrote a model that MindSpore Lite 2\.0\.0 cannot load") as caught:
        convert(unloadable_onnx(tmp_path / "m.onnx"), tmp_path / "out", lite=toolchain)
    assert names(tmp_path / "out") == {"convert.log"}
    assert caught.value.exit_code == 3


def test_a_failure_leaves_an_earlier_result_alone(described, tmp_path, toolchain):
    convert(described, tmp_path / "out", lite=toolchain)
    before = (tmp_path / "out" / "model.ms").read_bytes()
    with pytest.raises(ToolFailed, match="einsum"):
        convert(unconvertible_onnx(tmp_path / "m.onnx"), tmp_path / "out", lite=toolchain)
    assert names(tmp_path / "out") == FILES | {"convert-failed.log"}
    assert (tmp_path / "out" / "model.ms").read_bytes() == before
    convert(described, tmp_path / "out", lite=toolchain)
    assert names(tmp_path / "out") == FILES


def test_time_limit(tmp_path, dataset, toolchain):
    file = small_onnx(tmp_path / "m.onnx", size=512)
    with pytest.raises(ToolTimeout, match=r"within 0\.2 s"):
        convert(file, tmp_path / "out", quant="ptq", engine="converter", calib=dataset, lite=toolchain, timeout=0.2)
    assert not (tmp_path / "out" / "model.ms").exists()


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"quant": "ptq"}, DataError, "needs images to calibrate with"),
        ({"quant": "ptq", "calib": "empty"}, DataError, "no image"),
        ({"quant": "ptq", "calib": "nothere"}, DataError, "missing"),
        ({"quant": "ptq", "calib": "broken"}, DataError, "no readable image"),
        ({"quant": "AwareTraining"}, UserError, "no trained plan beside it"),
        ({"quant": "dynamic"}, UserError, "40 times slower"),
        ({"quant": "WeightQuant", "engine": "converter"}, UserError, "converter has no WeightQuant"),
        ({"quant": "ptq", "engine": "tflite"}, UserError, "there is no such engine"),
        ({"target": "gpu"}, UserError, "there is no target 'gpu'"),
        ({"fmk": "CAFFE"}, UserError, "--fmk CAFFE"),
        ({"fmk": "MINDIR"}, UserError, "is an ONNX file"),
        ({"lite": "nothere"}, ToolMissing, "missing: nothere"),
    ],
)
def test_wrong_orders_leave_nothing(described, tmp_path, monkeypatch, options, error, message):
    monkeypatch.chdir(tmp_path)
    Path("empty").mkdir()
    Path("broken").mkdir()
    Path("broken/a.jpg").write_bytes(b"no image")
    with pytest.raises(error, match=message):
        convert(described, tmp_path / "out", **options)
    assert names(tmp_path) == {"empty", "broken"}


def test_sources_that_cannot_be_converted(described, tmp_path, toolchain):
    cut = tmp_path / "cut.onnx"
    cut.write_bytes(described.read_bytes()[:2000])
    made = convert(described, tmp_path / "made", lite=toolchain)
    for source, error, message in (
        (cut, ArtifactError, r"cut\.onnx is not an ONNX file, or damaged"),
        (tmp_path / "nothere", ArtifactError, "there is no model"),
        (made.out, UserError, r"is a \.ms already"),
    ):
        with pytest.raises(error, match=message):
            convert(source, tmp_path / "out", lite="nothere")
    mixed = tmp_path / "mixed"
    shutil.copytree(described.parent, mixed)
    spec(48, CLASSES).save(mixed)
    with pytest.raises(ModelError, match=r"takes 32 pixels, its model\.json says 48"):
        convert(mixed / "small.onnx", tmp_path / "out", lite=toolchain)
    assert names(tmp_path) == {"cut.onnx", "made", "mixed"}


def test_a_checkpoint_folder(tmp_path, toolchain):
    from msedge.models import create_model, describe, save_checkpoint

    folder = tmp_path / "checkpoint"
    folder.mkdir()
    described = describe("mobilevit_xxs", 2, 64, ("cat", "dog"))
    described.save(folder)
    save_checkpoint(create_model("mobilevit_xxs", num_classes=2, image_size=64), folder / "best.ckpt")
    report = convert(folder, tmp_path / "out", lite=toolchain)
    assert report.passed
    assert report.parity.on == "8 golden inputs"
    assert load_spec(report.out) == described
    with open_runner(folder) as a, open_runner(report.model, lite=toolchain) as b:
        np.testing.assert_allclose(b.predict(noise(2, 64)), a.predict(noise(2, 64)), atol=1e-4)


def test_a_mindir_takes_the_road_that_the_converter_can_read(tmp_path, toolchain):
    import mindspore as ms
    from mindspore import nn
    from mindspore.train.mind_ir_pb2 import ModelProto

    from msedge.exporter import cell_to_mindir

    class Net(nn.Cell):
        def __init__(self):
            super().__init__()
            self.conv = nn.Conv2d(3, 4, 3, has_bias=True)
            self.head = nn.Dense(4, 3)

        def construct(self, x):
            return self.head(ms.ops.relu(self.conv(x)).mean((2, 3)))

    file = tmp_path / "net.mindir"
    cell_to_mindir(Net().set_train(False), (1, 3, 16, 16), file)
    lines = []
    report = convert(file, tmp_path / "out", lite=toolchain, say=lines.append)
    assert (report.passed, report.fmk) == (True, "ONNX")
    assert "MindIR version 3 and the converter reads up to 1: taking the road over ONNX" in lines[0]
    lines.clear()
    convert(file, tmp_path / "out", lite=toolchain, fmk="onnx", say=lines.append)
    assert lines == []
    # A file that only says to be version 1 is handed over, fails there, and comes in over ONNX after all.
    model = ModelProto.FromString(file.read_bytes())
    model.mind_ir_version = 1
    (tmp_path / "one.mindir").write_bytes(model.SerializeToString())
    report = convert(tmp_path / "one.mindir", tmp_path / "out1", lite=toolchain, say=lines.append)
    assert (report.passed, report.fmk) == (True, "ONNX")
    assert "converter" in lines[0]
    with pytest.raises(ToolFailed):
        convert(tmp_path / "one.mindir", tmp_path / "out2", lite=toolchain, fmk="MindIR")
    assert "model.ms" not in names(tmp_path / "out2")


def test_a_full_disk_leaves_nothing(described, disk, toolchain):
    small = disk("size=12k")
    with pytest.raises(ArtifactError, match="no space left"):
        convert(described, small / "out", lite=toolchain)
    assert names(small) == set()


def test_a_full_temporary_folder(dataset, disk, tmp_path, monkeypatch, toolchain):
    file = small_onnx(tmp_path / "m.onnx", size=128)
    monkeypatch.setattr("tempfile.tempdir", str(disk("size=300k")))
    with pytest.raises(ArtifactError, match="no space left"):
        convert(file, tmp_path / "out", quant="ptq", engine="converter", calib=dataset, calib_images=20, lite=toolchain)
    assert not (tmp_path / "out").exists()


def test_a_read_only_place(described, disk, toolchain):
    with pytest.raises(ArtifactError, match="read-only"):
        convert(described, disk("size=1m,ro") / "out", lite=toolchain)


def children(pid: int) -> list[int]:
    try:
        return [int(c) for c in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except OSError:
        return []


def command_line(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""


def test_ctrl_c_in_the_converter_leaves_nothing(tmp_path, toolchain):
    file = small_onnx(tmp_path / "m.onnx", size=512)
    folder = pictures(tmp_path / "images", (), 60)
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    command = [sys.executable, "-m", "msedge", "convert", str(file), "--out", str(tmp_path / "out")]
    command += ["--quant", "ptq", "--calib", str(folder)]
    process = subprocess.Popen(
        command,
        env=environment(TMPDIR=str(temporary)),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    deadline = time.monotonic() + 60
    worker = None
    while worker is None and time.monotonic() < deadline and process.poll() is None:
        worker = next((c for c in children(process.pid) if b"convert" in command_line(c)), None)
        time.sleep(0.01)
    assert worker, process.communicate()
    time.sleep(0.3)
    os.killpg(process.pid, signal.SIGINT)
    _, errors = process.communicate(timeout=30)
    assert process.returncode == 130
    assert errors.splitlines()[-1] == "msedge: stopped"
    assert "Traceback" not in errors
    assert names(tmp_path) == {"m.onnx", "images", "temporary"}
    assert names(temporary) == set()
    assert command_line(worker) == b""
