import cv2
import numpy as np
import pytest

from msedge.data.folder import load_flat
from msedge.data.sheet import contact_sheet
from msedge.data.store import ImageStore, shrink

SHAPES = {(80, 120): (40, 60), (121, 80): (60, 40), (40, 90): (40, 90), (20, 30): (20, 30)}


@pytest.mark.parametrize(("shape", "shrunk"), SHAPES.items())
def test_shrink_keeps_the_aspect_and_never_enlarges(picture, shape, shrunk):
    assert shrink(picture(*shape), 40).shape[:2] == shrunk


def test_the_store_keeps_images_within_its_bytes(make_folder):
    paths = tuple(load_flat(make_folder({"a": 5})))
    one = 20 * 24 * 3
    store = ImageStore(paths, lambda image: shrink(image, 20), ram_bytes=3 * one)
    first = [store[i] for i in range(5)]
    again = [store[i] for i in range(5)]
    assert [a is b for a, b in zip(first, again, strict=True)] == [True, True, True, False, False]
    assert all(np.array_equal(a, b) for a, b in zip(first, again, strict=True))


def test_a_contact_sheet_shows_each_image_in_its_place(picture, tmp_path):
    paths = []
    for i, shape in enumerate([(64, 64), (32, 64), (64, 16)]):
        paths.append(tmp_path / f"{i}.png")
        cv2.imwrite(str(paths[-1]), picture(*shape, seed=i)[..., ::-1])
    (tmp_path / "broken.png").write_bytes(b"broken")
    contact_sheet([*paths, tmp_path / "broken.png"], tmp_path / "sheet.png", columns=2, tile=64)
    sheet = cv2.imread(str(tmp_path / "sheet.png"))[..., ::-1]
    assert sheet.shape == (128, 128, 3)
    assert np.array_equal(sheet[:64, :64], picture(64, 64, seed=0))
    assert np.array_equal(sheet[16:48, 64:], picture(32, 64, seed=1))
    assert (sheet[:16, 64:] == 255).all()
    assert (sheet[64:, 64:] == (200, 40, 40)).all()
