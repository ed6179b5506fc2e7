"""Whole networks of msedge's own; `test_mindcv.py` has MindCV's."""

from __future__ import annotations

import numpy as np
import pytest
from numeric import cosine
from onnx import TensorProto

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
VIT = {"patch": 8, "dim": 24, "heads": (2, 3, 4), "head_dim": (8, 8, 10), "mlp": (48, 32, 40)}
# name: size and widths; then the nodes in the .ms next to Reshape, Transpose, Split and Concat
OWN = {
    "mobilevit_xxs": (64, MOBILEVIT),
    "swin_nano": (64, SWIN),
    "tiny_vit_5m": (64, TINYVIT),
    "vit_tiny": (64, VIT),
}
_LITE_NODES = {
    "Conv2DFusion", "Activation", "AddFusion", "Transpose", "Reshape", "LayerNormFusion", "MatMulFusion", "Gather",
    "Softmax", "Concat", "Split", "AvgPoolFusion", "ReduceFusion",
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
    assert not {"BatchNormalization", "Identity", "Cast", "Slice"} & set(ops_of(model))
    weights = {i.name for i in model.graph.initializer if len(i.dims) > 1 and i.data_type == TensorProto.FLOAT}
    assert weights == {p.name for p in cell.trainable_params() if p.ndim > 1}
    x = np.random.default_rng(3).standard_normal((1, 3, size, size)).astype(np.float32)
    got, nodes = through_lite(model, x)
    assert cosine(got, run_cell(cell, x)) >= 0.9999
    assert set(nodes) <= _LITE_NODES
    assert nodes["LayerNormFusion"] == ops_of(model).count("Sqrt")


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
