"""The export stage and its command: what the folder holds, what is refused, what never stays behind."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from click.testing import CliRunner

import msedge
from msedge.artifact import read_manifest, sha256_file, write_manifest
from msedge.cli import app
from msedge.errors import ArtifactError, CheckFailed, DataError, ExportError, ModelError
from msedge.exporter import export, export_cell, registry
from msedge.models import ModelSpec, create_model, load_checkpoint_folder, save_checkpoint, spec_of

SWIN = {"dim": (8,), "heads": ((1,),), "head_dim": ((8,),), "mlp": ((16,),), "window": 4}  # one block
CLASSES = ("cat", "dog", "fox")


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("run") / "student"
    cell = create_model("swin_nano", 3, 32, seed=4, **SWIN)
    folder.mkdir()
    save_checkpoint(cell, folder / "best.ckpt")
    save_checkpoint(create_model("swin_nano", 3, 32, seed=5, **SWIN), folder / "last.ckpt")
    spec_of(cell, CLASSES).save(folder)
    write_manifest(folder, "checkpoint", ["best.ckpt", "model.json"], recipe_sha256="abc")
    return folder


@pytest.fixture(scope="module")
def exported(checkpoint, tmp_path_factory) -> Path:
    return export(checkpoint, tmp_path_factory.mktemp("out") / "export", formats=("onnx", "mindir"))


def run_onnx(path: Path, x: np.ndarray) -> np.ndarray:
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    return np.concatenate([session.run(None, {"input": row[None]})[0] for row in x])


def test_the_folder_is_whole(exported, checkpoint):
    assert sorted(p.name for p in exported.iterdir()) == [
        "golden.npz",
        "manifest.json",
        "model.json",
        "model.mindir",
        "model.onnx",
    ]
    manifest = read_manifest(exported, "export")
    assert set(manifest["files"]) == {"model.onnx", "model.mindir", "golden.npz", "model.json"}
    assert all(sha256_file(exported / name) == entry["sha256"] for name, entry in manifest["files"].items())
    assert manifest["parents"] == {"checkpoint": sha256_file(checkpoint / "best.ckpt")}
    assert manifest["recipe_sha256"] == "abc"
    assert manifest["export"]["batch"] == 1
    assert max(manifest["export"]["max_abs"].values()) < 1e-4
    assert set(manifest["export"]["max_abs"]) == {"onnx", "mindir"}


def test_golden_logits_are_the_cells_and_the_files(exported, checkpoint):
    golden = np.load(exported / "golden.npz")
    assert golden["inputs"].shape == (8, 3, 32, 32)
    assert golden["inputs"].dtype == golden["logits"].dtype == np.float32
    cell, _ = load_checkpoint_folder(checkpoint)
    from mindspore import Tensor

    np.testing.assert_allclose(cell(Tensor(golden["inputs"])).asnumpy(), golden["logits"], atol=1e-6)
    np.testing.assert_allclose(run_onnx(exported / "model.onnx", golden["inputs"]), golden["logits"], atol=1e-4)
    assert np.ptp(golden["logits"], axis=0).min() > 0


def test_a_bare_onnx_file_describes_itself(exported):
    model = onnx.load(exported / "model.onnx")
    spec = ModelSpec.from_dict(json.loads({p.key: p.value for p in model.metadata_props}["msedge.model"]))
    assert spec == ModelSpec.load(exported)
    assert spec.classes == CLASSES
    assert model.opset_import[0].version == 13
    assert model.producer_name == "msedge"


def test_the_last_checkpoint_can_be_exported(checkpoint, exported, tmp_path):
    out = export(checkpoint / "last.ckpt", tmp_path / "out", golden=2)
    golden = np.load(exported / "golden.npz")
    assert np.abs(run_onnx(out / "model.onnx", golden["inputs"]) - golden["logits"]).max() > 1e-3


def test_a_batch(checkpoint, exported, tmp_path):
    out = export(checkpoint, tmp_path / "out", batch=3, golden=4)
    model = onnx.load(out / "model.onnx")
    assert [d.dim_value for d in model.graph.input[0].type.tensor_type.shape.dim] == [3, 3, 32, 32]
    golden = np.load(exported / "golden.npz")
    session = onnxruntime.InferenceSession(str(out / "model.onnx"), providers=["CPUExecutionProvider"])
    np.testing.assert_allclose(session.run(None, {"input": golden["inputs"][:3]})[0], golden["logits"][:3], atol=1e-4)


def test_given_images_are_the_golden_inputs(checkpoint, tmp_path):
    images = np.random.default_rng(0).standard_normal((2, 3, 32, 32)).astype(np.float32)
    golden = np.load(msedge.export(checkpoint, tmp_path / "out", golden_images=images) / "golden.npz")
    np.testing.assert_array_equal(golden["inputs"], images)


def test_images_of_another_size_are_refused_before_anything_is_written(checkpoint, tmp_path):
    with pytest.raises(DataError, match="golden images"):
        export(checkpoint, tmp_path / "out", golden_images=np.zeros((2, 3, 16, 16), np.float32))
    assert not (tmp_path / "out").exists()


def test_an_earlier_export_is_replaced(checkpoint, tmp_path):
    out = tmp_path / "out"
    export(checkpoint, out, formats=("onnx", "mindir"), golden=2)
    export(checkpoint, out, formats=("onnx",), golden=3)
    assert not (out / "model.mindir").exists()
    assert len(np.load(out / "golden.npz")["inputs"]) == 3
    assert set(read_manifest(out, "export")["files"]) == {"model.onnx", "golden.npz", "model.json"}


def test_other_folders_are_not_written_into(checkpoint, tmp_path):
    with pytest.raises(ArtifactError, match="is a checkpoint folder"):
        export(checkpoint, checkpoint)
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(ArtifactError, match=r"holds other files \(notes.txt\).*--force"):
        export(checkpoint, tmp_path)
    export(checkpoint, tmp_path, golden=2, force=True)
    assert (tmp_path / "notes.txt").read_text() == "mine"


@pytest.mark.parametrize(
    ("options", "problem"),
    [({"formats": ("tflite",)}, "formats are tflite"), ({"formats": ()}, "formats are none"), ({"batch": 0}, "the batch is 0")],
)
def test_impossible_requests(options, problem, checkpoint, tmp_path):
    with pytest.raises(ExportError, match=problem):
        export(checkpoint, tmp_path / "out", **options)
    assert not (tmp_path / "out").exists()


def test_a_missing_or_damaged_checkpoint(checkpoint, tmp_path):
    with pytest.raises(ArtifactError, match="there is no folder"):
        export(tmp_path / "nothing", tmp_path / "out")
    broken = tmp_path / "broken"
    broken.mkdir()
    ModelSpec.load(checkpoint).save(broken)
    (broken / "best.ckpt").write_bytes((checkpoint / "best.ckpt").read_bytes()[:2000])
    with pytest.raises(ModelError, match="damaged"):
        export(broken, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_folder_that_cannot_be_written(checkpoint, tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(ArtifactError, match="cannot write"):
        export(checkpoint, tmp_path / "file" / "out")


def test_a_full_disk_leaves_nothing_under_a_final_name(checkpoint, tmp_path):
    disk = tmp_path / "disk"
    disk.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=40k", "tmpfs", str(disk)]
    if os.geteuid() or subprocess.run(command, capture_output=True, check=False).returncode:
        pytest.skip("only root may mount a disk")
    try:
        with pytest.raises(ArtifactError, match="no space left"):
            export(checkpoint, disk / "out")
        assert not [p for p in (disk / "out").iterdir() if p.name in ("manifest.json", "golden.npz") or ".part" in p.name]
    finally:
        subprocess.run(["umount", str(disk)], check=True)


def test_a_wrong_rule_is_caught_with_its_numbers(checkpoint, tmp_path, monkeypatch):
    """The check compares with the cell itself: a rule that drops the softmax cannot get through."""
    monkeypatch.setitem(registry._RULES, "Softmax", lambda op: op.op("Relu", op.tensor(0)))
    with pytest.raises(CheckFailed, match=r"differs from the cell by \S+ on 8 golden inputs \(allowed: 0\.0001"):
        export(checkpoint, tmp_path / "out")
    assert not list((tmp_path / "out").iterdir())


def test_weights_that_are_not_numbers_are_caught(tmp_path):
    from mindspore import Tensor

    cell = create_model("swin_nano", 3, 32, **SWIN)
    cell.head.fc.bias.set_data(Tensor(np.full(3, np.nan, np.float32)))
    with pytest.raises(CheckFailed, match="not finite"):
        export_cell(cell, spec_of(cell), tmp_path / "out")


def test_the_command(checkpoint, tmp_path):
    out = tmp_path / "out"
    done = CliRunner().invoke(app, ["export", str(checkpoint), "--format", "ONNX", "--out", str(out), "--json"])
    assert done.exit_code == 0, done.output
    answer = json.loads(done.stdout)
    assert answer["folder"] == str(out)
    assert answer["formats"] == ["onnx"]
    assert answer["max_abs"]["onnx"] < 1e-4
    assert answer["files"]["model.onnx"]["bytes"] == (out / "model.onnx").stat().st_size


@pytest.mark.slow
def test_the_command_in_its_own_process_is_quiet(checkpoint, tmp_path):
    command = [sys.executable, "-m", "msedge", "export", str(checkpoint), "--out", str(tmp_path / "out")]
    done = subprocess.run([*command, "--format", "onnx", "--format", "mindir"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    assert "model.onnx" in done.stdout
    assert "model.mindir" in done.stdout
    again = subprocess.run([*command[:-1], str(checkpoint)], capture_output=True, text=True, check=False)
    assert again.returncode == 2
    assert again.stderr.count("\n") == 1
    assert "is a checkpoint folder" in again.stderr
