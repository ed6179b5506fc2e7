from __future__ import annotations

import numpy as np
import pytest

from msedge.errors import ArtifactError, ModelError
from msedge.models import read_checkpoint, save_checkpoint

VALUES = {
    "a.weight": np.arange(6, dtype=np.float32).reshape(2, 3),
    "scalar": np.float32(2.5),
    "moments": np.array([1, 2], np.float64),
    "half": np.array([1.5], np.float16),
    "count": np.array([2**40, -1], np.int64),
    "text": np.frombuffer(b"{}", np.uint8),
    "flags": np.array([[True], [False]]),
    "empty": np.zeros((0, 4), np.float32),
}


def same(a: dict, b: dict) -> bool:
    return list(a) == list(b) and all(
        np.asarray(a[n]).dtype == b[n].dtype and np.array_equal(a[n], b[n]) and np.shape(a[n]) == b[n].shape for n in a
    )


def test_what_is_written_is_read(tmp_path):
    save_checkpoint(VALUES, tmp_path / "x.ckpt")
    assert same(VALUES, read_checkpoint(tmp_path / "x.ckpt"))
    assert [p.name for p in tmp_path.iterdir()] == ["x.ckpt"]


def test_mindspores_loader_reads_ours(ms, tmp_path):
    values = {n: v for n, v in VALUES.items() if n != "empty"}
    save_checkpoint(values, tmp_path / "x.ckpt")
    theirs = ms.load_checkpoint(str(tmp_path / "x.ckpt"))
    assert same(values, {n: p.asnumpy() for n, p in theirs.items()})


@pytest.mark.parametrize("crc", [False, True])
def test_we_read_mindspores_files(ms, tmp_path, crc):
    values = {"a": np.ones((3, 2), np.float32), "b": np.array([1, 2, 3], np.int32)}
    path = tmp_path / "x.ckpt"
    ms.save_checkpoint([{"name": n, "data": ms.Tensor(v)} for n, v in values.items()], str(path), crc_check=crc)
    assert same(values, read_checkpoint(path))


def test_a_tensor_in_pieces_is_joined(ms, tmp_path):
    from mindspore.train.checkpoint_pb2 import Checkpoint

    message = Checkpoint()
    for half in (np.float32([1, 2]), np.float32([3, 4])):
        entry = message.value.add(tag="w")
        entry.tensor.dims.extend([2, 2])
        entry.tensor.tensor_type = "Float32"
        entry.tensor.tensor_content = half.tobytes()
    (tmp_path / "x.ckpt").write_bytes(message.SerializeToString())
    assert read_checkpoint(tmp_path / "x.ckpt")["w"].tolist() == [[1, 2], [3, 4]]


def test_no_cut_of_a_file_gives_anything_but_its_whole_tensors_or_a_model_error(tmp_path):
    save_checkpoint(VALUES, tmp_path / "x.ckpt")
    whole = (tmp_path / "x.ckpt").read_bytes()
    refused = 0
    for length in range(len(whole)):
        (tmp_path / "cut.ckpt").write_bytes(whole[:length])
        try:
            values = read_checkpoint(tmp_path / "cut.ckpt")
        except ModelError as e:
            assert "\n" not in str(e)
            refused += 1
        else:
            assert len(values) < len(VALUES)
            assert all(np.array_equal(VALUES[n], v) for n, v in values.items())
    assert refused > 0.9 * len(whole)


def test_random_damage_gives_values_or_a_model_error(tmp_path):
    save_checkpoint(VALUES, tmp_path / "x.ckpt")
    whole = (tmp_path / "x.ckpt").read_bytes()
    rng = np.random.default_rng(0)
    for _ in range(300):
        data = bytearray(whole)
        for _ in range(rng.integers(1, 4)):
            data[rng.integers(len(data))] = rng.integers(256)
        (tmp_path / "bad.ckpt").write_bytes(data)
        try:
            values = read_checkpoint(tmp_path / "bad.ckpt")
        except ModelError as e:
            assert "\n" not in str(e)
        else:
            assert all(isinstance(v, np.ndarray) for v in values.values())


@pytest.mark.parametrize("data", [b"", b"hello", b"\x80\x04\x95", b"PK\x03\x04", bytes(300)])
def test_other_files_are_named_as_such(tmp_path, data):
    (tmp_path / "x.ckpt").write_bytes(data)
    with pytest.raises(ModelError, match=r"x\.ckpt"):
        read_checkpoint(tmp_path / "x.ckpt")


def test_missing_files_and_folders_are_artifact_errors(tmp_path):
    with pytest.raises(ArtifactError, match="there is no"):
        read_checkpoint(tmp_path / "x.ckpt")
    with pytest.raises(ArtifactError, match="cannot be read"):
        read_checkpoint(tmp_path)


@pytest.mark.parametrize("name", [b"\xff", b"two\nlines"])
def test_names_that_cannot_be_printed_are_refused(tmp_path, name):
    def field(number: int, content: bytes) -> bytes:
        return bytes([number << 3 | 2, len(content)]) + content

    tensor = field(1, b"\x01") + field(2, b"Float32") + field(3, b"\0\0\0\0")
    (tmp_path / "w.ckpt").write_bytes(field(1, field(1, name) + field(2, tensor)))
    with pytest.raises(ModelError, match="a parameter is called") as e:
        read_checkpoint(tmp_path / "w.ckpt")
    assert "\n" not in str(e.value)
