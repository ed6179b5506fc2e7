import io

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from msedge.data.headers import essential_png, read_header


def encoded(kind: str, **options) -> bytes:
    pixels = np.arange(40 * 30 * 3, dtype=np.uint32).reshape(30, 40, 3).astype(np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, kind, **options)
    return buffer.getvalue()


FILES = {kind: encoded(kind) for kind in ("JPEG", "PNG", "GIF", "BMP", "WEBP")}


@pytest.mark.parametrize("kind", FILES)
def test_whole_files_have_no_problem(kind):
    header = read_header(FILES[kind])
    assert header.format.upper() == kind
    assert header.problem == ""
    if kind in ("JPEG", "PNG", "GIF"):
        assert (header.width, header.height) == (40, 30)


@given(st.sampled_from(sorted(FILES)), st.floats(0, 0.9))
def test_cut_files_have_a_problem(kind, share):
    data = FILES[kind]
    assert read_header(data[: int(share * len(data))]).problem


@given(
    st.binary(max_size=200),
    st.sampled_from([b"", b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"GIF89a", b"RIFF", b"BM", b"II*\0", b"MM\0*"]),
)
def test_any_bytes_give_an_answer(data, start):
    header = read_header(start + data)
    assert header.format or header.problem


@given(st.sampled_from(sorted(FILES)), st.integers(0, 10_000), st.integers(0, 255))
def test_a_changed_byte_gives_an_answer(kind, at, value):
    data = bytearray(FILES[kind])
    data[at % len(data)] = value
    read_header(bytes(data))


def test_unusual_traits_are_named():
    buffer = io.BytesIO()
    Image.new("CMYK", (8, 8)).save(buffer, "JPEG")
    assert read_header(buffer.getvalue()).trait == "CMYK"
    for mode, trait in (("P", "palette"), ("RGBA", "alpha"), ("I;16", "16 bits"), ("RGB", "")):
        buffer = io.BytesIO()
        Image.new(mode, (8, 8)).save(buffer, "PNG")
        assert read_header(buffer.getvalue()).trait == trait


def test_essential_png_drops_what_does_not_change_pixels():
    data = encoded("PNG", icc_profile=b"profile" * 20)
    bare = essential_png(data)
    assert b"iCCP" in data
    assert b"iCCP" not in bare
    assert np.array_equal(Image.open(io.BytesIO(bare)), Image.open(io.BytesIO(data)))


def test_floating_point_tiffs_are_refused_in_either_byte_order_and_as_logluv(tmp_path):
    grey = np.linspace(0, 1, 1200, dtype=np.float32).reshape(30, 40)
    buffer = io.BytesIO()
    Image.fromarray(grey).save(buffer, "TIFF")
    assert "floating-point" in read_header(buffer.getvalue()).problem
    cv2.imwrite(str(tmp_path / "rgb.tiff"), np.repeat(grey[..., None], 3, axis=2))  # OpenCV stores LogLuv
    assert "floating-point" in read_header((tmp_path / "rgb.tiff").read_bytes()).problem
    entry = (339).to_bytes(2, "big") + (3).to_bytes(2, "big") + (1).to_bytes(4, "big") + (3).to_bytes(2, "big") + bytes(2)
    assert "floating-point" in read_header(b"MM\0*" + (8).to_bytes(4, "big") + (1).to_bytes(2, "big") + entry).problem
    assert read_header(encoded("TIFF")).problem == ""
