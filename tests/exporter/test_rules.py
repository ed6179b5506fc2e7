"""Each rule: a small cell, its ONNX in onnxruntime, and the cell itself give the same."""

from __future__ import annotations

import numpy as np
import pytest

from msedge.mindspore_setup import load_mindspore

ms = load_mindspore()

from mindspore import mint, nn, ops  # noqa: E402

from msedge.errors import ExportError  # noqa: E402
from msedge.exporter.check import check_structure, run_onnx  # noqa: E402

IMAGE = (2, 6, 8, 8)
TOKENS = (2, 12, 6)
_FUNCTIONS = []


def case(shape=IMAGE, **range_):
    """Register a function of x under its name."""

    def register(function):
        _FUNCTIONS.append(pytest.param(function, shape, range_, id=function.__name__))
        return function

    return register


# activations


@case()
def relu(x):
    return ops.relu(x)


@case()
def relu6(x):
    return ops.relu6(x * 4)


@case()
def silu(x):
    return ops.silu(x)


@case()
def gelu_tanh(x):
    return ops.gelu(x, approximate="tanh")


@case()
def gelu_erf(x):
    return ops.gelu(x, approximate="none")


@case()
def quick_gelu(x):
    return x * ops.sigmoid(1.702 * x)


@case()
def hswish(x):
    return ops.hardswish(x * 3)


@case()
def hsigmoid(x):
    return ops.hardsigmoid(x * 3)


@case()
def leaky_relu(x):
    return ops.leaky_relu(x, 0.1)


@case()
def elu(x):
    return ops.elu(x)


@case()
def softplus(x):
    return ops.softplus(x)


@case()
def mish(x):
    return ops.mish(x)


@case(TOKENS)
def softmax_last(x):
    return ops.softmax(x, -1)


@case()
def softmax_channels(x):
    return ops.softmax(x, 1)


@case(TOKENS)
def log_softmax(x):
    return ops.log_softmax(x, -1)


# arithmetic


@case(low=0.1, high=2)
def roots_and_logs(x):
    return ops.log(x) + ops.sqrt(x) * ops.rsqrt(x + 1) - ops.exp(-x) + ops.reciprocal(x)


@case()
def waves(x):
    return ops.sin(x) * ops.cos(x) + ops.tanh(x) - ops.erf(x)


@case()
def rounding(x):
    return ops.floor(x) + ops.abs(x) - ops.neg(x) + ops.square(x) + ops.sign(x) + ops.ceil(x)


@case()
def numbers_on_both_sides(x):
    return (2 - x) * 3 + x / 4 - 1 / (x + 10) + x**2


@case()
def whole_numbers_with_floats(x):
    return x * 2 + 3


@case(low=0.1, high=3)
def power_of_a_number(x):
    return ops.pow(x, 1.5) + ops.pow(2.0, x)


@case()
def extremes(x):
    return ops.maximum(x, x * 0.5) + ops.minimum(x, 0.3) + ops.clamp(x, -0.5, 0.7)


@case()
def comparisons(x):
    return ops.select(x > 0.1, x, -x) + ops.where(ops.logical_and(x < 1, x >= -1), x * 2, x * 3)


@case()
def equalities(x):
    y = ops.floor(x)
    return ops.cast(y == 0, ms.float32) + ops.cast(y != 1, ms.float32) * 2 + ops.cast(ops.logical_not(x <= 0), ms.float32) * 4


@case()
def masked(x):
    return ops.masked_fill(x, x > 0.5, -3.0)


@case()
def floor_division(x):
    return ops.floor_div(x * 5, 2.0) + ops.floor_mod(x * 5, 3.0)


@case()
def scaled_sum(x):
    return mint.add(x, x * x, alpha=0.5) + mint.sub(x, x * x, alpha=2)


@case()
def many_terms(x):
    return ops.addn((x, x * 2, x * x))


@case()
def through_half(x):
    return ops.cast(ops.cast(x, ms.float16), ms.float32)


@case()
def in_place_addition(x):
    y = ops.relu(x)
    y += x
    return y


# shapes


@case()
def reshapes(x):
    return x.reshape(2, 6, -1).transpose(0, 2, 1).reshape(-1, 6).expand_dims(1).squeeze(1)


@case()
def flatten(x):
    return ops.flatten(x, start_dim=1) + x.reshape(2, -1)


