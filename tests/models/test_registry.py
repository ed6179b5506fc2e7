from __future__ import annotations

import subprocess
import sys
from importlib import import_module

import pytest

import msedge.models
from msedge.errors import ModelError
from msedge.models import architecture, list_models
from msedge.models.catalogue import CATALOGUE


def test_every_name_of_the_catalogue_is_registered_by_its_family():
    for name in list_models():
        arch = architecture(name)
        assert arch.name == name
        assert arch.image_size == CATALOGUE[name].image_size
        assert arch.cell.__module__ == f"msedge.models.{CATALOGUE[name].family}"
        assert arch.config(arch.image_size).check(arch.image_size) is None


def test_every_registered_name_is_in_the_catalogue():
    from msedge.models.registry import _registered

    for family in {entry.family for entry in CATALOGUE.values()}:
        import_module(f"msedge.models.{family}")
    assert set(_registered) == set(CATALOGUE)


@pytest.mark.parametrize(
    ("name", "words"),
    [("mobilevit_xsx", "did you mean 'mobilevit_x"), ("resnet50", "known here: deit_small"), ("", "there is no model ''")],
)
def test_an_unknown_name_gets_a_suggestion(name, words):
    with pytest.raises(ModelError) as e:
        architecture(name)
    assert words in str(e.value)
    assert "mindcv:<name>" in str(e.value)


def test_published_preprocessing_travels_with_the_name():
    apple = architecture("mobilevit_xxs").preprocess()
    assert (apple.size, apple.mean, apple.std) == (256, (0, 0, 0), (1, 1, 1))
    assert architecture("swin_tiny").preprocess(128).size == 128


def test_all_public_names_exist():
    for name in msedge.models.__all__:
        assert getattr(msedge.models, name) is not None
    with pytest.raises(AttributeError, match="no_such_thing"):
        _ = msedge.models.no_such_thing
    assert set(msedge.models.__all__) <= set(dir(msedge.models))


def test_names_and_command_need_neither_mindspore_nor_opencv():
    code = (
        "import sys, msedge.models, msedge.cli.models; msedge.models.list_models();"
        "sys.exit(any(m in sys.modules for m in ('mindspore', 'cv2', 'onnx', 'numpy')))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
