import os
import struct
import threading
import zlib
from pathlib import Path

import numpy as np
import pytest

from msedge.data.images import read_image
from msedge.errors import DataError

GOOD = {
    "plain.jpg": 6,
    "progressive.jpg": 8,
    "cmyk.jpg": 8,
    "exif.jpg": 6,
    "trailing.jpg": 6,
    "plain.png": 0,
    "rgb16.png": 0,
    "palette.png": 40,
    "alpha.png": 0,
    "broken_profile.png": 0,
    "plain.webp": 0,
    "plain.bmp": 0,
    "plain.tiff": 0,
    "plain.ppm": 0,
    "animated.gif": 40,
    "animated.webp": 0,
    "animated.png": 0,
    "png_named.jpg": 0,
}
BAD = {
    "cut.jpg": "cut off",
    "cut_with_end.jpg": "damaged",
    "header_only.jpg": "cut off",
    "scrambled.jpg": "damaged",
    "cut.png": "cut off",
    "flipped.png": "checksum",
    "cut.gif": "cut off",
    "cut.webp": "cut off",
    "cut.bmp": "cut off",
    "zero.jpg": "empty",
    "text.jpg": "text, not an image",
    "page.png": "HTML",
    "noise.jpg": "known format",
    "phone.jpg": "HEIC",
}


def test_the_lists_cover_all_made_files(odd_files):
    assert {p.name for p in (odd_files / "good").iterdir()} == {*GOOD, "grey.jpg", "grey_alpha.png"}
    assert {p.name for p in (odd_files / "bad").iterdir()} == set(BAD)


@pytest.mark.parametrize(("name", "worst"), GOOD.items())
def test_odd_but_whole_files_give_the_right_pixels_in_silence(odd_files, picture, capfd, name, worst):
    image = read_image(odd_files / "good" / name)
    assert image.dtype == np.uint8
    assert image.shape == (120, 160, 3)
    difference = np.abs(image.astype(int) - picture(120, 160))
    assert np.mean(difference) <= worst / 2
    assert np.percentile(difference, 99) <= worst
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("name", ["grey.jpg", "grey_alpha.png"])
def test_grey_becomes_three_equal_channels(odd_files, picture, name):
    image = read_image(odd_files / "good" / name)
    assert image.shape == (120, 160, 3)
    assert np.ptp(image.astype(int), axis=2).max() == 0
    luma = picture(120, 160) @ [0.299, 0.587, 0.114]
    assert np.abs(image[..., 0] - luma).mean() < 3


@pytest.mark.parametrize(("name", "reason"), BAD.items())
def test_damaged_files_give_one_clear_line_and_no_noise(odd_files, capfd, name, reason):
    path = odd_files / "bad" / name
    with pytest.raises(DataError, match=reason) as e:
        read_image(path)
    assert str(path) in e.value.message
    assert "\n" not in str(e.value)
    assert capfd.readouterr() == ("", "")


def test_missing_file_and_folder_are_data_errors(tmp_path):
    with pytest.raises(DataError, match="no such file"):
        read_image(tmp_path / "none.jpg")
    with pytest.raises(DataError, match="directory"):
        read_image(tmp_path)


def png_header(width: int, height: int) -> bytes:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")


def test_huge_dimensions_are_refused_before_memory_is_taken(tmp_path, odd_files):
    (tmp_path / "huge.png").write_bytes(png_header(100_000, 100_000))
    with pytest.raises(DataError, match="100000 x 100000 pixels are too many"):
        read_image(tmp_path / "huge.png")
    jpeg = bytearray((odd_files / "good" / "plain.jpg").read_bytes())
    at = jpeg.index(b"\xff\xc0") + 5
    jpeg[at : at + 4] = b"\xff\xff\xff\xff"
    (tmp_path / "huge.jpg").write_bytes(bytes(jpeg))
    with pytest.raises(DataError, match="too many"):
        read_image(tmp_path / "huge.jpg")
    bmp = bytearray((odd_files / "good" / "plain.bmp").read_bytes())
    bmp[18:26] = struct.pack("<ii", 50_000, 50_000)
    (tmp_path / "huge.bmp").write_bytes(bytes(bmp))
    with pytest.raises(DataError, match="cannot be decoded"):
        read_image(tmp_path / "huge.bmp")


def test_a_png_without_pixels_is_refused(tmp_path):
    (tmp_path / "hollow.png").write_bytes(png_header(30, 20))
    with pytest.raises(DataError, match=r"damaged|cannot be decoded"):
        read_image(tmp_path / "hollow.png")


def test_what_others_write_to_stderr_meanwhile_is_passed_on(odd_files, capfd):
    going = threading.Event()

    def write():
        while not going.is_set():
            os.write(2, b"a line of somebody else\n")

    writer = threading.Thread(target=write)
    writer.start()
    for _ in range(20):
        with pytest.raises(DataError):
            read_image(odd_files / "bad" / "cut_with_end.jpg")
    going.set()
    writer.join()
    lines = capfd.readouterr().err.splitlines()
    assert set(lines) == {"a line of somebody else"}


def test_reading_works_without_a_standard_error(odd_files):
    saved = os.dup(2)
    os.close(2)
    try:
        shape = read_image(odd_files / "good" / "plain.jpg").shape
    finally:
        os.dup2(saved, 2)
        os.close(saved)
    assert shape == (120, 160, 3)


def test_trusted_reading_gives_the_same_pixels(odd_files):
    for name in GOOD:
        path = odd_files / "good" / name
        assert np.array_equal(read_image(path), read_image(path, trusted=True))


@pytest.mark.parametrize("name", [b"img_%03d.gif", b"http:x.gif", b"not\xffutf8.gif", b"not\xffutf8.jpg", b"two\nlines.png"])
def test_any_file_name_can_be_read(odd_files, tmp_path, name):
    path = Path(os.fsdecode(os.fsencode(tmp_path) + b"/" + name))
    source = "animated.gif" if path.suffix == ".gif" else f"plain{path.suffix}"
    path.write_bytes((odd_files / "good" / source).read_bytes())
    assert read_image(path).shape == (120, 160, 3)
