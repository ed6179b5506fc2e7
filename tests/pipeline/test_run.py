"""The whole road with real training, the real converter and the real runtime, at the smallest size."""

from __future__ import annotations

import json

import pytest

pytestmark = pytest.mark.lite


@pytest.fixture
def small(recipe):
    """Without gates: eighty images teach a model too little to be sure of its decisions."""
    gates = "{float_cosine: 0.99, fp16_cosine: 0.99, int8_cosine: 0, agreement: 0}"
    text = recipe.read_text().replace("epochs: 3", "epochs: 1")
    recipe.write_text(f"{text}\nconvert: {{quant: [none, PTQ], calib_images: 16, gate: {gates}}}\n")
    return recipe


def test_run_leaves_verified_models_and_a_report(user_cli, small, tmp_path):
    out = tmp_path / "road"
    done = user_cli("run", small, "--out", out, "--json")
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert report == json.loads((out / "report.json").read_text())
    floating, int8 = report["rows"]
    assert (floating["name"], int8["name"]) == ("model float", "model int8")
    assert floating["images"] == 20
    assert floating["agreement"] == 1.0
    assert floating["p50_ms"] > 0
    parities = [json.loads((out / "lite" / name / "parity.json").read_text()) for name in ("model-float", "model-int8")]
    assert all(p["passed"] for p in parities)
    assert [p["calibration_images"] for p in parities] == [0, 16]
    assert parities[0]["quantised_nodes"] == 0 < parities[1]["quantised_nodes"]

    again = user_cli("run", small, "--out", out, "--resume")
    assert again.returncode == 0, again.stderr
    assert "nothing to do" in again.stderr
    assert "model int8" in again.stdout
    assert "says nothing about a phone" in again.stderr


def test_a_gate_that_does_not_hold_is_exit_1_and_the_table_is_still_there(user_cli, small, tmp_path):
    done = user_cli(
        "run", small, "--out", tmp_path / "r", "--set", "convert.quant=[ptq]", "--set", "convert.gate.int8_cosine=1"
    )
    assert done.returncode == 1, done.stderr
    assert "FAILED" in done.stdout
    assert "does not hold" in done.stderr.splitlines()[-1]
    assert "Traceback" not in done.stderr