@case()
def swaps(x):
    return x.swapaxes(-1, -2) + x.permute(0, 1, 3, 2) * 2


@case()
def concat_and_stack(x):
    y = ops.concat((x, x * 2, x * 3), axis=1)
    return ops.stack((y, y * 2), axis=1)


@case()
def split_even(x):
    a, b, c = ops.split(x, 2, axis=1)
    return a * b - c


@case()
def split_uneven(x):
    a, b = ops.split(x, (2, 4), axis=1)
    return b + a.mean(1, keep_dims=True)


@case()
def chunk(x):
    a, b = mint.chunk(x, 2, 1)
    return a / (b + 5)


@case()
def unstack(x):
    a, b = ops.unbind(x, 0)
    return a * 2 - b


@case()
def broadcast(x):
    return ops.broadcast_to(x.mean((2, 3), keep_dims=True), (2, 6, 3, 5)) + ops.tile(x[:, :, :1, :1], (1, 1, 3, 5))


@case()
def pads(x):
    return ops.pad(x, (1, 2, 3, 0)) + ops.pad(x, (2, 1, 0, 3), value=1.5)


@case()
def rolls(x):
    y = ops.concat((x[:, :, 3:], x[:, :, :3]), 2)
    return ops.concat((y[:, :, :, -2:], y[:, :, :, :-2]), 3)


# selection


@case()
def slices(x):
    return x[:, 1:5, ::2, -6:-2] + x[:, 2:, 1::2, :4]


@case()
def one_index(x):
    return x[1, :, 2] + x[0, :, -1] * 2


@case()
def negative_bounds(x):
    return x[:, -5:-1, :-3, 3:]


@case()
def gathers(x):
    return ops.gather(x, ms.Tensor([0, 3, 3, 5]), 1) + ops.index_select(x, 1, ms.Tensor([5, 0, 1, 1]))


@case()
def gather_elements(x):
    return ops.gather_elements(x, 1, ms.Tensor(np.arange(2 * 3 * 8 * 8).reshape(2, 3, 8, 8) % 6))


@case()
def flips(x):
    return ops.flip(x, (2, 3)) + mint.flip(x, (1,))


@case()
def narrow(x):
    return ops.narrow(x, 1, 2, 3) + mint.narrow(x, 1, 0, 3)


@case()
def select_one(x):
    return mint.select(x, 1, 2) + mint.select(x, 1, -1)


# reductions


@case()
def mean_of_pixels(x):
    return x.mean((2, 3))


@case()
def mean_of_pixels_kept(x):
    return x * ops.mean(x, (2, 3), keep_dims=True)


@case()
def mean_of_channels(x):
    return ops.mean(x, 1) + mint.mean(x, 1)


@case()
def sums(x):
    return ops.sum(x, -1) + mint.sum(x, dim=-1)


@case()
def sum_of_all(x):
    return x.sum().reshape(1)


@case()
def largest_and_smallest(x):
    return ops.amax(x, 1) - ops.amin(x, 1) + mint.amax(x, 1)


@case()
def cumulative(x):
    return ops.cumsum(x, 2)


@case()
def largest_with_place(x):
    place, value = ops.ArgMaxWithValue(1)(x)
    return value + ops.cast(place, ms.float32)


# matrix products


@case(TOKENS)
def products(x):
    return ops.matmul(x, x.swapaxes(-1, -2)) + mint.bmm(x, x.swapaxes(1, 2))


@case(TOKENS)
def product_transposed(x):
    return ops.BatchMatMul(transpose_b=True)(x, x) + ops.BatchMatMul(transpose_a=True)(x.swapaxes(1, 2), x.swapaxes(1, 2))


@case(TOKENS)
def product_of_matrices(x):
    a = x.reshape(-1, 6)
    return ops.MatMul(transpose_b=True)(a, a) + ops.matmul(a, a.transpose())


# norms and pools without weights


@case()
def l2_normalise(x):
    return ops.L2Normalize(axis=1)(x)


@case()
def average_pool_same(x):
    return ops.AvgPool(3, 1, "same")(x)


@case((2, 6, 9, 9))
def average_pool_same_odd(x):
    return ops.AvgPool(3, 2, "same")(x)


@case()
def max_pool(x):
    return ops.MaxPool(3, 2, "same")(x) + ops.MaxPool(2, 2)(x)


