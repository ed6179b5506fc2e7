"""Ranges of activations in calibration against validation."""

import numpy as np
import pytest
from quant_judged import judged_images, judged_model
from small_models import noise, small_onnx

from msedge.errors import ModelError
from msedge.quantization.activation_drift import activation_drift
from msedge.quantization.graph import ModelGraph
from msedge.quantization.onnx_simulation import Simulation


@pytest.fixture(scope="module")
def graph():
    return judged_model()[0]


def test_ranges_and_shares_are_those_of_the_tensors(graph):
    calibration, validation = judged_images(6), judged_images(10, 1)
    drift = activation_drift(graph, calibration, validation)
    found = next(t for t in drift.tensors if t.tensor == "scores")
    a, b = (np.stack([Simulation(graph).tensors(x[None], ["scores"])["scores"] for x in some])
            for some in (calibration, validation))  # fmt: skip
    assert found.calibrated == pytest.approx((a.min(), a.max()))
    assert found.seen == pytest.approx((b.min(), b.max()))
    assert found.outside == pytest.approx(((b < a.min()) | (b > a.max())).mean())
    width = a.max() - a.min()
    assert found.beyond == pytest.approx(max(0, (a.min() - b.min()) / width, (b.max() - a.max()) / width))
    assert [t.outside for t in drift.tensors] == sorted((t.outside for t in drift.tensors), reverse=True)
    assert drift.to_dict()["images"] == [6, 10]


def test_equal_images_have_no_drift_and_louder_ones_have(graph):
    images = judged_images(24)
    assert activation_drift(graph, images, images).verdicts() == []
    assert activation_drift(graph, judged_images(48), judged_images(24, 1)).verdicts() == [], "chance is no drift"
    texts = [v.text for v in activation_drift(graph, images, 6 * images).verdicts()]
    assert len(texts) == 2
    assert "outside the calibrated range" in texts[0]
    assert "calibrated ranges beyond its range" in texts[1]


def test_models_that_cannot_be_measured(graph, tmp_path):
    with pytest.raises(ModelError, match="takes 4 images at a time"):
        activation_drift(ModelGraph.load(small_onnx(tmp_path / "four.onnx", batch=4)), noise(4), noise(4))
    broken = graph.with_weights({"fc1.bias": np.full(12, np.inf)})
    with pytest.raises(ModelError, match="numbers in 'fc1/Gemm' that are not finite"):
        activation_drift(broken, judged_images(2), judged_images(2))
