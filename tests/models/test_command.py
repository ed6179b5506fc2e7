from __future__ import annotations

import json

import pytest
from click.testing import CliRunner

from msedge.cli.models import models
from msedge.models import count_macs, count_params, create_model, list_models
from msedge.models.catalogue import CATALOGUE

# G multiply-adds as timm's tables have them, at the default image size
PUBLISHED = {
    "mobilevit_xxs": 0.42,
    "mobilevit_xs": 1.05,
    "mobilevit_s": 2.03,
    "poolformer_s12": 1.82,
    "efficientformer_l1": 1.3,
    "swin_tiny": 4.5,
    "tiny_vit_5m": 1.3,
    "tiny_vit_11m": 2.0,
    "tiny_vit_21m": 4.3,
}


def test_json_lists_every_model_with_its_numbers():
    result = CliRunner().invoke(models, ["--json"])
    assert result.exit_code == 0
    rows = {row["name"]: row for row in json.loads(result.stdout)}
    assert list(rows) == list_models()
    assert rows["mobilevit_xxs"]["params"] == 1_272_024
    assert rows["swin_tiny"]["licence"] == "MIT"
    assert rows["swin_nano"]["top1"] is None


def test_the_table_names_every_model_and_mindcv():
    out = CliRunner().invoke(models).stdout
    assert all(name in out for name in list_models())
    assert "mindcv:<name>" in out


@pytest.mark.parametrize(("name", "published"), PUBLISHED.items())
def test_the_catalogue_agrees_with_published_multiply_adds(name, published):
    assert CATALOGUE[name].macs / 1e9 == pytest.approx(published, rel=0.03)


@pytest.mark.parametrize("name", [n if n == "mobilevit_xxs" else pytest.param(n, marks=pytest.mark.slow) for n in CATALOGUE])
def test_the_catalogue_agrees_with_the_built_model(ms, name):
    model = create_model(name)
    assert (count_params(model), count_macs(model)) == (CATALOGUE[name].params, CATALOGUE[name].macs)
