"""The golden test: every form of a Preprocess gives the same tensor.

Tolerance: one grey level (1/255, divided by std) at most and 0.3 levels on average against independent float arithmetic
(OpenCV rounds to uint8 after resizing with 11-bit weights); MindData and the converter's steps, which share OpenCV's
kernels, agree to 1e-5 in bilinear and area mode and to one level in bicubic.
"""

import json
import math

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from msedge.data.images import read_image
from msedge.data.preprocess import Preprocess
from msedge.errors import DataError

SHAPES = [(120, 160), (121, 159), (333, 500), (500, 333), (64, 64), (37, 300), (300, 41), (50, 51), (256, 256)]
FORMS = [
    Preprocess(64),
    Preprocess(64, crop_pct=0.875, mean=(0, 0, 0), std=(1, 1, 1)),
    Preprocess(73, crop_pct=0.9, interpolation="bicubic"),
    Preprocess(64, resize="squash", channel_order="BGR", mean=(0.1, 0.5, 0.9), std=(0.2, 0.3, 0.4)),
    Preprocess(48, interpolation="area"),
    Preprocess(96, resize="squash", interpolation="bicubic"),
]
ids = [f"{p.resize}-{p.interpolation}-{p.size}" for p in FORMS]


def kernel_matrix(source: int, target: int, step: dict) -> np.ndarray:
    """[target, source] weights of a resize as the JSON for the app describes it, from the formulas."""
    weights = np.zeros((target, source))
    scale = source / target
    for i in range(target):
        if step["interpolation"] == "area" and scale > 1:
            low, high = i * scale, (i + 1) * scale
            for j in range(math.floor(low), min(source, math.ceil(high))):
                weights[i, j] += (min(high, j + 1) - max(low, j)) / scale
            continue
        centre = (i + 0.5) * scale - 0.5
        first = math.floor(centre)
        for j in range(first - 1, first + 3):
            d = abs(centre - j)
            if step["interpolation"] == "bicubic":
                a = step["cubic_a"]
                w = ((a + 2) * d - (a + 3)) * d * d + 1 if d <= 1 else ((d - 5) * d + 8) * a * d - 4 * a if d < 2 else 0
            else:
                w = max(0.0, 1 - d)
            weights[i, min(max(j, 0), source - 1)] += w
    return weights


def follow_json(text: str, image: np.ndarray) -> np.ndarray:
    """What an app does with the JSON: float arithmetic, nothing of OpenCV."""
    steps = json.loads(text)
    resize, crop = steps["resize"], steps["center_crop"]
    height, width = image.shape[:2]
    if resize["mode"] == "both_sides":
        size = resize["pixels"], resize["pixels"]
    else:
        shorter = min(height, width)
        size = resize["pixels"] * height // shorter, resize["pixels"] * width // shorter
    rows, columns = kernel_matrix(height, size[0], resize), kernel_matrix(width, size[1], resize)
    out = np.clip(np.einsum("ih,hwc,jw->ijc", rows, image.astype(float), columns, optimize=True), 0, 255)
    top, left = (size[0] - crop["height"]) // 2, (size[1] - crop["width"]) // 2
    out = out[top : top + crop["height"], left : left + crop["width"]]
    if steps["channel_order"] == "BGR":
        out = out[..., ::-1]
    assert steps["layout"] == "NHWC"
    return (out * steps["scale"] + steps["bias"]).transpose(2, 0, 1)


def follow_section(section: dict[str, str], path) -> np.ndarray:
    """What the converter does with an IMAGE section."""
    image = cv2.imread(str(path))
    if section["image_to_format"] == "RGB":
        image = cv2.cvtColor(image, cv2.COLOR_BGR2RGB)
    method = {"LINEAR": cv2.INTER_LINEAR, "CUBIC": cv2.INTER_CUBIC}[section["resize_method"]]
    image = cv2.resize(image, (int(section["resize_width"]), int(section["resize_height"])), interpolation=method)
    if "center_crop_width" in section:
        h, w = int(section["center_crop_height"]), int(section["center_crop_width"])
        top, left = (image.shape[0] - h) // 2, (image.shape[1] - w) // 2
        image = image[top : top + h, left : left + w]
    mean, std = (np.array(json.loads(section[f"normalize_{k}"])) for k in ("mean", "std"))
    return ((image - mean) / std).transpose(2, 0, 1)


