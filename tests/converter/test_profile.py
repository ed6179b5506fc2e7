"""converters/*.yaml"""

from __future__ import annotations

import platform

import pytest
import yaml

from msedge.converter.profile import load_profile, profile_names, read_profile
from msedge.errors import UserError
from msedge.packaged import asset_folder


def test_every_profile_loads():
    assert set(profile_names()) >= {"cpu-x86", "cpu-arm64"}
    for name in profile_names():
        assert load_profile(name).name == name


def test_cpu_is_the_profile_of_this_machine():
    assert platform.machine().lower() in load_profile("cpu").machines


def test_the_cpu_modes_say_what_was_measured_best():
    mode = load_profile("cpu").modes["PostTraining"]
    assert mode.sections["full_quant_param"] == {
        "activation_quant_method": "MAX_MIN",
        "bias_correction": False,
        "per_channel": True,
    }
    assert load_profile("cpu").modes["fp16"].fp16_weights
    assert not load_profile("cpu").modes["none"].sections


def test_an_unknown_target_gets_a_suggestion():
    with pytest.raises(UserError, match=r"there is no target 'cpu-arm46'.*did you mean 'cpu-arm64'"):
        load_profile("cpu-arm46")


def _changed(tmp_path, change):
    raw = yaml.safe_load((asset_folder("converters") / "cpu-x86.yaml").read_text())
    change(raw)
    path = tmp_path / "cpu-x86.yaml"
    path.write_text(yaml.safe_dump(raw))
    return path


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda r: r.update(nodes=[]), r"cpu-x86\.yaml: unknown key 'nodes'.*did you mean"),
        (lambda r: r.pop("sources"), "'sources' is missing"),
        (lambda r: r.update(name="cpu"), "not the file's name"),
        (lambda r: r.update(save_type="MINDIR"), "MINDIR_LITE"),
        (lambda r: r.update(verified="surely"), "'verified' is surely"),
        (lambda r: r.update(modes={}), "'modes' is empty"),
        (lambda r: r["modes"]["none"].update(fp16_weights="on"), "modes.none: 'fp16_weights' is not true or false"),
        (lambda r: r["modes"]["PostTraining"]["ini"].update(quant={}), r"modes\.PostTraining: there is no section \[quant\]"),
        (lambda r: r["modes"]["fp16"].pop("ini"), "'ini' is missing"),
    ],
)
def test_a_profile_that_is_not_sound_names_file_and_key(tmp_path, change, message):
    with pytest.raises(UserError, match=message):
        read_profile(_changed(tmp_path, change))


def test_a_file_that_is_no_profile(tmp_path):
    path = tmp_path / "x.yaml"
    path.write_text("a: [")
    with pytest.raises(UserError, match=r"x\.yaml cannot be read"):
        read_profile(path)
    path.write_text("- a")
    with pytest.raises(UserError, match="is not a mapping"):
        read_profile(path)
