"""Names are readable, unique, and the same in every export."""

from __future__ import annotations

import subprocess
import sys

import pytest

from msedge.mindspore_setup import load_mindspore

ms = load_mindspore()

from mindspore import nn, ops  # noqa: E402

from msedge.exporter import mindir_to_onnx  # noqa: E402
from msedge.models import create_model  # noqa: E402

SMALL = {"heads": ((2,), (2,), (2,)), "head_dim": ((8,), (8,), (8,)), "mlp": ((16,), (16,), (16,))}  # one layer per stage


class ConvAct(nn.Cell):
    def __init__(self, channels: int, stride: int = 1):
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, stride)
        self.bn = nn.BatchNorm2d(channels)
        self.act = nn.SiLU()

    def construct(self, x):
        return self.act(self.bn(self.conv(x)))


class Residual(nn.Cell):
    def __init__(self, channels: int):
        super().__init__()
        self.first = ConvAct(channels)
        self.second = ConvAct(channels)

    def construct(self, x):
        return x + self.second(self.first(x))


class Net(nn.Cell):
    def __init__(self):
        super().__init__()
        self.stem = ConvAct(3, 2)
        self.blocks = nn.SequentialCell([Residual(3) for _ in range(3)])
        self.head = nn.Dense(3, 2)

    def construct(self, x):
        return self.head(self.blocks(self.stem(x)).mean((2, 3)))


@pytest.fixture
def names(to_onnx):
    return [n.name for n in to_onnx(Net(), (1, 3, 16, 16)).graph.node]


def test_nodes_stand_in_their_layers(names):
    block = [
        "first.conv/Conv",
        "first.act/Sigmoid",
        "first.act/Mul",
        "second.conv/Conv",
        "second.act/Sigmoid",
        "second.act/Mul",
    ]
    expected = ["stem.conv/Conv", "stem.act/Sigmoid", "stem.act/Mul"]
    for i in range(3):
        expected += [f"blocks.{i}.{n}" for n in block] + [f"blocks.{i}/Add"]
    assert names[:-3] == expected
    assert names[-1] == "head/Gemm"


def test_tensors_are_named_after_nodes_and_parameters(to_onnx):
    model = to_onnx(Net(), (1, 3, 16, 16))
    graph = model.graph
    assert [i.name for i in graph.input] == ["input"]
    assert [o.name for o in graph.output] == ["logits"]
    assert all(n.output[0] in (n.name, "logits") for n in graph.node)
    weights = {i.name for i in graph.initializer if len(i.dims) > 1}
    assert weights == {p.name for p in Net().get_parameters() if p.ndim > 1}


def test_names_are_unique_and_safe_in_lists(to_onnx):
    graph = to_onnx(create_model("mobilevit_xxs", 2, 64, **SMALL), (1, 3, 64, 64)).graph
    names = [n.name for n in graph.node]
    assert len(set(names)) == len(names)
    assert all(c.isalnum() or c in "._/" for name in names for c in name)  # skip_quant_node separates names by commas
    tensors = [o for n in graph.node for o in n.output] + [i.name for i in graph.initializer]
    assert len(set(tensors)) == len(tensors)


def test_a_second_export_is_equal_to_the_byte(to_onnx):
    first, second = (to_onnx(create_model("mobilevit_xxs", 2, 64, **SMALL), (1, 3, 64, 64)) for _ in range(2))
    assert first.SerializeToString(deterministic=True) == second.SerializeToString(deterministic=True)


_ANOTHER_PROCESS = """
import sys
from msedge.exporter import cell_to_mindir
from msedge.models import create_model
cell_to_mindir(create_model("swin_nano", 3, 64), (1, 3, 64, 64), sys.argv[1])
"""


@pytest.mark.slow
def test_names_do_not_depend_on_the_process(to_onnx, tmp_path):
    other = tmp_path / "other.mindir"
    subprocess.run([sys.executable, "-c", _ANOTHER_PROCESS, str(other)], check=True, capture_output=True)
    create_model("mobilevit_xxs", 2, 64)
    here = to_onnx(create_model("swin_nano", 3, 64), (1, 3, 64, 64))
    assert [n.name for n in mindir_to_onnx(other).graph.node] == [n.name for n in here.graph.node]


class Renamed(nn.Cell):
    """Parameters that do not follow the attributes."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Conv2d(3, 3, 1)
        self.layer.weight.name = "body.first.kernel"

    def construct(self, x):
        return ops.relu(self.layer(x))


def test_parameter_names_win_over_attributes(to_onnx):
    model = to_onnx(Renamed(), (1, 3, 4, 4))
    assert model.graph.node[0].name == "body.first/Conv"
    assert model.graph.initializer[0].name == "body.first.kernel"


class Tied(nn.Cell):
    """One parameter in two roles: as it is, and transposed."""

    def __init__(self):
        super().__init__()
        self.table = ms.Parameter(ops.ones((4, 4)), name="table")

    def construct(self, x):
        y = ops.MatMul(transpose_b=True)(x.reshape(-1, 4), self.table)
        return y + ops.matmul(x, self.table.transpose()).reshape(-1, 4)


def test_a_parameter_in_two_forms_has_two_names(roundtrip):
    names = [i.name for i in roundtrip(Tied(), (1, 2, 3, 4)).graph.initializer if len(i.dims) == 2]
    assert sorted(names) == ["table", "table_1"]
