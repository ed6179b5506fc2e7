from __future__ import annotations

import json

from click.testing import CliRunner

from msedge.cli.models import models
from msedge.models import list_models


def test_json_lists_every_model_with_its_numbers():
    result = CliRunner().invoke(models, ["--json"])
    assert result.exit_code == 0
    rows = {row["name"]: row for row in json.loads(result.stdout)}
    assert list(rows) == list_models()
    assert all({"name", "params", "macs", "image_size", "top1", "licence"} <= set(row) for row in rows.values())
    assert rows["mobilevit_xxs"]["params"] == 1_272_024
    assert rows["deit_tiny"]["top1"] == 72.2
    assert rows["swin_tiny"]["licence"] == "MIT"
    assert rows["swin_nano"]["top1"] is None


def test_the_table_names_every_model_and_mindcv():
    out = CliRunner().invoke(models).stdout
    assert all(name in out for name in list_models())
    assert "mindcv:<name>" in out
