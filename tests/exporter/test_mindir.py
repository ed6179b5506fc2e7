"""Reading MindIR: sub-graphs, tuples, dead parameters, and what is refused."""

from __future__ import annotations

import contextlib
import inspect
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from msedge.mindspore_setup import load_mindspore

ms = load_mindspore()

from mindspore import mint, nn, ops  # noqa: E402

from msedge.errors import ArtifactError, ExportError  # noqa: E402
from msedge.exporter import cell_to_mindir, mindir_to_onnx  # noqa: E402
from msedge.exporter.check import run_cell, run_onnx  # noqa: E402
from msedge.exporter.decode import pb  # noqa: E402
from msedge.exporter.mindir import read_mindir  # noqa: E402
from msedge.exporter.registry import rule, supported  # noqa: E402
from msedge.exporter.values import leaves  # noqa: E402

SHAPE = (1, 3, 8, 8)


class Block(nn.Cell):
    def __init__(self, channels: int):
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, has_bias=True)

    def construct(self, x):
        return ops.relu(self.conv(x)) + x


class Blocks(nn.Cell):
    def __init__(self, kind: type = Block):
        super().__init__()
        self.blocks = nn.CellList([kind(3) for _ in range(3)])
        rng = np.random.default_rng(0)
        for p in self.get_parameters():
            p.set_data(ms.Tensor(rng.standard_normal(p.shape).astype(np.float32)))

    def construct(self, x):
        for block in self.blocks:
            x = block(x)
        return x


# A process of its own: CPUs compile lazy_inline, but afterwards run nothing more.
_LAZY = """
import sys
import numpy as np
from msedge.exporter import cell_to_mindir
from mindspore import lazy_inline
import mindspore as ms
from mindspore import nn, ops

{blocks}

class Lazy(Block):
    @lazy_inline
    def __init__(self, channels):
        super().__init__(channels)

cell_to_mindir(Blocks(Lazy), (1, 3, 8, 8), sys.argv[1])
"""


def test_calls_of_sub_graphs_are_expanded(tmp_path):
    """`lazy_inline` keeps its cell a function, compiled once and called three times."""
    script, path = tmp_path / "lazy.py", tmp_path / "m.mindir"
    script.write_text(_LAZY.format(blocks=inspect.getsource(Block) + "\n" + inspect.getsource(Blocks)))
    subprocess.run([sys.executable, str(script), str(path)], check=True, capture_output=True, cwd=tmp_path)
    model = mindir_to_onnx(path)
    assert len(pb.ModelProto.FromString(path.read_bytes()).functions) == 1
    names = {i.name for i in model.graph.initializer}
    assert names == {f"blocks.{i}.conv.{p}" for i in range(3) for p in ("weight", "bias")}
    assert [n.name for n in model.graph.node if n.op_type == "Conv"] == [f"blocks.{i}.conv/Conv" for i in range(3)]
    assert [n.name for n in model.graph.node if n.op_type == "Add"] == [f"blocks.{i}/Add" for i in range(3)]
    x = np.random.default_rng(0).standard_normal(SHAPE).astype(np.float32)
    np.testing.assert_allclose(run_onnx(model, x), Blocks()(ms.Tensor(x)).asnumpy(), rtol=1e-4)


class Several(nn.Cell):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)

    def construct(self, x):
        y = self.conv(x)
        return {"logits": y.mean((2, 3)), "features": (y, x)}


def test_dicts_and_tuples_become_several_outputs(to_onnx):
    outputs = to_onnx(Several(), SHAPE).graph.output
    assert [o.name for o in outputs] == ["output_0", "output_1", "output_2"]
    assert [[d.dim_value for d in o.type.tensor_type.shape.dim] for o in outputs] == [[1, 4], [1, 4, 8, 8], [1, 3, 8, 8]]


class Dead(nn.Cell):
    def __init__(self):
        super().__init__()
        self.unused = ms.Parameter(ops.ones((64, 64)), name="unused")
        self.conv = nn.Conv2d(3, 4, 3)
        self.aside = nn.Dense(8, 500)

    def construct(self, x):
        nothing = self.aside(x)
        return self.conv(x) + 0 * nothing.shape[0] + self.unused.shape[0]


def test_dead_parameters_are_dropped(roundtrip):
    model = roundtrip(Dead(), SHAPE)
    assert [i.name for i in model.graph.initializer if len(i.dims) > 1] == ["conv.weight"]
    assert model.ByteSize() < 2000


class Branching(nn.Cell):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)

    def construct(self, x):
        y = self.conv(x)
        return y + 1 if y.sum() > 0 else y * 2


def test_branches_on_values_are_refused(to_onnx):
    with pytest.raises(ExportError, match=r"branches on the values of a tensor .*ops.select"):
        to_onnx(Branching(), SHAPE)


class Sorting(nn.Cell):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)

    def construct(self, x):
        return ops.sort(self.conv(x))[0]


class Net(nn.Cell):
    def __init__(self):
        super().__init__()
        self.stages = nn.CellList([nn.Conv2d(3, 3, 3), Sorting()])

    def construct(self, x):
        for stage in self.stages:
            x = stage(x)
        return x


