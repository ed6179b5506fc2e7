"""What a path means, before anything is opened."""

from __future__ import annotations

import pytest

from msedge.errors import ArtifactError
from msedge.runtime import locate


def touch(path):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"x")
    return path


@pytest.mark.parametrize(
    ("name", "kind"),
    [("a.onnx", "onnx"), ("A.ONNX", "onnx"), ("a.ms", "lite"), ("last.ckpt", "checkpoint"), ("a.mindir", "mindir")],
)
def test_a_file_is_known_by_its_ending(tmp_path, name, kind):
    file = touch(tmp_path / name)
    assert (locate(file).kind, locate(str(file)).file) == (kind, file)


@pytest.mark.parametrize(
    ("names", "chosen", "kind"),
    [
        (["model.ms", "model.json"], "model.ms", "lite"),
        (["best.ckpt", "last.ckpt"], "best.ckpt", "checkpoint"),
        (["model.onnx", "model.mindir"], "model.onnx", "onnx"),
        (["last.ckpt"], "last.ckpt", "checkpoint"),
        (["net.onnx"], "net.onnx", "onnx"),
    ],
)
def test_a_folder_means_its_model_file(tmp_path, names, chosen, kind):
    for name in names:
        touch(tmp_path / name)
    assert (locate(tmp_path).file.name, locate(tmp_path).kind) == (chosen, kind)


def test_errors_say_what_to_do(tmp_path):
    touch(tmp_path / "many" / "a.onnx")
    touch(tmp_path / "many" / "b.onnx")
    touch(tmp_path / "run" / "student" / "best.ckpt")
    (tmp_path / "empty.onnx").touch()
    cases = {
        "nothere": "there is no model",
        "many": r"several models: a\.onnx, b\.onnx",
        "run": "did you mean .*student",
        "empty.onnx": "is empty",
    }
    for name, message in cases.items():
        with pytest.raises(ArtifactError, match=message):
            locate(tmp_path / name)
    with pytest.raises(ArtifactError, match=r"is not a model that msedge knows"):
        locate(touch(tmp_path / "notes.txt"))
