"""Normalisations: a cell and its ONNX give the same."""

from __future__ import annotations

import pytest
from rule_cases import IMAGE, TOKENS, Cases

from msedge.mindspore_setup import load_mindspore

ms = load_mindspore()

from mindspore import mint, nn, ops  # noqa: E402

from msedge.errors import ExportError  # noqa: E402

cases = Cases()


@cases()
def l2_normalise(x):
    return ops.L2Normalize(axis=1)(x)


@pytest.mark.parametrize(("function", "shape", "range_"), cases.params)
def test_function(function, shape, range_, roundtrip):
    roundtrip(function, shape, **range_)


LAYERS = {
    "batch_norm": (lambda: nn.BatchNorm2d(6), IMAGE),
    "batch_norm_of_rows": (lambda: nn.BatchNorm1d(6), (4, 6)),
    "layer_norm": (lambda: nn.LayerNorm((6,)), TOKENS),
    "layer_norm_two_axes": (lambda: nn.LayerNorm((12, 6), begin_norm_axis=1, begin_params_axis=1), TOKENS),
    "group_norm": (lambda: nn.GroupNorm(3, 6), IMAGE),
    "group_norm_mint": (lambda: mint.nn.GroupNorm(2, 6), IMAGE),
    "group_norm_one": (lambda: nn.GroupNorm(1, 6), IMAGE),
}


@pytest.mark.parametrize("name", LAYERS)
def test_layer(name, roundtrip):
    make, shape = LAYERS[name]
    roundtrip(make(), shape, tolerance=5e-5)


# What has no kernel on a CPU is compared with something that has.


def _layer_norm_mint(x):
    return mint.nn.functional.layer_norm(x, (8,))


def _layer_norm_plain(x):
    return ops.LayerNorm(-1, -1, 1e-5)(x, ops.ones(8), ops.zeros(8))[0]


def _layer_norm_two_axes_mint(x):
    return mint.nn.functional.layer_norm(x, (8, 8))


def _layer_norm_two_axes(x):
    return ops.LayerNorm(2, 2, 1e-5)(x, ops.ones((8, 8)), ops.zeros((8, 8)))[0]


TWINS = {
    "layer_norm": (_layer_norm_mint, _layer_norm_plain),
    "layer_norm_two_axes": (_layer_norm_two_axes_mint, _layer_norm_two_axes),
}


@pytest.mark.parametrize("name", TWINS)
def test_function_without_a_cpu_kernel(name, check_twin):
    check_twin(*TWINS[name], IMAGE)


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