def test_an_unknown_primitive_is_named_with_its_layer(to_onnx):
    with pytest.raises(ExportError, match=r"the primitive Sort in stages\.1\S* has no ONNX rule .*add a rule"):
        to_onnx(Net(), SHAPE)


def test_an_unknown_primitive_that_nothing_needs_is_no_error(roundtrip):
    def unneeded(x):
        y = ops.sort(x)[0]
        return x * y.shape[1]

    roundtrip(unneeded, SHAPE)


def test_a_rule_cannot_be_registered_twice():
    assert {"Conv2D", "LayerNorm", "GeLU", "BatchMatMul"} <= set(supported())
    with pytest.raises(ValueError, match="two rules for ReLU"):
        rule("ReLU")(lambda op: "")


def test_the_flat_graph_has_primitives_only(tmp_path):
    cell_to_mindir(Blocks(), SHAPE, tmp_path / "m.mindir")
    graph = read_mindir(tmp_path / "m.mindir")
    assert [n.op for n in graph.nodes] == ["Conv2D", "BiasAdd", "ReLU", "Add"] * 3
    assert all(v is not None for n in graph.nodes for v in leaves(n.inputs))
    assert graph.inputs[0].shape == SHAPE
    assert graph.inputs[0].dtype == np.float32


def test_a_missing_file(tmp_path):
    with pytest.raises(ArtifactError, match="is missing"):
        mindir_to_onnx(tmp_path / "none.mindir")


@pytest.mark.parametrize("keep", [0, 10, 0.5, 0.95])
def test_a_damaged_file(keep, tmp_path):
    path = tmp_path / "m.mindir"
    cell_to_mindir(Blocks(), SHAPE, path)
    whole = path.read_bytes()
    path.write_bytes(whole[: keep if isinstance(keep, int) else int(keep * len(whole))])
    with pytest.raises((ArtifactError, ExportError)):
        mindir_to_onnx(path)


@settings(max_examples=40, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(changes=st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.integers(0, 255)), min_size=1, max_size=5))
def test_flipped_bytes_never_give_a_traceback(changes, small_mindir, tmp_path):
    data = bytearray(small_mindir)
    for place, value in changes:
        data[int(place * len(data))] = value
    (tmp_path / "m.mindir").write_bytes(data)
    with contextlib.suppress(ArtifactError, ExportError):
        mindir_to_onnx(tmp_path / "m.mindir")


@pytest.fixture(scope="module")
def small_mindir(tmp_path_factory) -> bytes:
    path = tmp_path_factory.mktemp("mindir") / "m.mindir"
    cell_to_mindir(Blocks(), SHAPE, path)
    return path.read_bytes()


def test_a_file_of_another_kind(tmp_path):
    path = tmp_path / "m.mindir"
    path.write_bytes(b"PK\x03\x04 something else entirely" * 50)
    with pytest.raises(ArtifactError, match="is not a MindIR file"):
        mindir_to_onnx(path)


class Broken(nn.Cell):
    def __init__(self):
        super().__init__()
        self.head = nn.Dense(7, 2)

    def construct(self, x):
        return self.head(x)


def test_a_cell_that_does_not_compile_is_one_line_and_leaves_nothing(tmp_path, monkeypatch, capfd):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ExportError, match=r"cannot compile Broken for input \[1, 3, 8, 8\]") as e:
        cell_to_mindir(Broken(), SHAPE, tmp_path / "out" / "m.mindir")
    assert "\n" not in str(e.value)
    assert not list(tmp_path.rglob("*"))
    assert capfd.readouterr() == ("", "")


def test_training_switches_come_back(tmp_path):
    cell = Blocks().set_train(True)
    cell.blocks[1].set_train(False)
    cell_to_mindir(cell, SHAPE, tmp_path / "m.mindir")
    assert [b.training for b in cell.blocks] == [True, False, True]
    assert cell.training


class Sliced(nn.Cell):
    def __init__(self):
        super().__init__()
        self.stages = nn.CellList([Block(3) for _ in range(3)])

    def construct(self, x):
        for stage in self.stages[1:]:
            x = stage(x)
        return x


def test_names_of_parameters_come_back(tmp_path):
    """Taking a slice of a CellList renames its parameters when MindSpore runs it operator by operator."""
    cell = Sliced()
    names = [p.name for p in cell.get_parameters()]
    run_cell(cell, np.zeros(SHAPE, np.float32))
    cell_to_mindir(cell, SHAPE, tmp_path / "m.mindir")
    assert [p.name for p in cell.get_parameters()] == names
    assert mindir_to_onnx(tmp_path / "m.mindir").graph.node[0].name == "stages.1.conv/Conv"


def test_views_of_mint_are_plain_primitives(roundtrip):
    def views(x):
        a, b = mint.split(x, 4, 2)
        return mint.transpose(mint.cat([a, b], 3), 1, 2).flatten(1)

    roundtrip(views, SHAPE)
