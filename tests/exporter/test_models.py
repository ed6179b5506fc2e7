"""Whole networks: msedge's own, and MindCV's."""

from __future__ import annotations

import numpy as np
import pytest

from msedge.mindspore_setup import load_mindspore

ms = load_mindspore()

from msedge.exporter.check import run_cell  # noqa: E402
from msedge.models import create_model  # noqa: E402

MOBILEVIT = {
    "hidden": ((16,), (16, 24), (24,), (32,), (40,)),
    "out": (8, 12, 16, 24, 32),
    "local": (16, 24, 32),
    "dim": (24, 32, 40),
    "heads": ((2,), (4,), (2,)),
    "head_dim": ((8,), (8,), (20,)),
    "mlp": ((48,), (40,), (80,)),
    "proj": (16, 24, 32),
    "final": 64,
}
SWIN = {
    "dim": (16, 32),
    "heads": ((1, 2), (2, 4)),
    "head_dim": ((8, 8), (16, 8)),
    "mlp": ((32, 48), (64, 64)),
    "window": 4,
}
TINYVIT = {
    "stem": 8,
    "dim": (16, 24, 32, 40),
    "hidden": (32, 40),
    "merge": (24, 32, 40),
    "heads": ((2, 3), (2, 2), (4,)),
    "head_dim": ((8, 8), (16, 8), (10,)),
    "mlp": ((48, 32), (64, 64), (80,)),
    "window": (4, 4, 2),
}
# name: size and widths; then the nodes in the .ms next to Reshape, Transpose, Split and Concat
OWN = {
    "mobilevit_xxs": (64, MOBILEVIT),
    "swin_nano": (64, SWIN),
    "tiny_vit_5m": (64, TINYVIT),
}
_LITE_NODES = {
    "Conv2DFusion", "Activation", "AddFusion", "MulFusion", "Transpose", "Reshape", "LayerNormFusion", "MatMulFusion",
    "Split", "Softmax", "Concat", "AvgPoolFusion", "ReduceFusion",
}  # fmt: skip


def learned(cell: ms.nn.Cell) -> int:
    return sum(p.size for p in cell.trainable_params())


def ops_of(model) -> list[str]:
    return [n.op_type for n in model.graph.node]


@pytest.mark.lite
@pytest.mark.parametrize("name", OWN)
def test_own_models_in_small(name, roundtrip, through_lite):
    size, widths = OWN[name]
    cell = create_model(name, 5, size, **widths)
    model = roundtrip(cell, (1, 3, size, size), tolerance=1e-4)
    assert not {"BatchNormalization", "Identity", "Cast", "Gather", "Slice"} & set(ops_of(model))
    weights = {i.name for i in model.graph.initializer if len(i.dims) > 1}
    assert weights == {p.name for p in cell.trainable_params() if p.ndim > 1}
    x = np.random.default_rng(3).standard_normal((1, 3, size, size)).astype(np.float32)
    got, nodes = through_lite(model, x)
    assert cosine(got, run_cell(cell, x)) >= 0.9999
    assert set(nodes) <= _LITE_NODES
    assert nodes["LayerNormFusion"] == ops_of(model).count("Sqrt")


def cosine(a: np.ndarray, b: np.ndarray) -> float:
    a, b = (v.astype(np.float64).ravel() for v in (a, b))
    return float(a @ b / np.linalg.norm(a) / np.linalg.norm(b))


FULL = {"mobilevit_xxs": 128, "swin_nano": 128, "tiny_vit_5m": 224}


@pytest.mark.slow
@pytest.mark.lite
@pytest.mark.parametrize("name", FULL)
def test_own_models(name, roundtrip, through_lite):
    cell = create_model(name, 10, FULL[name])
    model = roundtrip(cell, (1, 3, FULL[name], FULL[name]), tolerance=1e-4)
    assert 4 <= model.ByteSize() / learned(cell) < 4.3
    x = np.random.default_rng(3).standard_normal((1, 3, FULL[name], FULL[name])).astype(np.float32)
    got, nodes = through_lite(model, x)
    assert cosine(got, run_cell(cell, x)) >= 0.9999
    assert set(nodes) <= _LITE_NODES


FOREIGN = {
    "mobilevit_xx_small": 128,
    "resnet18": 64,
    "mobilenet_v3_small_100": 64,
    "swin_tiny": 224,
    "poolformer_s12": 64,
    "efficientnet_b0": 64,
    "densenet121": 64,
    "convnext_tiny": 64,
    "shufflenet_v2_x1_0": 64,
    "edgenext_xx_small": 64,
    "ghostnet_050": 64,
    "xcit_tiny_12_p16_224": 224,
}


@pytest.mark.slow
@pytest.mark.lite
@pytest.mark.parametrize("name", FOREIGN)
def test_models_of_mindcv(name, roundtrip, through_lite):
    size = FOREIGN[name]
    cell = create_model(f"mindcv:{name}", 10, size)
    model = roundtrip(cell, (1, 3, size, size), tolerance=2e-4, noise=0.01)  # deep networks amplify more, rounding included
    x = np.random.default_rng(3).standard_normal((1, 3, size, size)).astype(np.float32)
    got, _ = through_lite(model, x)
    assert cosine(got, run_cell(cell, x)) >= 0.9999
