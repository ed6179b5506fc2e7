"""One pass over the images: who sees what, and images that cannot calibrate."""

import numpy as np
import pytest
from quant_tiny import tiny_images, tiny_transformer

from msedge.errors import DataError
from msedge.quantization.calibration import activations, calibrate, check_images
from msedge.quantization.observers import MinMax
from msedge.quantization.onnx_simulation import Simulation
from msedge.quantization.scheme import Scheme


def test_every_tensor_is_seen_once_for_each_image():
    graph, images = tiny_transformer(), tiny_images(3)
    names = ["input", "qkv/Gemm", "softmax", "logits"]
    seen = {n: [] for n in names}
    calibrate(graph, images, {n: seen[n].append for n in names})
    for name in names:
        expected = [Simulation(graph).tensors(x[None], [name])[name] for x in images]
        np.testing.assert_array_equal(np.stack(seen[name]), np.stack(expected))


def test_observers_of_different_schemes_learn_in_the_same_pass():
    graph, images = tiny_transformer(), tiny_images(4)
    whole, apart = MinMax(Scheme()), MinMax(Scheme(axis=-1))
    calibrate(graph, images, {"qkv/Gemm": lambda x: (whole.observe(x), apart.observe(x))})
    assert apart.high.shape == (24,) and apart.high.max() == whole.high[0] and apart.low.min() == whole.low[0]


def test_one_image_at_a_time_is_in_memory():
    graph, images = tiny_transformer(), tiny_images(3)
    runs = activations(graph, images, ["qkv/Gemm"])
    assert next(runs)["qkv/Gemm"].shape == (16, 24)
    assert len(list(runs)) == 2


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_numbers_that_are_not_finite_are_named_by_image(bad):
    images = tiny_images(5)
    images[3, 1, 2, 2] = bad
    with pytest.raises(DataError, match=r"calibration image 4 of 5 has (NaN|infinite)"):
        calibrate(tiny_transformer(), images, {})
        check_images(images)


def test_activations_that_are_not_finite_are_named_by_tensor_and_image():
    graph, images = tiny_transformer(), tiny_images(3)
    images[:, :, :, 0] = 1  # not all of one colour
    broken = graph.with_weights({"fc1.weight": np.full((12, 8), 3e38, np.float32)})
    with pytest.raises(DataError, match=r"the tensor 'fc1/Gemm' has (NaN|infinite numbers) for calibration image 1"):
        calibrate(broken, images, {n: lambda x: None for n in ("qkv/Gemm", "fc1/Gemm")})


def test_no_image_and_nothing_but_one_colour_are_refused():
    with pytest.raises(DataError, match="there are no calibration images"):
        check_images(tiny_images(0))
    black = np.full((3, 3, 8, 8), -2.1, np.float32)
    with pytest.raises(DataError, match="all 3 calibration images are of one colour"):
        check_images(black)
    with pytest.raises(DataError, match="the calibration image is of one colour"):
        check_images(black[:1])
    colours = black.copy()
    colours[:, 1] = 0.5  # one colour each, not grey
    with pytest.raises(DataError, match="one colour"):
        check_images(colours)
    colours[1, 1, 0, 0] = 0.6
    check_images(colours)
