from __future__ import annotations

import json

import numpy as np
import pytest
from families import FAMILIES, small

from msedge.errors import ArtifactError, ModelError
from msedge.models import load_checkpoint_folder, read_checkpoint, save_checkpoint, spec_of, state


def written(folder, name: str = "swin_nano"):
    model = small(name)
    spec_of(model, ("a", "b", "c")).save(folder)
    save_checkpoint(model, folder / "best.ckpt")
    return model


@FAMILIES
def test_a_folder_gives_the_model_again(tmp_path, name):
    model = written(tmp_path, name)
    cell, spec = load_checkpoint_folder(tmp_path)
    assert spec.classes == ("a", "b", "c")
    assert not cell.training
    for n, p in state(model).items():
        assert (state(cell)[n].asnumpy() == p.asnumpy()).all()


def test_the_last_training_state_and_a_named_file_load_too(tmp_path):
    written(tmp_path)
    values = read_checkpoint(tmp_path / "best.ckpt")
    state = {f"model:{n}": v + np.float32(1) for n, v in values.items()}
    save_checkpoint({**state, "moment:x": np.zeros(2, np.float32)}, tmp_path / "last.ckpt")
    for which in ("last", "last.ckpt"):
        cell, _ = load_checkpoint_folder(tmp_path, which)
        assert (cell.parameters_dict()["norm.bias"].asnumpy() == values["norm.bias"] + 1).all()


def test_what_is_missing_is_named(tmp_path):
    with pytest.raises(ArtifactError, match="there is no folder"):
        load_checkpoint_folder(tmp_path / "none")
    with pytest.raises(ArtifactError, match=r"there is no .*model\.json"):
        load_checkpoint_folder(tmp_path)
    written(tmp_path)
    with pytest.raises(ArtifactError, match=r"there is no .*last\.ckpt"):
        load_checkpoint_folder(tmp_path, "last")


def test_a_cut_checkpoint_is_a_model_error(tmp_path):
    written(tmp_path)
    whole = (tmp_path / "best.ckpt").read_bytes()
    for part in (len(whole) // 2, len(whole) - 3, 100):
        (tmp_path / "best.ckpt").write_bytes(whole[:part])
        with pytest.raises(ModelError) as e:
            load_checkpoint_folder(tmp_path)
        assert "\n" not in str(e.value)


def test_a_checkpoint_that_lacks_parameters_is_refused(tmp_path):
    written(tmp_path)
    values = read_checkpoint(tmp_path / "best.ckpt")
    del values["norm.bias"]
    save_checkpoint(values, tmp_path / "best.ckpt")
    with pytest.raises(ModelError, match=r"lacks 1 parameters of swin_nano, the first is norm\.bias"):
        load_checkpoint_folder(tmp_path)


def test_model_json_of_another_class_count_is_refused(tmp_path):
    written(tmp_path)
    values = json.loads((tmp_path / "model.json").read_text())
    (tmp_path / "model.json").write_text(json.dumps({**values, "num_classes": 5, "classes": []}))
    with pytest.raises(ModelError, match="5 classes: the two are of different runs"):
        load_checkpoint_folder(tmp_path)


def test_model_json_with_an_unknown_width_is_refused(tmp_path):
    written(tmp_path)
    values = json.loads((tmp_path / "model.json").read_text())
    values["config"]["colour"] = 3
    (tmp_path / "model.json").write_text(json.dumps(values))
    with pytest.raises(ModelError, match="no width 'colour'"):
        load_checkpoint_folder(tmp_path)