def levels(preprocess: Preprocess, a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """The difference of two tensors in grey levels."""
    return np.abs(a - b) * np.array(preprocess.std)[:, None, None] * 255


@pytest.fixture(scope="module")
def minddata():
    """Run MindData's transforms one after the other, eagerly."""

    def run(preprocess: Preprocess, image: np.ndarray) -> np.ndarray:
        for transform in preprocess.to_minddata():
            image = transform(image)
        return image

    return run


@pytest.mark.parametrize("preprocess", FORMS, ids=ids)
def test_opencv_minddata_and_json_agree_on_made_images(preprocess, picture, minddata):
    for seed, shape in enumerate(SHAPES):
        image = picture(*shape, seed=seed)
        tensor = preprocess(image)
        assert tensor.dtype == np.float32
        assert tensor.shape == (3, preprocess.size, preprocess.size)
        by_minddata = minddata(preprocess, image)
        assert by_minddata.dtype == np.float32
        worst = 1.01 if preprocess.interpolation == "bicubic" else 1e-3
        assert levels(preprocess, tensor, by_minddata).max() < worst, shape
        if preprocess.interpolation == "area" and min(shape) < preprocess.size:
            continue  # OpenCV's own rule, see to_json
        by_json = levels(preprocess, tensor, follow_json(preprocess.to_json(), image))
        assert by_json.max() < 1.01, shape
        assert by_json.mean() < 0.3, shape


@pytest.mark.realdata
@pytest.mark.parametrize("preprocess", FORMS, ids=ids)
def test_all_forms_agree_on_photos(preprocess, pets, minddata):
    for path in [*sorted((pets / "val/cat").iterdir())[:3], *sorted((pets / "val/dog").iterdir())[:3]]:
        image = read_image(path)
        tensor = preprocess(image)
        assert levels(preprocess, tensor, minddata(preprocess, image)).max() < 1.01
        assert levels(preprocess, tensor, follow_json(preprocess.to_json(), image)).max() < 1.01
        if preprocess.interpolation != "area":
            section = preprocess.to_converter_section("photos", 6, input_name="x", input_type="IMAGE")
            assert levels(preprocess, tensor, follow_section(section, path)).max() < 0.01


@pytest.mark.parametrize("preprocess", [p for p in FORMS if p.interpolation != "area"])
def test_the_converters_image_section_is_exact_where_the_docs_say_so(preprocess, picture, tmp_path):
    for shape in SHAPES:
        cv2.imwrite(str(tmp_path / "a.png"), picture(*shape)[..., ::-1])
        section = preprocess.to_converter_section(tmp_path, 1, input_name="x", input_type="IMAGE")
        difference = levels(preprocess, preprocess(picture(*shape)), follow_section(section, tmp_path / "a.png")).max()
        if preprocess.resize == "squash" or shape[0] == shape[1]:
            assert difference < 0.01
        elif max(shape) > 2 * min(shape):
            assert difference > 5  # a photo that is not square is squashed by the converter


def test_the_bin_section_names_input_and_folder():
    section = Preprocess(64).to_converter_section("calib", 8, input_name="image")
    assert section == {"calibrate_path": "image:calib", "calibrate_size": "8", "input_type": "BIN"}


def test_area_cannot_be_given_to_the_converter():
    with pytest.raises(DataError, match="area"):
        Preprocess(64, interpolation="area").to_converter_section("d", 1, input_name="x", input_type="IMAGE")
    with pytest.raises(DataError, match="input_type"):
        Preprocess(64).to_converter_section("d", 1, input_name="x", input_type="PNG")


def test_batch_takes_paths_and_images(picture, tmp_path):
    preprocess = Preprocess(32)
    cv2.imwrite(str(tmp_path / "a.png"), picture(50, 60)[..., ::-1])
    batch = preprocess.batch([tmp_path / "a.png", picture(50, 60), str(tmp_path / "a.png")])
    assert batch.shape == (3, 3, 32, 32)
    assert batch.flags.c_contiguous
    assert np.array_equal(batch[0], batch[1])
    assert np.array_equal(batch[0], batch[2])
    assert preprocess.batch([]).shape == (0, 3, 32, 32)


def test_a_thread_of_an_image_does_not_fill_the_memory():
    thin = np.zeros((2, 60_000, 3), np.uint8)
    thin[:, 29_900:30_100] = 255
    tensor = Preprocess(128, mean=(0, 0, 0), std=(1, 1, 1))(thin)
    assert tensor.min() == 1.0


@given(
    size=st.integers(1, 4096),
    resize=st.sampled_from(["crop", "squash"]),
    crop_pct=st.floats(0.1, 1),
    interpolation=st.sampled_from(["bilinear", "bicubic", "area"]),
    order=st.sampled_from(["RGB", "BGR"]),
    mean=st.tuples(*[st.floats(-2, 2)] * 3),
    std=st.tuples(*[st.floats(1e-3, 9)] * 3),
)
def test_to_dict_survives_json(size, resize, crop_pct, interpolation, order, mean, std):
    preprocess = Preprocess(size, resize, crop_pct, interpolation, order, mean, std)
    assert Preprocess.from_dict(json.loads(json.dumps(preprocess.to_dict()))) == preprocess
    assert preprocess.resize_side >= size


@given(st.integers(1, 60), st.integers(1, 60), st.sampled_from(FORMS))
def test_any_shape_of_image_gives_the_tensors_shape(height, width, preprocess):
    tensor = preprocess(np.full((height, width, 3), 255, np.uint8))
    assert tensor.shape == (3, preprocess.size, preprocess.size)
    white = (1 - np.array(preprocess.mean)) / np.array(preprocess.std)
    assert np.allclose(tensor, white[:, None, None], atol=1e-5)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"size": 64, "colour": "RGB"}, "unknown key 'colour'"),
        ({"resize": "crop"}, "size is missing"),
        ({"size": "64"}, "size is '64'"),
        ({"size": True}, "size is True"),
        ({"size": 0}, "size is 0"),
        ({"size": 64, "resize": "stretch"}, "resize is 'stretch'"),
        ({"size": 64, "crop_pct": "big"}, "wrong type"),
        ({"size": 64, "crop_pct": 1.5}, "crop_pct is 1.5"),
        ({"size": 64, "mean": [0.5, 0.5]}, "three"),
        ({"size": 64, "mean": 0.5}, "wrong type"),
        ({"size": 64, "std": [1, 0, 1]}, "std is"),
        ({"size": 64, "mean": [0, float("nan"), 0]}, "finite"),
        ({"size": 64, "channel_order": "GBR"}, "channel_order"),
        ([64], "a table is needed"),
    ],
)
def test_impossible_values_are_refused(values, message):
    with pytest.raises(DataError, match=message):
        Preprocess.from_dict(values)


@pytest.mark.parametrize("image", [np.zeros((5, 5), np.uint8), np.zeros((5, 5, 3)), np.zeros((0, 5, 3), np.uint8)])
def test_what_is_no_uint8_rgb_image_is_refused(image):
    with pytest.raises(DataError, match="uint8"):
        Preprocess(8)(image)
