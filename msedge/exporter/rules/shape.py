"""Shapes and the order of axes. All shapes are static, so whatever only changes the shape is a Reshape."""

from __future__ import annotations

import numpy as np

from msedge.exporter.emitter import Op
from msedge.exporter.registry import rule


@rule("Reshape", "Flatten", "FlattenExt", "Squeeze", "ExpandDims", "View", "ExpandDimsView")
def reshape(op: Op) -> str:
    return op.reshape(op.tensor(0), op.result[0])


@rule("Transpose", "TransposeView")
def transpose(op: Op) -> str:
    rank = len(op.shape(0))
    return op.op("Transpose", op.tensor(0), perm=[p % rank for p in op.ints(1, "perm")])


@rule("TransposeExtView")
def swap_axes(op: Op) -> str:
    perm = list(range(len(op.shape(0))))
    a, b = int(op.static(1)), int(op.static(2))
    perm[a], perm[b] = perm[b], perm[a]
    return op.op("Transpose", op.tensor(0), perm=perm)


@rule("Concat")
def concat(op: Op) -> str:
    return op.op("Concat", *op.tensors(0), axis=int(op.static(1, "axis")))


@rule("Stack", "StackExt")
def stack(op: Op) -> str:
    """Concat along an axis of length one."""
    shape = list(op.result[0])
    axis = int(op.static(1, "axis")) % len(shape)
    shape[axis] = 1
    return op.op("Concat", *[op.reshape(x, tuple(shape)) for x in op.tensors(0)], axis=axis)


@rule("Split", "SplitTensor", "SplitTensorView", "SplitWithSize", "SplitWithSizeView", "ChunkView", "Chunk", "SplitV")
def split(op: Op) -> list[str]:
    """The results' own shapes say where to cut."""
    rank, shapes = len(op.shape(0)), [s for s, _ in op.node.outputs]
    if len(shapes) == 1:
        return [op.tensor(0)]
    axis = next((a for a in range(rank) if shapes[0][a] != op.shape(0)[a]), None)
    if axis is None:
        raise op.fail("nothing says which axis it cuts")
    sizes = op.numbers([s[axis] for s in shapes], "sizes")
    return op.op("Split", op.tensor(0), sizes, n_out=len(shapes), axis=axis)


@rule("Unstack", "UnstackExtView")
def unstack(op: Op) -> list[str]:
    axis = int(op.static(1, "axis")) % len(op.shape(0))
    count, shape = op.shape(0)[axis], op.node.outputs[0][0]
    if count == 1:
        return [op.reshape(op.tensor(0), shape)]
    parts = op.op("Split", op.tensor(0), op.numbers([1] * count, "sizes"), n_out=count, axis=axis)
    return [op.reshape(p, shape) for p in parts]


@rule("BroadcastTo", "ExpandAs", "BroadcastToView")
def broadcast(op: Op) -> str:
    if op.shape(0) == op.result[0]:
        return op.tensor(0)
    return op.op("Expand", op.tensor(0), op.numbers(op.result[0], "shape"))


@rule("Tile", "Repeat")
def tile(op: Op) -> str:
    times = op.ints(1, "multiples")
    rank = len(op.result[0])
    x = op.tensor(0) if len(op.shape(0)) == rank else op.reshape(op.tensor(0), (*[1] * (rank - len(op.shape(0))), *op.shape(0)))
    return op.op("Tile", x, op.numbers([*[1] * (rank - len(times)), *times], "times"))


@rule("Pad", "PadV3", "ConstantPadND")
def pad(op: Op) -> str:
    """`Pad` says ((before, after), ...) from the first axis on, the others (before, after, ...) from the last axis back,
    unless `paddings_contiguous` is false."""
    rank = len(op.shape(0))
    if op.node.op == "Pad":
        pairs = [tuple(p) for p in op.attr("paddings")]
    else:
        if op.attr("mode", "constant") != "constant":
            raise op.fail(f"the mode is {op.attr('mode')}", "only padding with a constant is exported")
        flat = op.ints(1)
        if op.attr("paddings_contiguous", True):
            last = [tuple(flat[i : i + 2]) for i in range(0, len(flat), 2)]
            pairs = [(0, 0)] * (rank - len(last)) + last[::-1]
        else:
            pairs = list(zip(flat[: len(flat) // 2], flat[len(flat) // 2 :], strict=True))
    value = float(np.asarray(op.static(2, default=0) or 0)) if op.node.op != "Pad" else 0.0
    amounts = op.numbers([b for b, _ in pairs] + [a for _, a in pairs], "pads")
    return op.op("Pad", op.tensor(0), amounts, op.scalar(value, "fill"), mode="constant")


@rule("ZerosLike", "ZerosLikeExt", "OnesLike", "OnesLikeExt")
def filled(op: Op) -> str:
    make = np.zeros if op.node.op.startswith("Zeros") else np.ones
    return op.constant(make(*op.result), "filled")


@rule("Roll")
def roll(op: Op) -> str:
    """Two slices exchanged, axis by axis."""
    shifts = op.ints(1, "shift")
    axes = op.ints(2, "axis" if "axis" in op.node.attrs else "dims")
    x, shape = op.tensor(0), op.shape(0)
    for shift, axis in zip(shifts, axes, strict=True):
        axis %= len(shape)
        cut = -shift % shape[axis]
        if cut:
            parts = op.op("Split", x, op.numbers([cut, shape[axis] - cut], "sizes"), n_out=2, axis=axis)
            x = op.op("Concat", parts[1], parts[0], axis=axis)
    return x
