"""What PoolFormer and EfficientFormer have beyond what all families have."""

from __future__ import annotations

import numpy as np
import pytest
from families import images, small

from msedge.mindspore_setup import load_mindspore
from msedge.models import create_model, state
from msedge.models.poolformer import PoolFormerConfig

load_mindspore()

from mindspore import Tensor  # noqa: E402


@pytest.mark.parametrize("size", [32, 33, 75, 100, 127])
def test_poolformer_takes_any_size_from_32_on(pynative, size):
    model = create_model("poolformer_s12", 3, size, dim=[4, 5, 6, 7], mlp=[[8], [8], [8], [8]])
    for training in (False, True):
        features = model.set_train(training).taps(Tensor(images(model)))[1]
        assert [f.shape[-1] for f in features] == PoolFormerConfig().sides(size)


def test_poolformer_gives_the_same_while_training(pynative):
    model = small("poolformer_s12")
    x = Tensor(images(model))
    after = model(x).asnumpy()
    assert model.set_train(True)(x).asnumpy() == pytest.approx(after, abs=1e-5)


def test_poolformers_first_norm_counts_by_its_deviation_alone(pynative):
    model = small("poolformer_s12")
    x = Tensor(images(model))
    before = model(x).asnumpy()
    for name, p in model.parameters_dict().items():
        if name.endswith("norm1.bias"):
            p.set_data(Tensor(np.full(p.shape, 3.0, np.float32)))
    assert (model(x).asnumpy() == before).all()
    model.stages[0].blocks[0].norm1.weight.set_data(Tensor(np.full(6, 3.0, np.float32)))
    assert abs(model(x).asnumpy() - before).max() > 1e-3


@pytest.mark.parametrize("name", ["poolformer_s12", "efficientformer_l1"])
def test_depth_is_a_width(pynative, name):
    model = small(name, mlp=[[12, 10], [16], [20, 9, 8], [18, 20]])
    blocks = {n.partition(".mlp.")[0] for n in state(model) if ".mlp.fc1.weight" in n}
    counts = [sum(b.startswith(f"stages.{i}.") for b in blocks) for i in range(4)]
    assert counts == [2, 1, 3, 2]
    assert model(Tensor(images(model))).shape == (2, 3)


@pytest.mark.parametrize(
    ("attentions", "names"),
    [
        (1, ["2.0 pool", "3.0 pool", "3.1 pool", "3.3 attention"]),
        (3, ["2.0 pool", "3.1 attention", "3.2 attention", "3.3 attention"]),
    ],
)
def test_efficientformers_last_blocks_attend_and_are_numbered_as_timm_does(pynative, attentions, names):
    widths = {"heads": [2] * attentions, "key_dim": [4] * attentions, "value_dim": [8] * attentions}
    model = small("efficientformer_l1", **widths)
    found = {}
    for n, p in state(model).items():
        stage, _, block = n.removeprefix("stages.").partition(".blocks.")
        if n.endswith("mlp.fc1.weight") and stage in "23":
            found[f"{stage}.{block.split('.')[0]}"] = "pool" if p.ndim == 4 else "attention"
    assert [f"{place} {kind}" for place, kind in found.items()] == names
    assert model(Tensor(images(model))).shape == (2, 3)


def test_efficientformers_logits_are_the_mean_of_both_heads(pynative):
    model = small("efficientformer_l1")
    x = Tensor(images(model))
    both = model(x).asnumpy()
    own = {n: state(model)[n] for n in ("head.weight", "head.bias", "head_dist.weight", "head_dist.bias")}
    alone = []
    for kept in ("head.", "head_dist."):
        values = {n: p.asnumpy() for n, p in own.items()}
        for n, p in own.items():
            p.set_data(Tensor(values[n] * (2.0 if n.startswith(kept) else 0.0)))
        alone.append(model(x).asnumpy())
        for n, p in own.items():
            p.set_data(Tensor(values[n]))
    assert abs(alone[0] - alone[1]).max() > 0.01
    assert both == pytest.approx((alone[0] + alone[1]) / 2, abs=1e-5)
