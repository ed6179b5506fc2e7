"""Thresholds and the reasons for failing them."""

from __future__ import annotations

import dataclasses

import pytest

from msedge.recipe import GateConfig
from msedge.verification import Comparison, Thresholds, conversion_thresholds

FINE = Comparison(
    n=200,
    top1_a=0.9,
    top1_b=0.89,
    agreement=0.98,
    flips=4,
    cosine_mean=0.995,
    cosine_min=0.9,
    cosine_pooled=0.998,
    max_abs=1.0,
    sqnr_db=30.0,
    nonfinite=0,
    outputs=10,
)


@pytest.mark.parametrize(
    ("thresholds", "comparison", "reason"),
    [
        (Thresholds(0.99, 0.97, 0.02), FINE, None),
        (Thresholds(0.995, 0.98, 0.01), FINE, None),
        (Thresholds(), FINE, None),
        (Thresholds(min_cosine=0.999), FINE, "cosine 0.99500 is below 0.999"),
        (Thresholds(min_agreement=0.99), FINE, "top-1 agreement 98.0 % (4 of 200 flipped) is below 99 %"),
        (Thresholds(max_drop=0.005), FINE, "top-1 drops by 1.00 points, more than 0.5"),
        (Thresholds(max_drop=0.005), dataclasses.replace(FINE, top1_a=None), "the drop in top-1 is not known"),
        (Thresholds(), dataclasses.replace(FINE, nonfinite=3), "3 of 200 outputs are not finite"),
        (Thresholds(0.996), dataclasses.replace(FINE, outputs=2), None),
        (Thresholds(0.999), dataclasses.replace(FINE, outputs=2), "pooled cosine 0.99800 is below 0.999"),
        (Thresholds(1.0), dataclasses.replace(FINE, cosine_mean=0.99999991), "cosine 0.9999999 is below 1"),
    ],
)
def test_reasons(thresholds, comparison, reason):
    reasons = thresholds.failures(comparison)
    assert reasons == [] if reason is None else reasons[0].startswith(reason)


def test_each_mode_has_its_thresholds():
    gate = GateConfig(0.9999, 0.999, 0.99, 0.97)
    assert conversion_thresholds("none", gate).to_dict() == {"min_cosine": 0.9999}
    assert conversion_thresholds("fp16", gate).to_dict() == {"min_cosine": 0.999}
    assert conversion_thresholds("PostTraining", gate).to_dict() == {"min_cosine": 0.99, "min_agreement": 0.97}
