from __future__ import annotations

import numpy as np
import pytest
from families import taps

from msedge.errors import ModelError
from msedge.mindspore_setup import load_mindspore
from msedge.models import build, create_model, describe, load_weights, save_checkpoint, spec_of, state

load_mindspore()

from mindspore import Tensor  # noqa: E402

NAME = "mindcv:squeezenet1_0"


@pytest.fixture(scope="module")
def model():
    return create_model(NAME, 3, 64)


def test_a_model_has_mindcvs_names_and_gives_logits(model):
    names = list(state(model))
    assert names[0] == "features.0.weight"
    x = np.random.default_rng(0).standard_normal((2, 3, 64, 64)).astype(np.float32)
    logits, features, attention = taps(model, x)
    assert logits.shape == (2, 3)
    assert (features, attention) == ([], [])
    assert (model(Tensor(x)).asnumpy() == logits).all()


def test_it_is_described_and_built_again_with_the_same_first_weights(model):
    spec = spec_of(model)
    assert spec == describe(NAME, 3, 64)
    again = build(spec)
    assert {n: p.shape for n, p in state(again).items()} == {n: p.shape for n, p in state(model).items()}
    assert all((p.asnumpy() == state(again)[n].asnumpy()).all() for n, p in state(model).items())


def test_numpys_random_state_is_left_alone():
    np.random.seed(5)
    before = np.random.get_state()[1].copy()
    create_model(NAME, 3, 64)
    assert (np.random.get_state()[1] == before).all()


def test_weights_of_another_class_count_replace_the_head(tmp_path, model):
    save_checkpoint(model, tmp_path / "w.ckpt")
    target = create_model(NAME, 5, 64, seed=1)
    report = load_weights(target, tmp_path / "w.ckpt")
    assert report.replaced_head
    assert len(report.loaded) == len(state(model)) - 2
    first = next(iter(state(model)))
    assert (state(target)[first].asnumpy() == state(model)[first].asnumpy()).all()


def test_models_with_tables_for_the_image_size_get_it():
    assert state(create_model("mindcv:convit_tiny", 2, 64))["pos_embed"].shape == (1, 16, 192)
    assert state(create_model("mindcv:pvt_tiny", 2, 64))["pos_embed1"].shape == (1, 256, 64)


@pytest.mark.parametrize(
    ("name", "arguments", "words"),
    [
        ("mindcv:squeezenet1_2", {}, "did you mean 'squeezenet1_"),
        ("mindcv:", {}, "list_models"),
        (NAME, {"colour": 3}, "MindCV cannot build squeezenet1_0: .*colour"),
        ("mindcv:mae_b_16_224_pretrain", {}, "MindCV cannot build mae_b_16_224_pretrain: KeyError"),
    ],
)
def test_wrong_names_and_arguments_are_one_line(name, arguments, words):
    with pytest.raises(ModelError, match=words) as e:
        create_model(name, 3, 64, **arguments)
    assert "\n" not in str(e.value)


def test_nothing_is_printed(capfd):
    create_model("mindcv:mobilevit_xx_small", 2, 128)
    assert capfd.readouterr() == ("", "")
