"""What the first bytes and the block structure of an image file say, before any decoder sees it.

Decoders differ in what they do with half a file: some refuse, some fill with grey, all print. A walk over the blocks
(JPEG: ITU T.81 annex B; PNG: W3C PNG section 5; GIF89a; WebP: RFC 9649) finds the common damage without decoding.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass

_PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_PNG_KEPT = {b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"IEND", b"eXIf"}
_PNG_COLOR_TYPES = {3: "palette", 4: "alpha", 6: "alpha"}
_JPEG_NO_LENGTH = {0x01, *range(0xD0, 0xD8)}
_JPEG_FRAMES = {0xC0, 0xC1, 0xC2, 0xC3, 0xC5, 0xC6, 0xC7, 0xC9, 0xCA, 0xCB, 0xCD, 0xCE, 0xCF}
_TIFF_FLOAT = {262: (32844, 32845), 339: (3, 6)}  # tag: values; PhotometricInterpretation LogL and LogLuv, SampleFormat
_FTYP_BRANDS = {b"heic": "HEIC", b"heix": "HEIC", b"mif1": "HEIF", b"avif": "AVIF", b"avis": "AVIF"}


@dataclass(frozen=True)
class Header:
    """`format` is '' where the bytes are no known image; `problem` is '' where the structure is whole."""

    format: str
    width: int = 0  # pixels, as stored; 0 where the walk does not tell
    height: int = 0
    problem: str = ""
    trait: str = ""  # what is unusual and taken care of: CMYK, 16 bits, palette, alpha


def read_header(data: bytes) -> Header:
    """Name the format of an image file's bytes, its size where cheap, and what is wrong with its structure."""
    if not data:
        return Header("", problem="the file is empty")
    if data.startswith(b"\xff\xd8\xff"):
        return _jpeg(data)
    if data.startswith(_PNG_SIGNATURE):
        return _png(data)
    if data[:6] in (b"GIF87a", b"GIF89a"):
        return _gif(data)
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        whole = len(data) >= 8 + int.from_bytes(data[4:8], "little")
        return Header("WebP", problem="" if whole else "the file is cut off")
    if data[:2] == b"BM" and len(data) >= 26:
        whole = len(data) >= int.from_bytes(data[2:6], "little")
        return Header("BMP", problem="" if whole else "the file is cut off")
    if data[:4] in (b"II*\0", b"MM\0*"):
        return _tiff(data)
    if data[:2] in (b"P1", b"P2", b"P3", b"P4", b"P5", b"P6") and data[2:3].isspace():
        return Header("PNM")
    return Header("", problem=_what_else(data))


def _tiff(data: bytes) -> Header:
    """Only the kind of numbers is looked at, in the first image's tags (TIFF 6.0 sections 2 and 19)."""
    order = "little" if data[:2] == b"II" else "big"
    at = int.from_bytes(data[4:8], order)
    for entry in range(at + 2, at + 2 + 12 * int.from_bytes(data[at : at + 2], order), 12):
        tag, many = (int.from_bytes(data[entry + i : entry + i + n], order) for i, n in ((0, 2), (4, 4)))
        where = entry + 8 if many <= 2 else int.from_bytes(data[entry + 8 : entry + 12], order)
        if int.from_bytes(data[where : where + 2], order) in _TIFF_FLOAT.get(tag, ()):
            return Header("TIFF", problem="floating-point pixels have no agreed range: store 8 or 16 bits")
    return Header("TIFF")


def _what_else(data: bytes) -> str:
    if data[4:8] == b"ftyp" and data[8:12] in _FTYP_BRANDS:
        return f"{_FTYP_BRANDS[data[8:12]]} images are not supported: convert them to JPEG or PNG"
    if data.lstrip()[:5].lower() in (b"<?xml", b"<svg ", b"<html", b"<!doc"):
        return "a text document (XML, SVG or HTML), not an image"
    if all(byte in b"\t\n\r\f" or byte >= 32 for byte in data[:256]):
        return "text, not an image"
    return "not an image of a known format"