# resizing


@case()
def bilinear(x):
    return ops.interpolate(x, size=(16, 20), mode="bilinear")


@case()
def bilinear_corners(x):
    return ops.interpolate(x, size=(5, 13), mode="bilinear", align_corners=True)


@case()
def nearest(x):
    return ops.ResizeNearestNeighbor((16, 24))(x)


@pytest.mark.parametrize(("function", "shape", "range_"), _FUNCTIONS)
def test_function(function, shape, range_, roundtrip):
    roundtrip(function, shape, **range_)


LAYERS = {
    "conv": (lambda: nn.Conv2d(6, 8, 3, has_bias=True), IMAGE),
    "conv_stride_same_odd": (lambda: nn.Conv2d(6, 8, 3, stride=2), (1, 6, 9, 8)),
    "conv_padding": (lambda: nn.Conv2d(6, 8, 5, stride=2, pad_mode="pad", padding=(1, 2, 3, 0)), IMAGE),
    "conv_valid_dilated": (lambda: nn.Conv2d(6, 8, 3, pad_mode="valid", dilation=2), IMAGE),
    "conv_grouped": (lambda: nn.Conv2d(6, 12, 3, group=3), IMAGE),
    "conv_depthwise": (lambda: nn.Conv2d(6, 6, 3, group=6, has_bias=True), IMAGE),
    "dense": (lambda: nn.Dense(6, 5), (3, 6)),
    "dense_without_bias": (lambda: nn.Dense(6, 5, has_bias=False), (3, 6)),
    "dense_on_tokens": (lambda: nn.Dense(6, 5), TOKENS),
    "dense_on_images": (lambda: nn.Dense(8, 5), IMAGE),
    "linear": (lambda: mint.nn.Linear(6, 5), (3, 6)),
    "linear_on_tokens": (lambda: mint.nn.Linear(6, 5), TOKENS),
    "linear_without_bias": (lambda: mint.nn.Linear(6, 5, bias=False), TOKENS),
    "batch_norm": (lambda: nn.BatchNorm2d(6), IMAGE),
    "batch_norm_of_rows": (lambda: nn.BatchNorm1d(6), (4, 6)),
    "layer_norm": (lambda: nn.LayerNorm((6,)), TOKENS),
    "layer_norm_two_axes": (lambda: nn.LayerNorm((12, 6), begin_norm_axis=1, begin_params_axis=1), TOKENS),
    "group_norm": (lambda: nn.GroupNorm(3, 6), IMAGE),
    "group_norm_mint": (lambda: mint.nn.GroupNorm(2, 6), IMAGE),
    "group_norm_one": (lambda: nn.GroupNorm(1, 6), IMAGE),
    "prelu": (lambda: nn.PReLU(6), IMAGE),
    "average_pool": (lambda: nn.AvgPool2d(2, 2), IMAGE),
    "average_pool_padding": (lambda: nn.AvgPool2d(3, 2, pad_mode="pad", padding=1), IMAGE),
    "average_pool_uncounted": (lambda: nn.AvgPool2d(3, 2, pad_mode="pad", padding=1, count_include_pad=False), IMAGE),
    "max_pool_padding": (lambda: nn.MaxPool2d(3, 2, pad_mode="pad", padding=1), IMAGE),
}


@pytest.mark.parametrize("name", LAYERS)
def test_layer(name, roundtrip):
    make, shape = LAYERS[name]
    roundtrip(make(), shape, tolerance=5e-5)


# What has no kernel on a CPU is compared with something that has.


def _gelu_mint(x):
    return mint.nn.functional.gelu(x)


def _gelu_mint_tanh(x):
    return mint.nn.functional.gelu(x, approximate="tanh")


def _layer_norm_mint(x):
    return mint.nn.functional.layer_norm(x, (8,))


def _layer_norm_plain(x):
    return ops.LayerNorm(-1, -1, 1e-5)(x, ops.ones(8), ops.zeros(8))[0]


def _layer_norm_two_axes_mint(x):
    return mint.nn.functional.layer_norm(x, (8, 8))


def _layer_norm_two_axes(x):
    return ops.LayerNorm(2, 2, 1e-5)(x, ops.ones((8, 8)), ops.zeros((8, 8)))[0]


def _average_pool_mint(x):
    return mint.nn.functional.avg_pool2d(x, 3, 2, 1)


