from __future__ import annotations

import math

import numpy as np
import pytest
from families import FAMILIES, images, small

from msedge.mindspore_setup import load_mindspore
from msedge.models import drop_path_sites, state
from msedge.models.layers import BatchNorm2d, Conv2d, DropPath, Gelu, LayerNorm, Linear, drop_rates

load_mindspore()

from mindspore import Tensor  # noqa: E402


def test_batch_norm_follows_set_train():
    norm = BatchNorm2d(3)
    norm.weight.set_data(Tensor(np.array([1, 2, 3], np.float32)))
    norm.bias.set_data(Tensor(np.array([0, 1, -1], np.float32)))
    x = np.random.default_rng(0).normal(5, 2, (4, 3, 6, 6)).astype(np.float32)
    mean, var = x.mean((0, 2, 3)), x.var((0, 2, 3))
    norm.set_train(True)
    y = norm(Tensor(x)).asnumpy()
    normal = (x - mean[:, None, None]) / np.sqrt(var + 1e-5)[:, None, None]
    assert y == pytest.approx(normal * np.array([1, 2, 3])[:, None, None] + np.array([0, 1, -1])[:, None, None], abs=1e-4)
    n = x.size / 3
    assert norm.running_mean.asnumpy() == pytest.approx(0.1 * mean, rel=1e-4)
    assert norm.running_var.asnumpy() == pytest.approx(0.9 + 0.1 * var * n / (n - 1), rel=1e-2)
    norm.set_train(False)
    kept = norm.running_mean.asnumpy()
    y = norm(Tensor(x)).asnumpy()
    scale = np.array([1, 2, 3]) / np.sqrt(norm.running_var.asnumpy() + 1e-5)
    assert y == pytest.approx((x - kept[:, None, None]) * scale[:, None, None] + np.array([0, 1, -1])[:, None, None], abs=1e-3)
    assert (norm.running_mean.asnumpy() == kept).all()


def test_gelu_is_the_exact_one():
    x = np.linspace(-6, 6, 101, dtype=np.float32)
    exact = np.array([v * 0.5 * (1 + math.erf(v / math.sqrt(2))) for v in x])
    assert Gelu()(Tensor(x)).asnumpy() == pytest.approx(exact, abs=1e-6)


def test_parameters_have_timms_names_and_shapes():
    assert {n: p.shape for n, p in Linear(3, 5).parameters_dict().items()} == {"weight": (5, 3), "bias": (5,)}
    assert list(LayerNorm(4).parameters_dict()) == ["weight", "bias"]
    assert list(BatchNorm2d(4).parameters_dict()) == ["weight", "bias", "running_mean", "running_var"]
    assert [p.name for p in BatchNorm2d(4).trainable_params()] == ["weight", "bias"]
    assert Conv2d(6, 6, 3, groups=6).weight.shape == (6, 1, 3, 3)


def test_drop_rates_rise_over_all_blocks():
    assert drop_rates(0.3, ((1, 1), (1, 1))) == pytest.approx([0, 0.1, 0.2, 0.3])
    assert drop_rates(0.0, ((1,), (1,))) == [0, 0]


def test_a_mask_keeps_or_drops_whole_samples_and_keeps_the_mean():
    site = DropPath(0.25)
    site.refresh(np.random.default_rng(0), 4000)
    mask = site.mask.asnumpy()
    assert mask.shape == (4000, 1)
    assert set(np.unique(mask)) == {0, np.float32(1 / 0.75)}
    assert mask.mean() == pytest.approx(1, abs=0.03)


@FAMILIES
def test_masks_are_no_state_and_change_training_alone(pynative, name):
    plain, dropped = small(name), small(name, drop_path=0.5)
    sites = drop_path_sites(dropped)
    assert not drop_path_sites(plain)
    assert sites
    assert list(state(dropped)) == list(state(plain))
    assert [p.name for p in dropped.get_parameters()] == [p.name for p in plain.get_parameters()]
    x = Tensor(images(plain))
    assert (plain(x).asnumpy() == dropped(x).asnumpy()).all()
    plain.set_train(True)
    dropped.set_train(True)
    for site in sites:
        site.refresh(np.random.default_rng(0), 2)
        site.mask.set_data(Tensor(np.ones((2, 1), np.float32)))
    assert (plain(x).asnumpy() == dropped(x).asnumpy()).all()
    kept = dropped(x).asnumpy()
    for site in sites:
        site.mask.set_data(Tensor(np.array([[0], [1]], np.float32)))
    changed = dropped(x).asnumpy()
    assert abs(kept[0] - changed[0]).max() > 1e-3


def test_a_compiled_cell_sees_each_refresh(ms):
    site = DropPath(0.5).set_train(True)
    x = Tensor(np.ones((6, 2), np.float32))
    for seed in range(4):
        site.refresh(np.random.default_rng(seed), 3)
        expected = np.repeat(site.mask.asnumpy(), 2, axis=0) * np.ones(2)
        assert (site(x, 3).asnumpy() == expected).all()


def test_a_refresh_is_a_function_of_the_generator_alone():
    a, b = DropPath(0.5), DropPath(0.5)
    a.refresh(np.random.default_rng(7), 32)
    b.refresh(np.random.default_rng(1), 32)
    b.refresh(np.random.default_rng(7), 32)
    assert (a.mask.asnumpy() == b.mask.asnumpy()).all()
