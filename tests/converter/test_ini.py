"""The one renderer of the converter's INI."""

from __future__ import annotations

import configparser

import pytest

from msedge.converter import ini
from msedge.converter.modes import canonical_format, canonical_quant
from msedge.converter.profile import load_profile
from msedge.errors import UserError

FULL_QUANT = """\
[common_quant_param]
quant_type=FULL_QUANT
bit_num=8
min_quant_weight_size=0
min_quant_weight_channel=0

[full_quant_param]
activation_quant_method=MAX_MIN
bias_correction=false
per_channel=true

[data_preprocess_param]
calibrate_path=x:calibration
calibrate_size=128
input_type=BIN
"""


def test_the_text_of_full_quant():
    sections = load_profile("cpu-x86").modes["PostTraining"].sections
    data = {"calibrate_path": "x:calibration", "calibrate_size": "128", "input_type": "BIN"}
    text = ini.render({**sections, "data_preprocess_param": data})
    assert text == FULL_QUANT
    parser = configparser.ConfigParser()
    parser.read_string(text)
    assert parser["full_quant_param"]["per_channel"] == "true"


def test_no_sections_give_no_text():
    assert ini.render({}) == ""


@pytest.mark.parametrize(
    ("sections", "message"),
    [
        ({"common_quant_params": {}}, r"no section \[common_quant_params\].*did you mean 'common_quant_param'"),
        ({"full_quant_param": {"per_chanel": True}}, r"no key per_chanel.*did you mean 'per_channel'"),
        ({"common_quant_param": {"quant_type": "PostTraining"}}, "quant_type is PostTraining.*FULL_QUANT"),
        ({"full_quant_param": {"activation_quant_method": "MINMAX"}}, "one of MAX_MIN, KL, REMOVAL_OUTLIER"),
        ({"common_quant_param": {"skip_quant_node": "a\n[x]"}}, "line break"),
    ],
)
def test_what_the_converter_would_ignore_or_misread_is_refused(sections, message):
    with pytest.raises(UserError, match=message):
        ini.render(sections)


@pytest.mark.parametrize(
    ("word", "name"),
    [
        ("none", "none"),
        ("FP16", "fp16"),
        ("PostTraining", "PostTraining"),
        ("PTQ", "PostTraining"),
        ("Float", "none"),
        ("int8", "PostTraining"),
        ("weight", "WeightQuant"),
        ("WEIGHT-QUANT", "WeightQuant"),
        ("AwareTraining", "AwareTraining"),
        ("QAT", "AwareTraining"),
    ],
)
def test_words_for_modes(word, name):
    assert canonical_quant(word) == name


def test_unknown_words():
    with pytest.raises(UserError, match="weight has the same size and float's speed"):
        canonical_quant("DYNAMIC_QUANT")
    with pytest.raises(UserError, match="there is no such mode"):
        canonical_quant("int9")
    with pytest.raises(UserError, match="msedge converts ONNX and MINDIR"):
        canonical_format("TFLITE")
    assert (canonical_format("mindir"), canonical_format(None)) == ("MINDIR", None)
