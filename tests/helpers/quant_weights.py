"""A model with every kind of weight that weight-only quantisation meets, small and made by code."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

IMAGES = np.random.default_rng(7).random((4, 3, 32, 32)).astype(np.float32)


def kinds_onnx(path: Path, seed: int = 0) -> Path:
    """Convolutions (plain with an activation, depthwise, 1x1, with bias and without), MatMul of tokens with bias, an added
    table with repeated values, Gemm. The scales of output channels differ tenfold."""
    rng = np.random.default_rng(seed)

    def weight(*shape: int, axis: int = 0) -> np.ndarray:
        spread = np.geomspace(0.3, 3, shape[axis]).reshape([-1 if i == axis else 1 for i in range(len(shape))])
        return rng.normal(size=shape) * spread / np.sqrt(np.prod(shape) / shape[axis])

    values = {
        "w_conv": weight(48, 3, 3, 3),
        "b_conv": rng.normal(size=48) * 0.1,
        "w_depth": weight(48, 1, 3, 3),
        "b_depth": rng.normal(size=48) * 0.1,
        "w_deep": weight(64, 48, 3, 3),
        "w_point": weight(96, 64, 1, 1),
        "b_point": rng.normal(size=96) * 0.1,
        "w_token": weight(96, 128, axis=1),
        "b_token": rng.normal(size=128) * 0.1,
        "table": rng.choice(rng.normal(size=40), size=(1, 64, 128)),
        "w_head": weight(3, 128),
        "b_head": rng.normal(size=3) * 0.1,
    }

    def conv(name: str, x: str, y: str, inputs: list[str], kernel: int, stride: int = 1, group: int = 1) -> onnx.NodeProto:
        pads, shape = [kernel // 2] * 4, [kernel, kernel]
        return helper.make_node(
            "Conv", [x, *inputs], [y], name=name, kernel_shape=shape, strides=[stride] * 2, pads=pads, dilations=[1, 1],
            group=group,
        )  # fmt: skip

    nodes = [
        conv("conv", "x", "c0", ["w_conv", "b_conv"], 3, stride=2),
        helper.make_node("Relu", ["c0"], ["c1"], name="relu"),
        conv("depth", "c1", "c2", ["w_depth", "b_depth"], 3, group=48),
        conv("deep", "c2", "c3", ["w_deep"], 3, stride=2),
        conv("point", "c3", "c4", ["w_point", "b_point"], 1),
        helper.make_node("Reshape", ["c4", "tokens"], ["t0"], name="flatten"),
        helper.make_node("Transpose", ["t0"], ["t1"], name="turn", perm=[0, 2, 1]),
        helper.make_node("MatMul", ["t1", "w_token"], ["t2"], name="token"),
        helper.make_node("Add", ["t2", "b_token"], ["t3"], name="token_bias"),
        helper.make_node("Add", ["t3", "table"], ["t4"], name="add_table"),
        helper.make_node("ReduceMean", ["t4"], ["m"], name="mean", axes=[1], keepdims=0),
        helper.make_node("Gemm", ["m", "w_head", "b_head"], ["logits"], name="head", transB=1),
    ]
    constants = [numpy_helper.from_array(v.astype(np.float32), name) for name, v in values.items()]
    constants.append(numpy_helper.from_array(np.array([1, 96, 64]), "tokens"))
    graph = helper.make_graph(
        nodes,
        "kinds",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 3, 32, 32])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, [1, 3])],
        constants,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], producer_name="test", ir_version=8)
    onnx.checker.check_model(model)
    onnx.save(model, str(path))
    return path
