"""What the int8 nodes of a `.ms` ought to compute, in exact arithmetic, from the very numbers that the runtime gave them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from msedge.lite import Toolchain
from msedge.lite.ms_writer import MsEditor, attributes, inputs, op, outputs

INT8 = 32  # Tensor.dataType


@dataclass(frozen=True)
class Checked:
    """A node: the share of its stored numbers that differ from the exact ones, and by how many steps at most."""

    name: str
    op: str
    wrong: float
    most: float


def check_int8_nodes(toolchain: Toolchain, file: Path, image: np.ndarray) -> list[Checked]:
    """Run `file` on image [1, C, H, W] and compare every node that reads or writes int8."""
    editor = MsEditor(file.read_bytes())
    with toolchain.load(file) as session:
        traced = {t.name: t.outputs for t in session.trace(image)}
    assert len(traced) == len(editor.nodes), "nodes of a .ms have names of their own"
    values = {i: image.transpose(0, 2, 3, 1) for i in editor.inputs}
    for node in editor.nodes:
        values |= dict(zip(outputs(node), traced[node["name"]], strict=True))
    values |= {i: editor.constant(i) for i in range(len(editor.tensors)) if editor.is_constant(i)}
    return [
        _checked(editor, node, values)
        for node in editor.nodes
        if INT8 in {editor.tensors[i]["dataType"] for i in (*inputs(node), *outputs(node))}
    ]


def _checked(editor: MsEditor, node, values: dict[int, np.ndarray]) -> Checked:
    places, (result,) = inputs(node), outputs(node)
    kind = op(node)
    if kind == "QuantDTypeCast" and attributes(node)["dst_t"] == INT8:
        scale, zero = _form(editor, result)
        expected = np.clip(np.rint(values[places[0]].astype(np.float64) / scale) + zero, -128, 127)
    elif kind == "QuantDTypeCast":
        scale, zero = _form(editor, places[0])
        expected = (values[places[0]].astype(np.float64) - zero) * scale
        return _compared(node, np.abs(values[result] - expected) > 1e-6 * np.abs(expected), np.zeros(1))
    elif kind in ("Conv2DFusion", "MatMulFusion"):
        expected = _product(editor, node, values)
    else:
        assert editor.tensors[places[0]]["quantParams"] == editor.tensors[result]["quantParams"]
        expected = _moved(kind, values[places[0]], [values[i] for i in places[1:]], editor.tensors[result]["dims"])
    steps = np.abs(values[result].reshape(expected.shape) - expected)
    return _compared(node, steps > 0, steps)


def _compared(node, wrong: np.ndarray, steps: np.ndarray) -> Checked:
    return Checked(node["name"], op(node), float(wrong.mean()), float(steps.max()))


def _form(editor: MsEditor, tensor: int) -> tuple[float, int]:
    (param,) = editor.tensors[tensor]["quantParams"]
    return param["scale"], param["zeroPoint"]


def _product(editor: MsEditor, node, values: dict[int, np.ndarray]) -> np.ndarray:
    first, second, *bias = inputs(node)
    (scale, zero), (result,) = _form(editor, first), outputs(node)
    x = values[first].astype(np.float64) - zero
    if editor.is_constant(second):
        scales, zero = np.array([p["scale"] for p in editor.tensors[second]["quantParams"]]), 0
    else:
        scales, zero = _form(editor, second)
    w = values[second].astype(np.float64) - zero
    if op(node) == "Conv2DFusion":
        sums = _convolved(x, w, attributes(node))
    else:
        sums = x @ (w.swapaxes(-1, -2) if attributes(node)["transpose_b"] else w)
    sums = sums + (values[bias[0]] if bias else 0)
    written, zero = _form(editor, result)
    real = sums * scale * scales / written
    if activation := attributes(node)["activation_type"]:
        real = np.clip(real, 0, {1: np.inf, 3: 6 / written}[activation])
    return np.clip(np.rint(real) + zero, -128, 127)


def _convolved(x: np.ndarray, w: np.ndarray, attributes) -> np.ndarray:
    """NHWC with OHWI weights; kernel positions one by one."""
    (up, down, left, right), (sy, sx) = attributes["pad_list"], attributes["stride"]
    groups, (out, kh, kw, depth) = attributes["group"], w.shape
    x = np.pad(x, ((0, 0), (up, down), (left, right), (0, 0)))
    height, width = (x.shape[1] - kh) // sy + 1, (x.shape[2] - kw) // sx + 1
    x = x.reshape(*x.shape[:3], groups, -1)
    w = w.reshape(groups, out // groups, kh, kw, depth)
    sums = np.zeros((x.shape[0], height, width, groups, out // groups))
    for i in range(kh):
        for j in range(kw):
            part = x[:, i : i + sy * height : sy, j : j + sx * width : sx][:, :height, :width]
            sums += np.einsum("nhwgc,goc->nhwgo", part, w[:, :, i, j])
    return sums.reshape(*sums.shape[:3], out)


def _moved(kind: str, x: np.ndarray, constants: list[np.ndarray], dims: np.ndarray) -> np.ndarray:
    if kind == "Transpose":
        return x.transpose(constants[0])
    if kind == "Gather":
        return np.take(x, constants[0], axis=int(constants[1].reshape(())))
    assert kind in ("Reshape", "Squeeze", "Unsqueeze", "ExpandDims")
    return x.reshape(dims)
