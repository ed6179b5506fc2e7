"""MindCV's models, which nobody wrote with this exporter in mind."""

from __future__ import annotations

import numpy as np
import pytest
from numeric import cosine

from msedge.mindspore_setup import load_mindspore

ms = load_mindspore()

from mindspore import nn, ops  # noqa: E402

from msedge.converter import convert  # noqa: E402
from msedge.errors import ExportError  # noqa: E402
from msedge.exporter.check import run_cell, run_onnx  # noqa: E402
from msedge.models import create_model  # noqa: E402
from msedge.runtime import open_runner  # noqa: E402

CHECKED = {
    "resnet18": 64,
    "mobilenet_v3_small_100": 64,
    "efficientnet_b0": 64,
    "pvt_v2_b0": 64,
    "edgenext_xx_small": 256,  # where its sines and cosines of positions are many
    "convnext_tiny": 64,
}
OTHERS = {
    "mobilevit_xx_small": 128,
    "swin_tiny": 224,
    "poolformer_s12": 64,
    "densenet121": 64,
    "shufflenet_v2_x1_0": 64,
    "ghostnet_050": 64,
    "xcit_tiny_12_p16_224": 224,
}


def settle(cell: nn.Cell, size: int) -> None:
    """Batch norms as after training: statistics of what they see, so that first weights do not let the signal die out."""
    rng = np.random.default_rng(0)
    norms = [c for _, c in cell.cells_and_names() if isinstance(c, nn.BatchNorm2d)]
    for norm in norms:
        norm.bn_train = ops.BatchNorm(is_training=True, epsilon=norm.eps, momentum=1.0)  # all of the batch, nothing of before
    cell.set_train(True)
    cell(ms.Tensor(rng.standard_normal((32, 3, size, size)).astype(np.float32)))
    cell.set_train(False)
    for norm in norms:
        for p in (norm.gamma, norm.beta):
            p.set_data(ms.Tensor((p.asnumpy() + 0.1 * rng.standard_normal(p.shape)).astype(np.float32)))


def head_of_unit_logits(cell: nn.Cell, x: np.ndarray) -> np.ndarray:
    """Shrink or stretch the last layer until the largest logit of x is 1; gives the logits."""
    head = [c for _, c in cell.cells_and_names() if isinstance(c, nn.Dense)][-1]
    largest = np.abs(run_cell(cell, x)).max()
    for p in (head.weight, head.bias):
        p.set_data(ms.Tensor(p.asnumpy() / largest))
    return run_cell(cell, x)


@pytest.mark.slow
@pytest.mark.lite
@pytest.mark.parametrize("name", CHECKED)
def test_cell_onnx_and_ms_agree_within_a_ten_thousandth(name, to_onnx, toolchain, tmp_path):
    size = CHECKED[name]
    cell = create_model(f"mindcv:{name}", 10, size)
    settle(cell, size)
    x = np.random.default_rng(3).standard_normal((2, 3, size, size)).astype(np.float32)
    expected = head_of_unit_logits(cell, x)
    assert np.abs(expected).max() == pytest.approx(1, abs=1e-3)
    assert np.abs(expected[0] - expected[1]).max() > 0.1  # the image matters
    model = to_onnx(cell, (1, 3, size, size))
    np.testing.assert_allclose(run_onnx(model, x), expected, rtol=0, atol=1e-4)
    (tmp_path / "model.onnx").write_bytes(model.SerializeToString())
    report = convert(tmp_path / "model.onnx", tmp_path / "lite", lite=toolchain)
    with open_runner(report.out, lite=toolchain) as runner:
        np.testing.assert_allclose(runner.predict(x), expected, rtol=0, atol=1e-4)


@pytest.mark.slow
@pytest.mark.lite
@pytest.mark.parametrize("name", OTHERS)
def test_other_models_keep_their_direction(name, roundtrip, through_lite):
    size = OTHERS[name]
    cell = create_model(f"mindcv:{name}", 10, size)
    model = roundtrip(cell, (1, 3, size, size), tolerance=2e-4, noise=0.01)  # deep networks amplify more, rounding included
    x = np.random.default_rng(3).standard_normal((1, 3, size, size)).astype(np.float32)
    got, _ = through_lite(model, x)
    assert cosine(got, run_cell(cell, x)) >= 0.9999


def test_an_operator_without_a_rule_is_named_with_its_layer_and_what_to_do(to_onnx):
    with pytest.raises(ExportError, match=r"^the primitive LpNorm in \S+ has no ONNX rule") as caught:
        to_onnx(create_model("mindcv:convnextv2_atto", 2, 32), (1, 3, 32, 32))
    assert "feature" in caught.value.message
    assert "near: LayerNorm" in caught.value.hint
    assert "add a rule in msedge/exporter/rules" in caught.value.hint
