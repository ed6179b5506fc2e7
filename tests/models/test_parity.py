"""Logits of timm's own models, from the reference files: the truth for names, order of channels and arithmetic."""

from __future__ import annotations

import numpy as np
import pytest

from msedge.models import create_model, load_weights

SWIN = {
    "dim": [24, 48, 96, 192],
    "heads": [[1], [2], [4, 4], [8]],
    "head_dim": [[24], [24], [24, 24], [24]],
    "mlp": [[96], [192], [384, 384], [768]],
}
DEIT = {"dim": 96, "heads": [3] * 4, "head_dim": [32] * 4, "mlp": [384] * 4}
POOLFORMER = {"dim": [16, 32, 64, 96], "mlp": [[64], [128], [256, 256], [384]]}
EFFICIENTFORMER = {"stem": 8, "dim": [16, 32, 64, 96], "mlp": [[64], [128], [256, 256], [384, 384]]}
TINYVIT = {
    "stem": 8,
    "dim": [16, 32, 64, 96],
    "hidden": [64],
    "merge": [32, 64, 96],
    "heads": [[2], [4, 4], [6]],
    "head_dim": [[16], [16, 16], [16]],
    "mlp": [[128], [256, 256], [384]],
}


@pytest.mark.oracle
@pytest.mark.parametrize(
    ("name", "reference", "widths"),
    [
        ("mobilevit_xxs", "mobilevit_xxs", {}),
        ("swin_tiny", "swin_small_cfg", SWIN),
        ("tiny_vit_5m", "tiny_vit_small", TINYVIT),
        ("deit_tiny", "deit_small_cfg", DEIT),
        ("poolformer_s12", "poolformer_small_cfg", POOLFORMER),
        ("efficientformer_l1", "efficientformer_small_cfg", EFFICIENTFORMER),
    ],
)
def test_logits_are_timms(oracles, ms, name, reference, widths):
    model = create_model(name, num_classes=10, **widths)
    report = load_weights(model, oracles / f"{reference}.safetensors")
    assert (report.missing, report.unexpected, report.notices) == ((), (), ())
    with np.load(oracles / f"{reference}.npz") as data:
        logits = model(ms.Tensor(data["x"])).asnumpy()
        assert abs(logits - data["logits"]).max() < 1e-4
        # the weights are random: make sure that the comparison could fail
        assert np.ptp(data["logits"], axis=1).min() > 0.1
