from __future__ import annotations

import numpy as np
import pytest
from families import FAMILIES, SMALL, images, small

from msedge.errors import ModelError
from msedge.mindspore_setup import load_mindspore
from msedge.models import build, create_model, default_preprocess, describe, spec_of, state

load_mindspore()

from mindspore import Tensor  # noqa: E402


@FAMILIES
def test_a_described_model_is_built_again_with_the_same_shapes(name):
    size, widths = SMALL[name]
    spec = describe(name, 2, size, ("cat", "dog"), **widths)
    cell = build(spec)
    assert spec_of(cell, ("cat", "dog"), spec.preprocess) == spec
    assert {n: p.shape for n, p in state(cell).items()} == {n: p.shape for n, p in state(small(name, 2)).items()}
    assert not cell.training


def test_first_weights_depend_on_the_seed_and_on_nothing_else():
    values = [
        {n: p.asnumpy() for n, p in state(create_model("swin_nano", 2, 32, seed=seed, **SMALL["swin_nano"][1])).items()}
        for seed in (1, 1, 2)
    ]
    assert all((values[0][n] == values[1][n]).all() for n in values[0])
    assert any((values[0][n] != values[2][n]).any() for n in values[0])
    assert all(np.isfinite(v).all() for v in values[0].values())


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: create_model("mobilevit_xxs", stam=3), "no width 'stam'.*did you mean 'stem'"),
        (lambda: create_model("mobilevit_xxs", stem="x"), "stem is 'x'.*a number"),
        (lambda: create_model("mobilevit_xxs", stem=0), "stem is 0.*from 1 on"),
        (lambda: create_model("mobilevit_xxs", stem=1.5), "stem is 1.5.*whole number"),
        (lambda: create_model("mobilevit_xxs", stem=float("inf")), "stem is inf.*whole number"),
        (lambda: create_model("mobilevit_xxs", stem=True), "stem is True.*a number"),
        (lambda: create_model("mobilevit_xxs", out=3), "out is 3.*a list"),
        (lambda: create_model("mobilevit_xxs", heads=[4, 4, 4]), "heads is 4.*a list"),
        (lambda: create_model("mobilevit_xxs", heads=[]), r"heads is \[\].*a list"),
        (lambda: create_model("mobilevit_xxs", drop_path=1.0), "drop_path is 1.0.*below 1"),
        (lambda: create_model("mobilevit_xxs", drop_path=float("nan")), "drop_path is nan.*below 1"),
        (lambda: create_model("mobilevit_xxs", heads=[[4], [4]]), "heads needs 3 entries"),
        (lambda: create_model("mobilevit_xxs", mlp=[[4], [4], [4]]), "heads and mlp differ"),
        (lambda: create_model("mobilevit_xxs", out=[4]), "5 stages"),
        (lambda: create_model("mobilevit_xxs", image_size=100), "100 px.*sizes nearby: 64, 128"),
        (lambda: create_model("mobilevit_xxs", image_size=96), "96 px.*sizes nearby: 64, 128"),
        (lambda: create_model("mobilevit_xxs", image_size=32), "32 px.*sizes nearby: 64, 128"),
        (lambda: create_model("mobilevit_xxs", image_size=-64), "image size is -64"),
        (lambda: create_model("mobilevit_xxs", image_size=64.0), "image size is 64.0"),
        (lambda: create_model("mobilevit_xxs", num_classes=0), "number of classes is 0"),
        (lambda: create_model("swin_tiny", image_size=100), "100 px.*sizes nearby: 96, 128"),
        (lambda: create_model("swin_tiny", image_size=256, window=7), "windows that do: 2, 4, 8, 16.*sizes.*224"),
        (lambda: create_model("swin_tiny", heads=[[3]]), "differ in their numbers of stages"),
        (lambda: create_model("tiny_vit_5m", image_size=100), "100 px.*sizes nearby: 96, 128"),
        (lambda: create_model("tiny_vit_5m", window=[5, 14, 7]), "windows of 5.*grid of 28.*windows that do: 2, 4, 7"),
        (lambda: create_model("tiny_vit_5m", dim=[8]), "dim needs 4 entries"),
        (lambda: create_model("tiny_vit_5m", mlp=[[4], [4], [4]]), "heads and mlp differ"),
        (lambda: create_model("vit_tiny", image_size=100), "patches of 16 .*100 px.*sizes nearby: 96, 112"),
        (lambda: create_model("deit_small", image_size=8), "8 px.*sizes nearby: 16, 32"),
        (lambda: create_model("deit_tiny", heads=[3] * 4), "heads and head_dim differ"),
        (lambda: create_model("poolformer_s12", image_size=31), "31 px.*any size from 32 on"),
        (lambda: create_model("poolformer_s12", dim=[8]), "dim and mlp differ in their numbers of stages"),
        (lambda: create_model("efficientformer_l1", image_size=100), "100 px.*sizes nearby: 96, 128"),
        (lambda: create_model("efficientformer_l1", image_size=16), "16 px.*sizes nearby: 32, 64"),
        (lambda: create_model("efficientformer_l1", mlp=[[8]]), "dim and mlp differ in their numbers of stages"),
        (lambda: create_model("efficientformer_l1", heads=[8, 8]), "heads, key_dim and value_dim differ"),
        (
            lambda: create_model("efficientformer_l1", heads=[8] * 5, key_dim=[8] * 5, value_dim=[8] * 5),
            "5 attention blocks in a last stage of 4.*fewer entries",
        ),
        (lambda: create_model("mobilevit"), "there is no model 'mobilevit'"),
        (lambda: describe("mobilevit_xxs", 2, 64, ("cat",)), "1 class names for 2 classes"),
    ],
)
def test_wrong_input_is_one_line_that_says_what_would_do(call, words):
    with pytest.raises(ModelError) as e:
        call()
    text = str(e.value)
    assert "\n" not in text
    import re

    assert re.search(words, text), text