def _jpeg(data: bytes) -> Header:
    width = height = 0
    trait = ""
    at = 2
    while at + 4 <= len(data):
        if data[at] != 0xFF:
            return Header("JPEG", width, height, "the JPEG's segments are damaged")
        marker = data[at + 1]
        if marker == 0xFF:  # fill byte
            at += 1
            continue
        if marker in _JPEG_NO_LENGTH:
            at += 2
            continue
        if marker == 0xD9:
            return Header("JPEG", width, height, "the JPEG holds no image data")
        length = int.from_bytes(data[at + 2 : at + 4], "big")
        if marker in _JPEG_FRAMES and at + 10 <= len(data):
            height, width = (int.from_bytes(data[at + i : at + i + 2], "big") for i in (5, 7))
            trait = "CMYK" if data[at + 9 : at + 10] == b"\x04" else ""
        at += 2 + length
        if marker == 0xDA:
            whole = data.find(b"\xff\xd9", at) >= 0
            problem = "" if whole else "the file is cut off (no end-of-image marker)"
            return Header("JPEG", width, height, problem, trait)
    return Header("JPEG", width, height, "the file is cut off (before the image data)")


def _png_chunks(data: bytes):
    at = len(_PNG_SIGNATURE)
    while at + 12 <= len(data):
        end = at + 12 + int.from_bytes(data[at : at + 4], "big")
        yield data[at + 4 : at + 8], data[at:end], end <= len(data)
        at = end


def _png(data: bytes) -> Header:
    width = height = 0
    trait = ""
    for kind, chunk, whole in _png_chunks(data):
        if not whole:
            break
        if kind in _PNG_KEPT and zlib.crc32(chunk[4:-4]) != int.from_bytes(chunk[-4:], "big"):
            return Header("PNG", width, height, f"the PNG is damaged (wrong checksum of {kind.decode()})")
        if kind == b"IHDR" and len(chunk) == 25:
            width, height = int.from_bytes(chunk[8:12], "big"), int.from_bytes(chunk[12:16], "big")
            trait = "16 bits" if chunk[16] == 16 else _PNG_COLOR_TYPES.get(chunk[17], "")
        if kind == b"IEND":
            return Header("PNG", width, height, trait=trait)
    return Header("PNG", width, height, "the file is cut off (no IEND)")


def essential_png(data: bytes) -> bytes:
    """Drop the chunks that do not change the first frame's pixels (profiles, text, animation)."""
    return _PNG_SIGNATURE + b"".join(chunk for kind, chunk, _ in _png_chunks(data) if kind in _PNG_KEPT)


def _gif(data: bytes) -> Header:
    """Whole means: up to the end of the first frame, which is the one that is used."""
    width, height = int.from_bytes(data[6:8], "little"), int.from_bytes(data[8:10], "little")
    at = 13 + (_gif_colors(data[10]) if len(data) > 10 else 0)
    while at < len(data):
        kind = data[at]
        if kind == 0x21:
            at = _gif_blocks_end(data, at + 2)
        elif kind == 0x2C and at + 9 < len(data):
            whole = _gif_blocks_end(data, at + 11 + _gif_colors(data[at + 9])) <= len(data)
            return Header("GIF", width, height, "" if whole else "the file is cut off (in the first frame)")
        else:
            return Header("GIF", width, height, "the GIF's blocks are damaged, or it holds no frame")
    return Header("GIF", width, height, "the file is cut off (before the first frame)")


def _gif_colors(flags: int) -> int:
    """Bytes of the colour table that `flags` announce."""
    return 3 << ((flags & 7) + 1) if flags & 0x80 else 0


def _gif_blocks_end(data: bytes, at: int) -> int:
    """Where a chain of sub-blocks that starts at `at` ends; beyond the data if it is cut."""
    while at < len(data) and data[at]:
        at += 1 + data[at]
    return at + 1
