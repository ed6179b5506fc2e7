from __future__ import annotations

import json

import pytest

from msedge import artifact
from msedge.errors import ArtifactError


def test_a_failed_write_leaves_nothing(tmp_path):
    final = tmp_path / "a.bin"
    final.write_bytes(b"before")
    with pytest.raises(RuntimeError), artifact.atomic_path(final) as temporary:
        temporary.write_bytes(b"half")
        raise RuntimeError
    assert final.read_bytes() == b"before"
    assert list(tmp_path.iterdir()) == [final]


def test_write_json_round_trip(tmp_path):
    artifact.write_json(tmp_path / "deep" / "a.json", {"a": [1, 2]})
    assert artifact.read_json(tmp_path / "deep" / "a.json", "the file") == {"a": [1, 2]}


@pytest.mark.parametrize(("content", "said"), [(None, "is missing"), ("{", "cannot be read")])
def test_read_json_names_what_is_wrong(tmp_path, content, said):
    path = tmp_path / "a.json"
    if content is not None:
        path.write_text(content)
    with pytest.raises(ArtifactError, match=f"the plan {said}"):
        artifact.read_json(path, "the plan")


def test_outputs_that_cannot_be_written_are_one_line(tmp_path):
    (tmp_path / "file").write_text("x")
    with pytest.raises(ArtifactError, match=r"part of the path is a file.*choose another --out"):
        artifact.make_dir(tmp_path / "file" / "sub")
    with pytest.raises(ArtifactError, match="file of that name is in the way"):
        artifact.make_dir(tmp_path / "file")
    (tmp_path / "gone").mkdir()
    with pytest.raises(ArtifactError, match="vanished"), artifact.atomic_path(tmp_path / "gone" / "a") as temporary:
        temporary.parent.rmdir()
        temporary.write_bytes(b"")


def test_manifest_names_files_parents_and_tools(tmp_path):
    (tmp_path / "a.txt").write_text("hello")
    artifact.write_manifest(tmp_path, "export", ["a.txt"], parents={"checkpoint": "00"}, opset=13)
    manifest = artifact.read_manifest(tmp_path, "export")
    assert manifest["files"]["a.txt"] == {"sha256": artifact.sha256_bytes(b"hello"), "bytes": 5}
    assert manifest["opset"] == 13
    assert manifest["tools"]["mindspore"]
    json.dumps(manifest)
    with pytest.raises(ArtifactError, match="is a export folder"):
        artifact.read_manifest(tmp_path, "checkpoint")


def test_cache_dir_follows_the_environment(monkeypatch, tmp_path):
    monkeypatch.setenv("MSEDGE_CACHE", str(tmp_path / "own"))
    assert artifact.cache_dir() == tmp_path / "own"
    monkeypatch.delenv("MSEDGE_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert artifact.cache_dir() == tmp_path / "msedge"