def _average_pool(x):
    return ops.avg_pool2d(x, 3, 2, 1)


def _max_pool_mint(x):
    return mint.nn.functional.max_pool2d(x, 3, 2, 1)


def _max_pool(x):
    return ops.max_pool2d(x, 3, 2, 1)


def _adaptive_mint(x):
    return mint.nn.functional.adaptive_avg_pool2d(x, 4)


def _adaptive(x):
    return ops.avg_pool2d(x, 2, 2)


def _adaptive_one_mint(x):
    return mint.nn.functional.adaptive_avg_pool2d(x, 1)


def _adaptive_one(x):
    return ops.mean(x, (2, 3), keep_dims=True)


def _pad_mint(x):
    return mint.nn.functional.pad(x, (1, 0, 2, 3), value=2.0)


def _pad(x):
    return ops.pad(x, (1, 0, 2, 3), value=2.0)


def _bilinear_mint(x):
    return mint.nn.functional.interpolate(x, size=(5, 11), mode="bilinear")


def _bilinear(x):
    return ops.interpolate(x, size=(5, 11), mode="bilinear")


def _index_mint(x):
    return mint.index_select(x, 1, ms.Tensor([5, 0, 1]))


def _index(x):
    return ops.gather(x, ms.Tensor([5, 0, 1]), 1)


def _conv_mint(x):
    return mint.nn.functional.conv2d(x, mint.ones((4, 6, 3, 3)), None, 2, 1)


def _conv(x):
    return ops.Conv2D(4, 3, pad_mode="pad", pad=1, stride=2)(x, ops.ones((4, 6, 3, 3)))


def _conv_same_mint(x):
    return mint.nn.functional.conv2d(x, mint.ones((4, 6, 3, 3)), padding="same")


def _conv_same(x):
    return ops.Conv2D(4, 3, pad_mode="same")(x, ops.ones((4, 6, 3, 3)))


def _remainders_mint(x):
    return mint.remainder(x, 0.7) + mint.floor_divide(x, 0.7)


def _remainders(x):
    return ops.floor_mod(x, 0.7) + ops.floor_div(x, 0.7)


def _relu6_mint(x):
    return mint.nn.functional.relu6(x)


TWINS = {
    "gelu": (_gelu_mint, gelu_erf),
    "gelu_tanh": (_gelu_mint_tanh, gelu_tanh),
    "layer_norm": (_layer_norm_mint, _layer_norm_plain),
    "layer_norm_two_axes": (_layer_norm_two_axes_mint, _layer_norm_two_axes),
    "average_pool": (_average_pool_mint, _average_pool),
    "max_pool": (_max_pool_mint, _max_pool),
    "adaptive_pool": (_adaptive_mint, _adaptive),
    "adaptive_pool_one": (_adaptive_one_mint, _adaptive_one),
    "pad": (_pad_mint, _pad),
    "bilinear": (_bilinear_mint, _bilinear),
    "index": (_index_mint, _index),
    "conv": (_conv_mint, _conv),
    "conv_same": (_conv_same_mint, _conv_same),
    "remainders": (_remainders_mint, _remainders),
    "relu6": (_relu6_mint, ops.relu6),
}


@pytest.mark.parametrize("name", TWINS)
def test_function_without_a_cpu_kernel(name, to_onnx):
    function, twin = TWINS[name]
    model = to_onnx(function, IMAGE)
    check_structure(model)
    x = np.random.default_rng(1).uniform(-2, 2, IMAGE).astype(np.float32)
    expected = twin(ms.Tensor(x)).asnumpy()
    assert np.ptp(expected) > 0
    np.testing.assert_allclose(run_onnx(model, x), expected, rtol=1e-5, atol=2e-5)


def test_batch_statistics_are_refused(to_onnx):
    class Training(nn.Cell):
        def __init__(self):
            super().__init__()
            self.norm = ops.BatchNorm(is_training=True)
            for name in ("scale", "bias", "mean", "variance"):
                setattr(self, name, ms.Parameter(ms.ops.ones(3), name=name))

        def construct(self, x):
            return self.norm(x, self.scale, self.bias, self.mean, self.variance)[0]

    with pytest.raises(ExportError, match=r"BatchNorm in .*batch statistics \(call set_train\(False\)"):
        to_onnx(Training(), (2, 3, 4, 4))