@pytest.mark.parametrize(("size", "window"), [(224, 7), (256, 8), (128, 8), (192, 6), (384, 6)])
def test_swins_window_follows_the_image_size(size, window):
    assert describe("swin_tiny", image_size=size).config["window"] == window


@pytest.mark.parametrize(("size", "windows"), [(224, [7, 14, 7]), (256, [8, 16, 8]), (128, [4, 8, 4]), (64, [2, 4, 2])])
def test_tinyvits_windows_follow_the_image_size(size, windows):
    assert describe("tiny_vit_5m", image_size=size).config["window"] == windows


def test_preprocessing_has_the_models_size():
    assert default_preprocess("swin_nano", 64).size == 64
    assert default_preprocess("mindcv:resnet18").size == 224


DEEPER = {
    "mobilevit_xxs": {"heads": [[2, 1], [1], [2]], "head_dim": [[4, 6], [6], [5]], "mlp": [[12, 10], [14], [16]]},
    "swin_nano": {"heads": [[2, 1, 2], [2, 1]], "head_dim": [[4, 6, 4], [5, 4]], "mlp": [[16, 12, 8], [20, 10]]},
    "tiny_vit_5m": {
        "hidden": [12, 9],
        "heads": [[2], [1], [2, 3]],
        "head_dim": [[4], [6], [5, 4]],
        "mlp": [[16], [20], [18, 9]],
    },
    "poolformer_s12": {"mlp": [[12, 10], [16], [20, 9, 8], [18, 20]]},
    "efficientformer_l1": {"mlp": [[12, 10], [16], [20, 9, 8], [18, 20]]},
    "vit_tiny": {"heads": [2, 1, 2, 3, 1], "head_dim": [4, 6, 5, 4, 8], "mlp": [16, 12, 20, 9, 8]},
}


@FAMILIES
def test_no_family_has_a_fixed_depth(pynative, name):
    model = small(name, **DEEPER[name])
    blocks = [n for n in state(model) if n.endswith(".mlp.fc1.weight")]
    assert len(blocks) == sum(len(v) if isinstance(v, list) else 1 for v in DEEPER[name]["mlp"])
    assert len(blocks) > len([n for n in state(small(name)) if n.endswith(".mlp.fc1.weight")])
    logits, features, attention = model.taps(Tensor(images(model)))
    assert logits.shape == (2, 3)
    assert all(np.isfinite(v.asnumpy()).all() for v in (logits, *features, *attention))


@pytest.mark.parametrize("window", [9, 99])
def test_a_window_larger_than_swins_map_is_the_map(pynative, window):
    wide, exact = small("swin_nano", window=window), small("swin_nano", window=8)  # maps of 8 and 4
    assert {n: p.shape for n, p in state(wide).items()} == {n: p.shape for n, p in state(exact).items()}
    assert not any(block.shift for stage in wide.layers for block in stage.blocks)
    x = Tensor(images(wide))
    assert (wide(x).asnumpy() == exact(x).asnumpy()).all()
