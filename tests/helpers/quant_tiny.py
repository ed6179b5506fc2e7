"""A tiny transformer in ONNX, made by code: convolutions with SiLU and ReLU, attention, GELU, as msedge writes them."""

from __future__ import annotations

import numpy as np
from onnx import TensorProto, helper, numpy_helper

from msedge.quantization.graph import ModelGraph
from msedge.quantization.onnx_simulation import Simulation
from msedge.quantization.plan import NodePlan, Plan
from msedge.quantization.ptq_scales import weight_plans
from msedge.quantization.scheme import Scheme

SIZE, DIM, HEADS = 8, 8, 2


class _Net:
    def __init__(self, seed: int):
        self.rng = np.random.default_rng(seed)
        self.nodes, self.constants = [], {}

    def constant(self, name: str, value: np.ndarray) -> str:
        self.constants[name] = np.asarray(value)
        return name

    def random(self, name: str, *shape: int, spread: float = 1.0) -> str:
        fan = np.prod(shape[1:]) if len(shape) > 1 else 4
        return self.constant(name, (self.rng.normal(size=shape) * spread / np.sqrt(fan)).astype(np.float32))

    def node(self, op: str, name: str, *inputs: str, output: str = "", **attributes) -> str:
        self.nodes.append(helper.make_node(op, list(inputs), [output or name], name=name, **attributes))
        return output or name

    def conv(self, name: str, x: str, shape: tuple[int, ...], **attributes) -> str:
        pads = [shape[2] // 2] * 4
        wb = self.random(f"{name}.weight", *shape), self.random(f"{name}.bias", shape[0])
        whole = {"strides": [1, 1], "dilations": [1, 1], "group": 1, **attributes}  # Lite's converter wants them all
        return self.node("Conv", f"{name}/Conv", x, *wb, kernel_shape=list(shape[2:]), pads=pads, **whole)

    def linear(self, name: str, x: str, out: int, inp: int, output: str = "") -> str:
        wb = self.random(f"{name}.weight", out, inp), self.random(f"{name}.bias", out)
        return self.node("Gemm", f"{name}/Gemm", x, *wb, output=output, transB=1)

    def norm(self, name: str, x: str) -> str:
        mean = self.node("ReduceMean", f"{name}/mean", x, axes=[-1])
        centred = self.node("Sub", f"{name}/sub", x, mean)
        square = self.node("Pow", f"{name}/pow", centred, self.constant("two", np.float32(2)))
        variance = self.node("ReduceMean", f"{name}/variance", square, axes=[-1])
        safe = self.node("Add", f"{name}/eps", variance, self.constant("eps", np.float32(1e-5)))
        unit = self.node("Div", f"{name}/div", centred, self.node("Sqrt", f"{name}/sqrt", safe))
        gamma = self.constant(f"{name}.weight", np.exp(self.rng.normal(size=DIM)).astype(np.float32))
        return self.node("Add", f"{name}/Add", self.node("Mul", f"{name}/Mul", unit, gamma), self.random(f"{name}.bias", DIM))


def tiny_transformer(seed: int = 0, split: bool = False) -> ModelGraph:
    """One block on 8 x 8 images, three classes; the value path is linear from qkv to proj, one ReLU couples two Convs;
    q, k and v are gathered, or split."""
    net, tokens, head = _Net(seed), SIZE * SIZE // 4, DIM // HEADS
    x = net.conv("stem", "input", (6, 3, 3, 3), strides=[2, 2])
    x = net.node("Mul", "stem/Mul", x, net.node("Sigmoid", "stem/Sigmoid", x))
    x = net.conv("depthwise", x, (6, 1, 3, 3), group=6)
    x = net.conv("pointwise", net.node("Relu", "relu", x), (DIM, 6, 1, 1))
    x = net.node("Transpose", "tokens", x, perm=[0, 2, 3, 1])
    x = residual = net.node("Reshape", "rows", x, net.constant("rows/shape", np.array([tokens, DIM])))
    x = net.linear("qkv", net.norm("norm1", x), 3 * DIM, DIM)
    x = net.node("Reshape", "split", x, net.constant("split/shape", np.array([tokens, 3 * HEADS, head])))
    x = net.node("Transpose", "heads", x, perm=[1, 0, 2])
    if split:
        sizes = net.constant("parts/sizes", np.full(3, HEADS))
        q, k, v = names = [f"part{i}" for i in range(3)]
        net.nodes.append(helper.make_node("Split", [x, sizes], names, name="parts", axis=0))
    else:
        rows = [net.constant(f"heads{i}", np.arange(i * HEADS, (i + 1) * HEADS)) for i in range(3)]
        q, k, v = (net.node("Gather", f"part{i}", x, r, axis=0) for i, r in enumerate(rows))
    scores = net.node("MatMul", "scores", q, net.node("Transpose", "kt", k, perm=[0, 2, 1]))
    x = net.node("MatMul", "mixed", net.node("Softmax", "softmax", scores, axis=-1), v)
    x = net.node("Transpose", "joined", x, perm=[1, 0, 2])
    x = net.node("Reshape", "flat", x, net.constant("flat/shape", np.array([tokens, DIM])))
    x = residual = net.node("Add", "add1", residual, net.linear("proj", x, DIM, DIM))
    x = y = net.linear("fc1", net.norm("norm2", x), 12, DIM)
    x = net.node("Erf", "gelu/Erf", net.node("Div", "gelu/Div", x, net.constant("root", np.float32(np.sqrt(2)))))
    x = net.node("Mul", "gelu/Mul", y, net.node("Add", "gelu/Add", x, net.constant("one", np.float32(1))))
    x = net.node("Mul", "gelu/Mul_1", x, net.constant("half", np.float32(0.5)))
    x = net.node("Add", "add2", residual, net.linear("fc2", x, DIM, 12))
    x = net.node("ReduceMean", "pool", x, axes=[0])
    net.linear("head", x, 3, DIM, output="logits")
    graph = helper.make_graph(
        net.nodes,
        "tiny",
        [helper.make_tensor_value_info("input", TensorProto.FLOAT, [1, 3, SIZE, SIZE])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, [1, 3])],
        [numpy_helper.from_array(v, n) for n, v in net.constants.items()],
    )
    return ModelGraph(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=7))


def tiny_images(n: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(n, 3, SIZE, SIZE)).astype(np.float32)


def extremes(graph: ModelGraph, images: np.ndarray, scheme: Scheme | None = None) -> Plan:
    """Every node int8, activations from their extremes over the images, weights per channel."""
    names = sorted({t for u in graph.units.values() for t in (*u.roots, u.output)})
    simulation = Simulation(graph)
    seen = [simulation.tensors(image[None], names) for image in images]
    ends = {n: (min(s[n].min() for s in seen), max(s[n].max() for s in seen)) for n in names}
    tensors = {n: (scheme or Scheme()).plan(*(np.array([e]) for e in pair)) for n, pair in ends.items()}
    tensors |= weight_plans(graph, list(graph.units.values()), "minmax")
    return Plan(graph.fingerprint, tensors, {n: NodePlan("int8") for n in graph.units})
