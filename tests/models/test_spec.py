from __future__ import annotations

import json

import pytest

from msedge.data.preprocess import Preprocess
from msedge.errors import ArtifactError, ModelError
from msedge.models.spec import ModelSpec


def spec(**changes) -> ModelSpec:
    values = {
        "architecture": "mobilevit_xxs",
        "config": {"stem": 16, "out": [16, 24]},
        "num_classes": 2,
        "image_size": 64,
        "classes": ("cat", "dog"),
        "preprocess": Preprocess(size=64, mean=(0, 0, 0), std=(1, 1, 1)),
    }
    return ModelSpec(**{**values, **changes})


def test_a_saved_spec_loads_from_folder_and_file(tmp_path):
    path = spec().save(tmp_path)
    assert path.name == "model.json"
    assert ModelSpec.load(tmp_path) == ModelSpec.load(path) == spec()


def test_the_stored_form_is_plain_json():
    values = spec().to_dict()
    assert json.loads(json.dumps(values)) == values
    assert ModelSpec.from_dict(values) == spec()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"num_classes": 3}, "2 class names for 3 classes"),
        ({"num_classes": True}, "num_classes is True"),
        ({"image_size": 0}, "image_size is 0"),
        ({"image_size": "64"}, "image_size is '64'"),
        ({"image_size": 96}, "64 px for a model of 96 px"),
        ({"architecture": ""}, "architecture"),
        ({"config": [1]}, "config is not a table"),
        ({"classes": ["cat", 3]}, "a class name is not text"),
        ({"classes": "ab"}, "classes is not a list"),
        ({"preprocess": {"size": 64, "std": [0, 1, 1]}}, "std"),
        ({"preprocess": None}, "preprocess"),
        ({"version": 2}, "version 2"),
        ({"format": "other"}, "no model description"),
        ({"colour": 1}, "unknown key 'colour'"),
    ],
)
def test_damage_is_named(change, words):
    with pytest.raises(ModelError, match=words):
        ModelSpec.from_dict({**spec().to_dict(), **change})


@pytest.mark.parametrize("key", ["architecture", "config", "num_classes", "image_size", "classes", "preprocess"])
def test_a_missing_key_is_named(key):
    values = spec().to_dict()
    del values[key]
    with pytest.raises(ModelError, match=f"{key} is missing"):
        ModelSpec.from_dict(values)


@pytest.mark.parametrize(
    "text", ["", "{", "[]", "3", '{"format": "msedge-model"}', "\ud800".encode("utf-8", "replace").decode()]
)
def test_a_damaged_file_is_one_model_error_that_names_it(tmp_path, text):
    (tmp_path / "model.json").write_text(text)
    with pytest.raises(ModelError, match=r"model\.json"):
        ModelSpec.load(tmp_path)


def test_a_file_that_is_not_text_is_a_model_error(tmp_path):
    (tmp_path / "model.json").write_bytes(b"\xff\xfe\x00\x80")
    with pytest.raises(ModelError, match=r"model\.json cannot be read"):
        ModelSpec.load(tmp_path)


def test_a_missing_file_is_an_artifact_error(tmp_path):
    with pytest.raises(ArtifactError, match=r"there is no .*model\.json"):
        ModelSpec.load(tmp_path)
