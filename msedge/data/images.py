"""Reading one image file: RGB uint8 whatever the file holds, or a DataError that says why not."""

from __future__ import annotations

import os
import re
import sys
import tempfile
import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np

from msedge.data.headers import Header, essential_png, read_header
from msedge.data.opencv import MAX_PIXELS, cv2
from msedge.errors import DataError

SUFFIXES = frozenset(
    {".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".bmp", ".webp", ".tif", ".tiff", ".gif", ".ppm", ".pgm", ".pnm"}
)
_DAMAGE = re.compile(rb"corrupt|premature|invalid|error|incomplete|not enough|truncat|unexpected", re.IGNORECASE)
_DECODER_TALK = re.compile(rb"jpeg|libpng|png|tiff|webp|gif|\[ WARN|\[ERROR|OpenCV|global ", re.IGNORECASE)
_stderr_lock = threading.Lock()


def read_image(path: Path | str, *, trusted: bool = False) -> np.ndarray:
    """Decode an image file to uint8 RGB [height, width, 3].

    EXIF rotation is applied, alpha is dropped, 16 bits become 8, CMYK and palettes become RGB, and of an animation the
    first frame is taken. A file that is cut off or damaged is refused, even where a decoder would fill the rest with
    grey: half an image is a wrong training example. What the decoders print is taken off the standard error and read
    for signs of damage. `trusted` skips both (for files that an earlier read accepted) and then runs in parallel.
    Raises DataError.
    """
    path = Path(path)
    try:
        data = path.read_bytes()
    except OSError as e:
        raise DataError(f"{path}: cannot be read: {(e.strerror or str(e)).lower()}") from None
    header = read_header(data)
    if header.problem:
        raise DataError(f"{path}: {header.problem}")
    if header.width * header.height > MAX_PIXELS:
        raise DataError(
            f"{path}: {header.width} x {header.height} pixels are too many (limit {MAX_PIXELS // 1_000_000} million)",
            "scale it down",
        )
    if trusted:
        image = _decode(data, header)
    else:
        image, talk = _decode_in_silence(lambda: _decode(data, header))
        if image is not None and _DAMAGE.search(talk):
            line = next(line for line in talk.decode(errors="replace").splitlines() if _DAMAGE.search(line.encode()))
            raise DataError(f"{path}: the {header.format} is damaged ({line.strip()})")
    if image is None:
        raise DataError(f"{path}: the {header.format} cannot be decoded (damaged, or a variant that OpenCV lacks)")
    return image


def _decode(data: bytes, header: Header) -> np.ndarray | None:
    try:
        if header.format == "GIF":
            bgr = _first_frame(data)
        else:
            data = essential_png(data) if header.format == "PNG" else data
            bgr = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
    except cv2.error:
        return None
    return None if bgr is None else cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB)


def _first_frame(gif: bytes) -> np.ndarray | None:
    """OpenCV's image codecs lack GIF in most builds; its video codecs have it, and read only files.

    The file is a copy: FFmpeg takes some names for patterns or addresses, and OpenCV crashes on undecodable ones.
    """
    with tempfile.NamedTemporaryFile(suffix=".gif") as copy:
        copy.write(gif)
        copy.flush()
        video = cv2.VideoCapture(copy.name, cv2.CAP_FFMPEG)
        try:
            return video.read()[1]
        finally:
            video.release()


def _decode_in_silence(decode: Callable[[], np.ndarray | None]) -> tuple[np.ndarray | None, bytes]:
    """Run `decode` with file descriptor 2 caught, since libjpeg and FFmpeg write there directly; return its words too.

    Lines of others that fall into the same moment are passed on. One at a time in a process.
    """
    with _stderr_lock, tempfile.TemporaryFile() as caught:
        if sys.stderr:
            sys.stderr.flush()
        try:
            real = os.dup(2)
        except OSError:  # the process has no standard error
            return decode(), b""
        try:
            os.dup2(caught.fileno(), 2)
            try:
                image = decode()
            finally:
                os.dup2(real, 2)
            caught.seek(0)
            lines = caught.read().splitlines(keepends=True)
            for line in lines:
                if not _DECODER_TALK.search(line) and not _DAMAGE.search(line):
                    os.write(real, line)
        finally:
            os.close(real)
    return image, b"".join(line for line in lines if _DECODER_TALK.search(line) or _DAMAGE.search(line))
