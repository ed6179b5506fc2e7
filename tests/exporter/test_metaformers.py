"""PoolFormer and EfficientFormer through the exporter, Lite's converter and its runtime."""

from __future__ import annotations

import math
from collections import Counter

import numpy as np
import pytest

from msedge.mindspore_setup import load_mindspore

ms = load_mindspore()

from msedge.exporter.check import run_cell  # noqa: E402
from msedge.lite import ConvertRequest  # noqa: E402
from msedge.models import count_params, create_model  # noqa: E402

pytestmark = pytest.mark.lite
SMALL = {
    "poolformer_s12": {"dim": [8, 12, 16, 20], "mlp": [[16], [24, 20], [32], [40]]},
    "efficientformer_l1": {
        "stem": 4,
        "dim": [8, 12, 16, 20],
        "mlp": [[16], [24, 20], [32], [40, 32]],
        "heads": [2],
        "key_dim": [4],
        "value_dim": [8],
    },
}
# What each kind of block costs in the .ms; convolutions and what stands around the blocks not counted.
POOLFORMER = Counter(AvgPoolFusion=5, SubFusion=3, MulFusion=5, PowFusion=2, AddFusion=2, Activation=1)
EFFICIENTFORMER = Counter(AvgPoolFusion=1, SubFusion=1, MulFusion=1, AddFusion=2, Activation=1)
MOVES = ("Transpose", "Reshape", "Gather", "Split")


def trained(name: str, size: int, classes: int = 5, **widths) -> ms.nn.Cell:
    """With scales, biases and statistics as after training."""
    cell = create_model(name, classes, size, **widths)
    rng = np.random.default_rng(0)
    for p in cell.get_parameters():
        kind = p.name.rpartition(".")[2]
        value = p.asnumpy()
        if kind in ("scale", "gamma", "running_var"):
            value = rng.uniform(0.3, 0.9, p.shape)
        elif p.ndim == 1:
            value = value + 0.2 * rng.standard_normal(p.shape)
        p.set_data(ms.Tensor(value.astype(np.float32)))
    return cell


def times(block: Counter, count: int) -> Counter:
    return Counter({k: n * count for k, n in block.items()})


def poolformer_nodes(blocks: int, stages: int) -> Counter:
    convolutions = Counter(Conv2DFusion=stages + 6 * blocks)  # two of a norm's six are its means
    return times(POOLFORMER, blocks) + convolutions + Counter(AvgPoolFusion=1, LayerNormFusion=1, MatMulFusion=1)


def efficientformer_nodes(pools: int, attentions: int, stages: int) -> Counter:
    convolutions = Counter(Conv2DFusion=1 + stages + 2 * pools)
    attention = Counter(LayerNormFusion=2, MatMulFusion=6, Softmax=1, Activation=1, AddFusion=3)
    head = Counter(LayerNormFusion=1, ReduceFusion=1, MatMulFusion=2, AddFusion=1, MulFusion=1)
    return times(EFFICIENTFORMER, pools) + convolutions + times(attention, attentions) + head


EXPECTED = {
    "poolformer_s12": (poolformer_nodes(5, 4), poolformer_nodes(12, 4)),
    "efficientformer_l1": (efficientformer_nodes(5, 1, 4), efficientformer_nodes(14, 1, 4)),
}


@pytest.mark.parametrize("name", SMALL)
def test_lite_computes_the_cells_logits_with_few_nodes(name, to_onnx, through_lite):
    cell = trained(name, 64, **SMALL[name])
    model = to_onnx(cell, (1, 3, 64, 64))
    x = np.random.default_rng(3).standard_normal((1, 3, 64, 64)).astype(np.float32)
    expected = run_cell(cell, x)
    assert np.ptp(expected) > 0.1
    got, nodes = through_lite(model, x)
    np.testing.assert_allclose(got, expected, atol=2e-5)
    assert Counter({k: n for k, n in nodes.items() if k not in MOVES}) == EXPECTED[name][0]
    assert nodes["Transpose"] <= 1


@pytest.mark.parametrize("name", SMALL)
def test_weights_keep_their_names(name, to_onnx):
    cell = trained(name, 64, **SMALL[name])
    model = to_onnx(cell, (1, 3, 64, 64))
    learned = {p.name for p in cell.trainable_params() if p.ndim > 1}
    found = {i.name for i in model.graph.initializer}
    assert learned <= found
    assert {i.name for i in model.graph.initializer if len(i.dims) > 1 and i.name.endswith("weight")} <= learned
    layers = {n.name.rpartition("/")[0] for n in model.graph.node if n.op_type in ("Conv", "Gemm")}
    assert {n.rpartition(".")[0] for n in learned if n.endswith("weight")} <= layers


def test_a_batch_of_several_images_normalises_each(to_onnx, through_lite):
    cell = trained("poolformer_s12", 64, **SMALL["poolformer_s12"])
    x = np.random.default_rng(3).standard_normal((3, 3, 64, 64)).astype(np.float32) * np.array([1, 3, 0.2])[:, None, None, None]
    x = x.astype(np.float32)
    got, _ = through_lite(to_onnx(cell, x.shape), x)
    np.testing.assert_allclose(got, run_cell(cell, x), atol=2e-5)


@pytest.mark.slow
@pytest.mark.parametrize("name", SMALL)
def test_full_size(name, to_onnx, through_lite, toolchain, tmp_path):
    cell = trained(name, 224, 1000)
    model = to_onnx(cell, (1, 3, 224, 224))
    x = np.random.default_rng(3).standard_normal((1, 3, 224, 224)).astype(np.float32)
    expected = run_cell(cell, x)
    got, nodes = through_lite(model, x)
    assert abs(got - expected).max() < 2e-5 * max(1.0, abs(expected).max())
    assert Counter({k: n for k, n in nodes.items() if k not in MOVES}) == EXPECTED[name][1]
    learned = 4 * count_params(cell)
    assert math.isclose(model.ByteSize(), learned, rel_tol=0.03)
    (tmp_path / "model.onnx").write_bytes(model.SerializeToString())
    toolchain.convert(ConvertRequest(tmp_path / "model.onnx", tmp_path / "model.ms", "ONNX"))
    assert math.isclose((tmp_path / "model.ms").stat().st_size, learned, rel_tol=0.03)
