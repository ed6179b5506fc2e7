"""Plans in `.ms` files: kernels against exact arithmetic, whole models against the simulation, and what is refused."""

from __future__ import annotations

import functools
from collections import Counter
from dataclasses import replace

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from quant_exact import check_int8_nodes
from quant_plans import min_max_plan

from msedge.errors import ArtifactError
from msedge.lite import ConvertRequest, read_ms
from msedge.lite.ms_writer import MsEditor, inputs, op, outputs
from msedge.quantization.graph import ModelGraph
from msedge.quantization.ms_int8 import rewrite_int8
from msedge.quantization.onnx_simulation import Simulation
from msedge.quantization.plan import NodePlan, Plan
from msedge.quantization.shared_scales import with_shared_scales

pytestmark = pytest.mark.lite
RNG = np.random.default_rng


class Network:
    """A small ONNX model written node by node; every node has the name of its output."""

    def __init__(self, *shape: int):
        self.shape, self.nodes, self.constants, self.rng = shape, [], {}, RNG(5)

    def constant(self, name: str, value) -> str:
        self.constants[name] = np.asarray(value)
        return name

    def random(self, name: str, *shape: int) -> str:
        """Weights whose output channels differ in size."""
        spread = np.exp(self.rng.normal(0, 0.7, (shape[0],) + (1,) * (len(shape) - 1)))
        fan = max(1, int(np.prod(shape[1:])))
        return self.constant(name, (self.rng.normal(0, 1, shape) * spread / np.sqrt(fan)).astype(np.float32))

    def __call__(self, kind: str, name: str, *sources: str, **attributes) -> str:
        self.nodes.append(helper.make_node(kind, list(sources), [name], name, **attributes))
        return name

    def conv(self, name: str, x: str, cin: int, cout: int, kernel: int, stride: int = 1, pad: int = 0, group: int = 1) -> str:
        w, b = self.random(f"{name}.w", cout, cin // group, kernel, kernel), self.random(f"{name}.b", cout)
        shape = {"kernel_shape": [kernel] * 2, "strides": [stride] * 2, "pads": [pad] * 4, "dilations": [1, 1]}
        return self("Conv", name, x, w, b, group=group, **shape)

    def gemm(self, name: str, x: str, cin: int, cout: int, transposed: int = 1) -> str:
        w = self.random(f"{name}.w", cout, cin)
        if not transposed:
            self.constants[w] = np.ascontiguousarray(self.constants[w].T)
        return self("Gemm", name, x, w, self.random(f"{name}.b", cout), transB=transposed)

    def reshape(self, name: str, x: str, *shape: int) -> str:
        return self("Reshape", name, x, self.constant(f"{name}.shape", np.array(shape)))

    def model(self, result: str, *shape: int) -> onnx.ModelProto:
        ends = [(("x", self.shape),), ((result, shape),)]
        values = [[helper.make_tensor_value_info(n, TensorProto.FLOAT, s) for n, s in end] for end in ends]
        constants = [numpy_helper.from_array(v, n) for n, v in self.constants.items()]
        graph = helper.make_graph(self.nodes, "net", *values, constants)
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
        onnx.checker.check_model(model)
        return model


@pytest.fixture(scope="module")
def converted(toolchain, tmp_path_factory):
    """A function: the `.ms` bytes of an ONNX model, converted once for each name."""
    done: dict[str, tuple[ModelGraph, bytes]] = {}
    folder = tmp_path_factory.mktemp("converted")

    def convert(name: str, model: onnx.ModelProto) -> tuple[ModelGraph, bytes]:
        if name not in done:
            source, ms = folder / f"{name}.onnx", folder / f"{name}.ms"
            onnx.save(model, str(source))
            toolchain.convert(ConvertRequest(source, ms, "ONNX"))
            done[name] = ModelGraph(model), ms.read_bytes()
        return done[name]

    return convert


@pytest.fixture(params=["toolchain", pytest.param("aarch64", marks=pytest.mark.slow)])
def runtime(request):
    """The runtime of this machine; and that of aarch64, whose kernels are others, where there is one."""
    return request.getfixturevalue(request.param)


def written(data: bytes, tmp_path):
    file = tmp_path / "int8.ms"
    file.write_bytes(data)
    return file


def pictures(n: int, *shape: int) -> np.ndarray:
    return RNG(3).standard_normal((n, *shape)).astype(np.float32)


def cosine(a: np.ndarray, b: np.ndarray) -> float:
    return float((a * b).sum() / np.linalg.norm(a) / np.linalg.norm(b))


CONVOLUTIONS = {  # (channels in, out, kernel, stride, pad, group), size
    "stem": ((3, 16, 3, 2, 1, 1), 17),
    "3x3": ((16, 24, 3, 1, 1, 1), 9),
    "3x3 to 7 channels": ((16, 7, 3, 2, 1, 1), 11),
    "1x1": ((16, 24, 1, 1, 0, 1), 7),
    "1x1 odd": ((13, 5, 1, 1, 0, 1), 5),
    "1x1 with stride": ((16, 24, 1, 2, 0, 1), 8),
    "1x1 of one pixel": ((64, 33, 1, 1, 0, 1), 1),
    "deep": ((320, 16, 3, 1, 1, 1), 4),
    "depthwise": ((16, 16, 3, 1, 1, 16), 9),
    "depthwise with stride": ((24, 24, 3, 2, 1, 24), 8),
    "depthwise odd": ((13, 13, 3, 2, 1, 13), 9),
    "depthwise 7x7": ((16, 16, 7, 1, 3, 16), 14),
    "depthwise 5x5": ((16, 16, 5, 2, 2, 16), 14),
    "depthwise of one pixel": ((16, 16, 3, 1, 1, 16), 1),
    "patches 4x4": ((3, 48, 4, 4, 0, 1), 32),
    "patches 7x7": ((3, 20, 7, 4, 2, 1), 32),
    "patches 2x2": ((16, 24, 2, 2, 0, 1), 8),
}


@pytest.mark.parametrize("activation", ["", "Relu", "Clip"])
def test_convolutions_compute_what_exact_arithmetic_gives(activation, converted, runtime, tmp_path):
    """All kinds in one model: branches from the image, summed up."""
    net = Network(1, 3, 33, 33)
    ends = []
    for i, ((cin, cout, kernel, stride, pad, group), size) in enumerate(CONVOLUTIONS.values()):
        x = net("Sigmoid", f"in{i}", net.conv(f"make{i}", "x", 3, cin, 34 - size))
        y = net.conv(f"conv{i}", x, cin, cout, kernel, stride, pad, group)
        if activation:
            bounds = (net.constant("low", np.float32(0)), net.constant("high", np.float32(6))) if activation == "Clip" else ()
            y = net(activation, f"act{i}", y, *bounds)
        ends.append(net("GlobalAveragePool", f"mean{i}", net("Sigmoid", f"out{i}", y)))
    y = net("Concat", "y", *ends, axis=1)
    graph, ms = converted(f"convolutions{activation}", net.model(y, 1, sum(c[0][1] for c in CONVOLUTIONS.values()), 1, 1))
    only = [f"conv{i}" for i in range(len(CONVOLUTIONS))]
    image = pictures(1, 3, 33, 33)
    done = rewrite_int8(ms, graph, min_max_plan(graph, image, only))
    assert done.quantised == tuple(only)
    checked = check_int8_nodes(runtime, written(done.data, tmp_path), image)
    assert Counter(c.op for c in checked) == {"Conv2DFusion": len(only), "QuantDTypeCast": 2 * len(only)}
    for c in checked:
        assert c.most <= 1, c
        assert c.wrong <= (0.03 if c.op == "Conv2DFusion" else 0), c  # rounded twice: ties in fixed point


def test_products_compute_what_exact_arithmetic_gives(converted, runtime, tmp_path):
    """Gemm and MatMul by constants and of two activations: odd sizes, transposed, batches, one row or column."""
    net, ends, width = Network(1, 4, 13, 14), [], 0
    flat = net("Sigmoid", "flat", net.reshape("line", "x", 1, 728))

    def end(y: str, numbers: int) -> None:
        nonlocal width
        ends.append(net.reshape(f"{y}.end", net("Sigmoid", f"{y}.out", y), 1, numbers))
        width += numbers

    for rows, cin, cout, transposed in ((56, 13, 5, 1), (1, 728, 3, 1), (7, 104, 33, 0), (104, 7, 16, 1), (1, 728, 10, 0)):
        name = f"gemm{rows}x{cin}x{cout}"
        end(net.gemm(name, net.reshape(f"{name}.in", flat, rows, cin), cin, cout, transposed), rows * cout)
    for shape, cout in (((2, 28, 13), 5), ((2, 4, 7, 13), 6), ((1, 728), 4)):
        name = f"matmul{len(shape)}"
        w = net.constant(f"{name}.w", net.constants[net.random(f"{name}.t", cout, shape[-1])].T.copy())
        end(net("MatMul", name, net.reshape(f"{name}.in", flat, *shape), w), 728 // shape[-1] * cout)
    for i, (a, b) in enumerate([((7, 104), (104, 7)), ((4, 13, 14), (4, 14, 13)), ((2, 4, 7, 13), (2, 4, 13, 7)),
                                ((8, 1, 91), (8, 91, 1)), ((56, 13), (13, 56)), ((2, 2, 14, 13), (2, 2, 13, 14))]):  # fmt: skip
        left = net.reshape(f"product{i}.a", flat, *a)
        right = net("Tanh", f"product{i}.b", net.reshape(f"product{i}.r", flat, *b))
        end(net("MatMul", f"product{i}", left, right), int(np.prod(a[:-1])) * b[-1])
    axes = {"perm": [0, 1, 3, 2]}
    turned = net("Transpose", "turned.b", net.reshape("turned.r", net("Tanh", "turned.t", flat), 2, 4, 7, 13), **axes)
    end(net("MatMul", "turned", net.reshape("turned.a", flat, 2, 4, 7, 13), turned), 2 * 4 * 7 * 7)
    graph, ms = converted("products", net.model(net("Concat", "y", *ends, axis=1), 1, width))
    image = pictures(1, 4, 13, 14)
    done = rewrite_int8(ms, graph, min_max_plan(graph, image))
    assert (len(done.quantised), done.kept_float) == (15, {})
    checked = check_int8_nodes(runtime, written(done.data, tmp_path), image)
    assert Counter(c.op for c in checked)["MatMulFusion"] == 15
    for c in checked:
        assert c.most <= 1, c
        assert c.wrong <= (0.03 if c.op == "MatMulFusion" else 0), c


MOVES = {
    "Reshape": lambda net, x: net.reshape("m", x, 4, 15),
    "Transpose": lambda net, x: net("Transpose", "m", x, perm=[2, 0, 1]),
    "Gather": lambda net, x: net("Gather", "m", x, net.constant("rows", np.array([[2, 0], [1, 1]])), axis=1),
    "Squeeze": lambda net, x: net("Squeeze", "m", net.reshape("wide", x, 5, 1, 12), net.constant("axes", np.array([1]))),
    "Unsqueeze": lambda net, x: net("Unsqueeze", "m", x, net.constant("axes", np.array([1]))),
}


def moving(move: str, read_in_float: bool = False) -> onnx.ModelProto:
    """Product, movement, product; where asked, a float reader of what was moved."""
    net = Network(1, 3, 4, 5)
    shape = {"Reshape": (4, 15), "Transpose": (3, 5, 4), "Gather": (5, 2, 2, 3), "Squeeze": (5, 12), "Unsqueeze": (5, 1, 4, 3)}
    x = net.reshape("tokens", net("Sigmoid", "s", "x"), 5, 4, 3)
    moved = MOVES[move](net, net("MatMul", "first", x, net.random("w1", 3, 3)))
    y = net("MatMul", "second", moved, net.random("w2", shape[move][-1], 6))
    if read_in_float:
        y = net("Add", "sum", y, net("ReduceMean", "mean", net("Tanh", "tanh", moved), axes=[-1], keepdims=1))
    return net.model(net("Tanh", "y", y), *shape[move][:-1], 6)


@pytest.mark.parametrize("move", MOVES)
def test_numbers_move_between_int8_nodes_in_int8(move, converted, runtime, tmp_path):
    graph, ms = converted(f"move{move}", moving(move))
    image = pictures(1, 3, 4, 5)
    file = written(rewrite_int8(ms, graph, min_max_plan(graph, image)).data, tmp_path)
    checked = check_int8_nodes(runtime, file, image)
    counts = Counter(c.op for c in checked)
    assert counts["QuantDTypeCast"] == 2
    assert counts.total() > 4, "the movement is among the int8 nodes"
    assert all(c.wrong == 0 for c in checked if c.op != "MatMulFusion")


@pytest.mark.parametrize("move", ["Reshape", "Gather"])
def test_float_readers_of_moved_numbers_get_them_in_float(move, converted, toolchain, tmp_path):
    graph, ms = converted(f"shared{move}", moving(move, read_in_float=True))
    image = pictures(1, 3, 4, 5)
    plan = min_max_plan(graph, image)
    file = written(rewrite_int8(ms, graph, plan).data, tmp_path)
    casts = [n.name for n in read_ms(file).nodes if n.op == "QuantDTypeCast"]
    assert len(casts) == 3, casts
    with toolchain.load(file) as session:
        out = session.trace(image)[-1].outputs[0]
    np.testing.assert_allclose(out, Simulation(graph).tensors(image, ["y"], plan)["y"], atol=0.02)


def test_moves_of_a_float_tensor_stay_float_where_floats_read_them(converted, toolchain, tmp_path):
    """Quantising before a movement would take precision from the float reader behind it."""
    graph, ms = converted("sharedGather", moving("Gather", read_in_float=True))
    images = pictures(4, 3, 4, 5)
    plan = min_max_plan(graph, images, only=["second"])
    file = written(rewrite_int8(ms, graph, plan).data, tmp_path)
    with toolchain.load(file) as session:
        nodes = {t.name: t.outputs[0] for t in session.trace(images[:1])}
    assert nodes["m"].dtype == np.float32
    np.testing.assert_allclose(nodes["tanh"], Simulation(graph).tensors(images[:1], ["tanh"])["tanh"], atol=1e-6)


@pytest.fixture(scope="module")
def family(converted, tmp_path_factory):
    """A function: the narrow model of a family as graph and `.ms`."""
    from families import SMALL, small

    from msedge.exporter import cell_to_mindir, mindir_to_onnx

    @functools.cache
    def make(name: str) -> tuple[ModelGraph, bytes]:
        file = tmp_path_factory.mktemp("family") / "model.mindir"
        cell_to_mindir(small(name), (1, 3, SMALL[name][0], SMALL[name][0]), file)
        return converted(name, mindir_to_onnx(file))

    return make


FOUR = pytest.mark.parametrize("name", ["mobilevit_xxs", "swin_nano", "tiny_vit_5m", "poolformer_s12"])


@FOUR
def test_backbones_in_int8_follow_the_simulation(name, family, toolchain, tmp_path):
    graph, ms = family(name)
    images = pictures(8, 3, *Simulation(graph).input_shape[2:])
    plan = min_max_plan(graph, images)
    done = rewrite_int8(ms, graph, plan)
    assert {*done.quantised, *done.kept_float} == set(graph.units)
    fused = 2 if name == "mobilevit_xxs" else 0  # a 1x1 convolution into the next one, where few channels are
    assert len(done.kept_float) == fused, done.kept_float
    plan = plan.with_float(done.kept_float)
    file = written(done.data, tmp_path)
    for c in check_int8_nodes(toolchain, file, images[:1]):
        assert c.most <= 1, c
        assert c.wrong <= (0.05 if c.op.endswith("Fusion") else 0), c
    with toolchain.load(file) as session:
        assert session.inputs[0].dtype == session.outputs[0].dtype == "float32"
        out = session.predict(images)
    simulation = Simulation(graph)
    assert cosine(out, simulation.logits(images, plan)) > 0.999
    assert cosine(out, simulation.logits(images)) > 0.998


@pytest.mark.parametrize("seed", range(3))
def test_any_subset_of_nodes_may_be_int8(seed, family, toolchain, tmp_path):
    graph, ms = family("swin_nano")
    images = pictures(4, 3, 32, 32)
    rng = RNG(seed)
    whole = min_max_plan(graph, images)
    plan = whole.with_float({n: "chance" for n in graph.units if rng.random() < (0.3, 0.5, 0.8)[seed]})
    done = rewrite_int8(ms, graph, plan)
    assert set(done.quantised) == set(plan.of("int8"))
    file = written(done.data, tmp_path)
    assert all(c.most <= 1 for c in check_int8_nodes(toolchain, file, images[:1]))
    with toolchain.load(file) as session:
        out = session.predict(images)
    assert cosine(out, Simulation(graph).logits(images, plan)) > 0.999
    quantised = {n.name for n in read_ms(file).nodes if n.quant_type == "QUANT_ALL" and n.op.endswith("Fusion")}
    assert quantised == set(plan.of("int8"))


def test_a_tensor_is_cast_once_for_all_its_readers(family):
    graph, ms = family("tiny_vit_5m")
    plan = min_max_plan(graph, pictures(2, 3, 64, 64))
    for some in (plan, plan.with_float({n: "" for i, n in enumerate(graph.units) if i % 3 == 0})):
        editor = MsEditor(rewrite_int8(ms, graph, some).data)
        casts = [n for n in editor.nodes if op(n) == "QuantDTypeCast"]
        assert len({n["name"] for n in editor.nodes}) == len(editor.nodes)
        assert len({inputs(n)[0] for n in casts}) == len(casts)
        made = {outputs(n)[0]: inputs(n)[0] for n in casts}
        assert not [n for n in casts if inputs(n)[0] in made], "a cast of what was cast"
        assert not [n for n in casts if not any(outputs(n)[0] in (*inputs(m), *editor.outputs) for m in editor.nodes)]


def test_an_empty_plan_leaves_the_numbers_as_they_are(family, toolchain, tmp_path):
    graph, ms = family("poolformer_s12")
    done = rewrite_int8(ms, graph, Plan(graph.fingerprint, {}, {}))
    images = pictures(2, 3, 64, 64)
    (tmp_path / "float.ms").write_bytes(ms)
    with toolchain.load(tmp_path / "float.ms") as before, toolchain.load(written(done.data, tmp_path)) as after:
        np.testing.assert_array_equal(after.predict(images), before.predict(images))
    assert done.quantised == ()


def chain() -> onnx.ModelProto:
    net = Network(1, 3, 16, 16)
    y = net.conv("b", net("Relu", "ar", net.conv("a", "x", 3, 8, 3, 2, 1)), 8, 8, 3, 1, 1)
    y = net.conv("c", y, 8, 6, 1)
    return net.model(net.gemm("head", net.reshape("line", y, 1, 384), 384, 4), 1, 4)


def test_int8_nodes_in_a_row_need_no_casts_between_them(converted, toolchain, tmp_path):
    graph, ms = converted("chain", chain())
    images = pictures(4, 3, 16, 16)
    plan = min_max_plan(graph, images)
    file = written(rewrite_int8(ms, graph, plan).data, tmp_path)
    model = read_ms(file)
    kinds = [n.op for n in model.nodes]
    assert kinds.count("QuantDTypeCast") == 2
    assert (kinds[0], kinds[-1]) == ("QuantDTypeCast", "QuantDTypeCast")
    assert (model.tensors[model.outputs[0]].dtype, model.tensors[model.outputs[0]].name) == ("float32", "head")
    with toolchain.load(file) as session:
        assert cosine(session.predict(images), Simulation(graph).logits(images, plan)) > 0.9995


def test_what_the_converter_fused_is_stored_as_its_last_tensor(converted, toolchain, tmp_path):
    """MatMul and Add become one node, whose output is the Add's: only a plan that knows it can say how it is stored."""
    net = Network(1, 3, 4, 5)
    x = net.reshape("tokens", net("Sigmoid", "s", "x"), 4, 15)
    y = net("Add", "sum", net("MatMul", "first", x, net.random("w1", 15, 8)), net.random("b1", 8))
    y = net("Add", "sum2", net("MatMul", "second", y, net.random("w2", 8, 6)), net.random("b2", 6))
    graph, ms = converted("fused", net.model(net("Tanh", "y", y), 4, 6))
    image = pictures(1, 3, 4, 5)
    done = rewrite_int8(ms, graph, min_max_plan(graph, image))
    assert done.quantised == ("first",)
    assert done.kept_float == {"second": "the converter fused it up to 'sum2', which the plan does not store"}
    assert all(c.most <= 1 for c in check_int8_nodes(toolchain, written(done.data, tmp_path), image))


def test_what_no_kernel_computes_right_stays_float_and_is_named(converted, toolchain, tmp_path):
    net = Network(1, 8, 9, 9)
    y = net.conv("groups", "x", 8, 12, 3, 1, 1, group=4)
    y = net.conv("plain", net("Sigmoid", "s", y), 12, 8, 1)
    y = net.conv("twice", net("Sigmoid", "s2", y), 8, 16, 3, 1, 1, group=8)
    y = net.reshape("rows", net("Sigmoid", "s3", y), 2, 4, 162)
    y = net("MatMul", "stacked", y, net.random("w3", 2, 162, 5))
    y = net("MatMul", "left", net.random("w4", 3, 4), net("Sigmoid", "s4", y))
    graph, ms = converted("kept", net.model(net("Tanh", "y", y), 2, 3, 5))
    image = pictures(1, 8, 9, 9)
    done = rewrite_int8(ms, graph, min_max_plan(graph, image))
    assert done.quantised == ("plain",)
    assert list(done.kept_float) == ["groups", "twice", "stacked", "left"]
    assert done.kept_float["groups"] == "the runtime has no int8 kernel for scales of channels in 4 groups"
    assert done.kept_float["stacked"].startswith("its constant has 3 dimensions")
    assert done.kept_float["left"] == "its constant is its first factor, not its second"
    checked = check_int8_nodes(toolchain, written(done.data, tmp_path), image)
    assert [c.op for c in checked] == ["QuantDTypeCast", "Conv2DFusion", "QuantDTypeCast"]


def test_a_bias_that_outweighs_its_channel_fits_its_integer(converted, toolchain, tmp_path):
    """Channels of next to no weight, as training leaves them: their steps are so small that the bias would overflow."""
    model = chain()
    graph = ModelGraph(model)
    dead = graph.weights["b.w"].copy()
    dead[2], dead[5] = 1e-11, 0.0
    graph = graph.with_weights({"b.w": dead})
    graph, ms = converted("dead", graph.model)
    images = pictures(4, 3, 16, 16)
    plan = min_max_plan(graph, images)
    scales = [1e-12 if i in (2, 5) else s for i, s in enumerate(plan.tensors["b.w"].scale)]
    plan = replace(plan, tensors=plan.tensors | {"b.w": replace(plan.tensors["b.w"], scale=tuple(scales))})
    file = written(rewrite_int8(ms, graph, plan).data, tmp_path)
    assert all(c.most <= 1 for c in check_int8_nodes(toolchain, file, images[:1]))
    with toolchain.load(file) as session:
        assert cosine(session.predict(images), Simulation(graph).logits(images)) > 0.998


@pytest.fixture(scope="module")
def plain(converted) -> tuple[ModelGraph, bytes, Plan]:
    graph, ms = converted("chain", chain())
    return graph, ms, min_max_plan(graph, pictures(2, 3, 16, 16))


def test_a_quantised_file_is_refused(plain):
    graph, ms, plan = plain
    with pytest.raises(ArtifactError, match=r"quantised already.*float model"):
        rewrite_int8(rewrite_int8(ms, graph, plan).data, graph, plan)


def test_a_file_of_another_model_is_refused(plain, converted):
    graph, _, plan = plain
    _, other = converted("movereshape", moving("Reshape"))
    with pytest.raises(ArtifactError, match="none of the plan's nodes, not even 'a'"):
        rewrite_int8(other, graph, plan)


def test_a_weight_that_is_not_the_plans_stays_float(plain):
    graph, ms, plan = plain
    changed = graph.with_weights({"b.w": graph.weights["b.w"] * 1.1})
    done = rewrite_int8(ms, changed, plan)
    assert done.kept_float == {"b": "its weight in the .ms is not that of the ONNX: the converter changed it"}
    assert done.quantised == ("a", "c", "head")


@pytest.mark.parametrize("damaged", [b"", b"MSL2", b"\x08\x00\x00\x00MSL2" + bytes(50)])
def test_damaged_files_are_refused(damaged, plain):
    with pytest.raises(ArtifactError, match="damaged"):
        rewrite_int8(damaged, plain[0], plain[2])


@pytest.mark.parametrize(
    "tensor, changes, message",
    [
        ("b.w", {"bits": 4}, r"weight 'b.w' of node 'b' with 4 bits.*int8 nodes need 8 bits"),
        ("b.w", {"symmetric": False, "zero_point": (1,) * 8}, "with zero points"),
        ("b.w", {"axis": 1}, "with scales along axis 1"),
        ("b.w", {"group": 72}, "with groups"),
        ("b", {"bits": 16}, "tensor 'b' with 16 bits"),
        ("x", {"scale": (0.1, 0.2, 0.3), "zero_point": (0, 0, 0), "axis": 1}, "tensor 'x' with 3 scales"),
    ],
)
def test_plans_that_no_int8_node_can_hold_are_refused(tensor, changes, message, plain):
    graph, ms, plan = plain
    wrong = replace(plan, tensors=plan.tensors | {tensor: replace(plan.tensors[tensor], **changes)})
    with pytest.raises(ArtifactError, match=message):
        rewrite_int8(ms, graph, wrong)


def test_a_plan_of_another_model_or_without_a_tensor_is_refused(plain):
    graph, ms, plan = plain
    with pytest.raises(ArtifactError, match="another model"):
        rewrite_int8(ms, graph, replace(plan, graph="0" * 64))
    with pytest.raises(ArtifactError, match="'b' of node"):
        rewrite_int8(ms, graph, replace(plan, tensors={n: t for n, t in plan.tensors.items() if n != "b"}))


def test_nodes_of_other_precisions_are_left_alone(plain):
    graph, ms, plan = plain
    few = replace(plan, nodes=plan.nodes | {"b": NodePlan("weight"), "c": NodePlan("float")})
    done = rewrite_int8(ms, graph, few)
    assert done.quantised == ("a", "head")
    before, after = read_ms(ms), read_ms(done.data)
    for name in ("b", "c"):
        old, new = (next(n for n in m.nodes if n.name == name) for m in (before, after))
        assert (old.op, old.attributes, new.quant_type) == (new.op, new.attributes, "QUANT_NONE")
        for i, j in zip(old.inputs[1:], new.inputs[1:], strict=True):
            np.testing.assert_array_equal(before.tensors[i].array(), after.tensors[j].array())
            assert before.tensors[i].name == after.tensors[j].name, "the weight rewriter finds them by name"


def test_equal_scales_are_stored_once(plain):
    graph, ms, plan = plain
    own, shared = (rewrite_int8(ms, graph, p).data for p in (plan, with_shared_scales(graph, plan)))
    weights = {u.weight: plan.tensors[u.weight] for u in graph.units.values()}
    channels = sum(len(t.scale) for t in weights.values())
    one = {name: replace(t, scale=(0.01,) * len(t.scale)) for name, t in weights.items()}
    least = rewrite_int8(ms, graph, replace(plan, tensors=plan.tensors | one)).data
    assert len(least) < len(shared) <= len(own)
    assert len(own) - len(least) == pytest.approx(16 * channels, abs=64)


def test_shared_scales_are_near_the_plans_own(plain):
    graph, _, plan = plain
    shared = with_shared_scales(graph, plan)
    shared.check(graph)
    for unit in graph.units.values():
        before, after = (np.array(p.tensors[unit.weight].scale) for p in (plan, shared))
        assert np.abs(after / before - 1).max() < 0.0014
        np.testing.assert_array_equal(after, after.astype(np.float32))
    assert {n: t for n, t in shared.tensors.items() if t.role == "activation"} == {
        n: t for n, t in plan.tensors.items() if t.role == "activation"
    }
    assert with_shared_scales(graph, shared) == shared


@pytest.mark.slow
@FOUR
def test_real_sizes_in_bytes_per_learned_number(name, toolchain, tmp_path):
    """At 128 px with two classes, every constant away from the zeros and ones of a fresh model."""
    from families import scatter

    from msedge.exporter import cell_to_mindir, mindir_to_onnx
    from msedge.models import create_model

    model = create_model(name, 2, 128)
    scatter(model)
    cell_to_mindir(model, (1, 3, 128, 128), tmp_path / "model.mindir")
    source = mindir_to_onnx(tmp_path / "model.mindir")
    onnx.save(source, str(tmp_path / "model.onnx"))
    toolchain.convert(ConvertRequest(tmp_path / "model.onnx", tmp_path / "float.ms", "ONNX"))
    graph = ModelGraph(source)
    plan = with_shared_scales(graph, min_max_plan(graph, pictures(1, 3, 128, 128)))
    done = rewrite_int8((tmp_path / "float.ms").read_bytes(), graph, plan)
    assert done.kept_float == {}
    for c in check_int8_nodes(toolchain, written(done.data, tmp_path), pictures(1, 3, 128, 128)):
        assert c.most <= 1, c
    learned = sum(p.size for p in model.trainable_params())
    assert len(done.data) / learned < 1.25
