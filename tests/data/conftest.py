"""Images and folders made by code for the tests of msedge.data."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image


@pytest.fixture(autouse=True)
def own_cache(tmp_path_factory, monkeypatch) -> Path:
    """Every test has its own user cache."""
    folder = tmp_path_factory.mktemp("cache")
    monkeypatch.setenv("MSEDGE_CACHE", str(folder))
    return folder


def _picture(height: int, width: int, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 256, (max(2, height // 16 + 2), max(2, width // 16 + 2), 3), dtype=np.uint8)
    return cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC)


@pytest.fixture(scope="session")
def picture() -> Callable[..., np.ndarray]:
    """picture(height, width, seed=0): a smooth colourful uint8 RGB image [height, width, 3]."""
    return _picture


@pytest.fixture(scope="session")
def odd_files(tmp_path_factory) -> Path:
    """A folder with readable oddities in good/ and unreadable ones in bad/; each good one is 120 high and 160 wide."""
    root = tmp_path_factory.mktemp("odd")
    good, bad = root / "good", root / "bad"
    good.mkdir()
    bad.mkdir()
    pixels = _picture(120, 160)
    image = Image.fromarray(pixels)

    image.save(good / "plain.jpg", quality=95)
    image.save(good / "progressive.jpg", progressive=True, quality=95)
    image.convert("CMYK").save(good / "cmyk.jpg", quality=95)
    image.convert("L").save(good / "grey.jpg", quality=95)
    rotated = Image.Exif()
    rotated[0x112] = 6  # stored turned to the left: show turned to the right
    image.transpose(Image.Transpose.ROTATE_90).save(good / "exif.jpg", exif=rotated, quality=95)
    (good / "trailing.jpg").write_bytes((good / "plain.jpg").read_bytes() + b"appended" * 9)
    image.save(good / "plain.png")
    cv2.imwrite(str(good / "rgb16.png"), pixels[..., ::-1].astype(np.uint16) * 257)
    image.quantize(256).save(good / "palette.png")
    image.convert("LA").save(good / "grey_alpha.png")
    with_alpha = image.convert("RGBA")
    with_alpha.putalpha(90)
    with_alpha.save(good / "alpha.png")
    image.save(good / "broken_profile.png", icc_profile=b"no profile" * 9)
    image.save(good / "plain.webp", lossless=True)
    image.save(good / "plain.bmp")
    image.save(good / "plain.tiff")
    image.save(good / "plain.ppm")
    frames = [image, image.rotate(90), image.rotate(180)]
    image.save(good / "animated.gif", save_all=True, append_images=frames[1:], duration=50)
    image.save(good / "animated.webp", save_all=True, append_images=frames[1:], lossless=True)
    image.save(good / "animated.png", save_all=True, append_images=frames[1:])
    (good / "png_named.jpg").write_bytes((good / "plain.png").read_bytes())

    jpeg, png = (good / "plain.jpg").read_bytes(), (good / "plain.png").read_bytes()
    (bad / "cut.jpg").write_bytes(jpeg[: len(jpeg) // 2])
    (bad / "cut_with_end.jpg").write_bytes(jpeg[: len(jpeg) // 2] + b"\xff\xd9")
    (bad / "header_only.jpg").write_bytes(jpeg[:80])
    scrambled = bytearray(jpeg)
    scrambled[len(jpeg) // 2 : len(jpeg) // 2 + 80] = bytes(range(1, 81))
    (bad / "scrambled.jpg").write_bytes(bytes(scrambled))
    (bad / "cut.png").write_bytes(png[: len(png) // 2])
    flipped = bytearray(png)
    flipped[len(png) // 2] ^= 0xFF
    (bad / "flipped.png").write_bytes(bytes(flipped))
    gif = (good / "animated.gif").read_bytes()
    (bad / "cut.gif").write_bytes(gif[: len(gif) // 5])
    (bad / "cut.webp").write_bytes((good / "plain.webp").read_bytes()[:400])
    (bad / "cut.bmp").write_bytes((good / "plain.bmp").read_bytes()[:400])
    (bad / "zero.jpg").touch()
    (bad / "text.jpg").write_text("this is not a picture\n" * 5)
    (bad / "page.png").write_text("<!DOCTYPE html><html><body>404</body></html>")
    (bad / "noise.jpg").write_bytes(bytes([0, 1, 2, 200]) * 100)
    (bad / "phone.jpg").write_bytes(b"\0\0\0\x18ftypheic" + bytes(64))
    return root


MakeFolder = Callable[..., Path]


@pytest.fixture
def make_folder(tmp_path) -> MakeFolder:
    """make_folder({"train/cat": 5, ...}) writes small PNG images, each different, and returns the root."""

    def make(counts: dict[str, int], name: str = "images", height: int = 40, width: int = 48) -> Path:
        root = tmp_path / name
        for k, (folder, n) in enumerate(counts.items()):
            (root / folder).mkdir(parents=True)
            for i in range(n):
                cv2.imwrite(str(root / folder / f"{i:03d}.png"), _picture(height, width, seed=1000 * k + i)[..., ::-1])
        return root

    return make
