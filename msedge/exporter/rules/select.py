"""Taking parts of a tensor."""

from __future__ import annotations

import numpy as np

from msedge.exporter.emitter import Op
from msedge.exporter.registry import rule


@rule("StridedSlice")
def strided_slice(op: Op) -> str:
    """Arguments x, begin, end, strides and five bit masks (begin, end, ellipsis, new axis, shrink axis)."""
    begin, end, strides = ([int(v) for v in op.ints(i)] for i in (1, 2, 3))
    names = ("begin_mask", "end_mask", "ellipsis_mask", "new_axis_mask", "shrink_axis_mask")
    masks = [int(op.static(4 + i, name, 0)) for i, name in enumerate(names)]
    if masks[2] or masks[3]:
        raise op.fail("ellipsis and new axes are not exported", "index with slices and use expand_dims")
    shape = op.shape(0)
    starts, stops, steps, axes = [], [], [], []
    for axis, (b, e, s) in enumerate(zip(begin, end, strides, strict=True)):
        size, bit = shape[axis], 1 << axis
        if masks[4] & bit:
            index = b % size
            window = (index, index + 1, 1)
        else:
            window = slice(None if masks[0] & bit else b, None if masks[1] & bit else e, s).indices(size)
        if window == (0, size, 1):
            continue
        if window[1] < 0:  # backwards to the very first element
            window = (window[0], -size - 1, window[2])
        for values, v in zip((starts, stops, steps), window, strict=True):
            values.append(v)
        axes.append(axis)
    y = op.tensor(0)
    if axes:
        inputs = [op.numbers(v, r) for v, r in ((starts, "starts"), (stops, "ends"), (axes, "axes"), (steps, "steps"))]
        y = op.op("Slice", y, *inputs)
    return op.reshape(y, op.result[0]) if masks[4] else y


@rule("Slice", "SliceExt", "SliceExtView", "Narrow", "NarrowView")
def plain_slice(op: Op) -> str:
    """`Slice(x, begin, size)` over all axes, `SliceExt(x, axis, start, end, step)`, `Narrow(x, axis, start, length)`."""
    shape = op.shape(0)
    if op.node.op == "Slice":
        begin, size = op.ints(1), op.ints(2)
        windows = {a: (b, b + n if n >= 0 else shape[a], 1) for a, (b, n) in enumerate(zip(begin, size, strict=True))}
    else:
        axis, start, last = (int(op.static(i)) for i in (1, 2, 3))
        axis %= len(shape)
        narrow = op.node.op.startswith("Narrow")
        step = 1 if narrow else int(op.static(4, default=1))
        windows = {axis: slice(start, start + last if narrow else last, step).indices(shape[axis])}
    windows = {a: w for a, w in windows.items() if w != (0, shape[a], 1)}
    if not windows:
        return op.tensor(0)
    starts, stops, steps = (list(v) for v in zip(*windows.values(), strict=True))
    bounds = [op.numbers(v, r) for v, r in ((starts, "starts"), (stops, "ends"))]
    return op.op("Slice", op.tensor(0), *bounds, op.numbers(list(windows), "axes"), op.numbers(steps, "steps"))


@rule("SelectExtView", "SelectView")
def take_one(op: Op) -> str:
    """`x.select(axis, index)`."""
    axis, index = int(op.static(1)) % len(op.shape(0)), int(op.static(2))
    index %= op.shape(0)[axis]
    bounds = [op.numbers([v], r) for v, r in ((index, "starts"), (index + 1, "ends"), (axis, "axes"))]
    return op.reshape(op.op("Slice", op.tensor(0), *bounds), op.result[0])


@rule("ReverseV2")
def reverse(op: Op) -> str:
    axes = [a % len(op.shape(0)) for a in op.ints(1, "axis")]
    starts, ends, steps = [-1] * len(axes), [-(2**31)] * len(axes), [-1] * len(axes)
    named = ((starts, "starts"), (ends, "ends"), (axes, "axes"), (steps, "steps"))
    return op.op("Slice", op.tensor(0), *[op.numbers(v, r) for v, r in named])


@rule("Gather")
def gather(op: Op) -> str:
    """Arguments x, indices, axis, batch_dims."""
    if int(op.static(3, "batch_dims", 0)):
        raise op.fail("batch_dims is not 0")
    return op.op("Gather", op.tensor(0), _places(op, 1), axis=int(op.static(2, "axis")))


def _places(op: Op, i: int) -> str:
    """Indices in a type that ONNX takes."""
    return op.tensor(i) if op.dtype(i) in (np.int32, np.int64) else op.tensor_as(i, np.dtype(np.int64))


@rule("IndexSelect", "Index")
def index_select(op: Op) -> str:
    """`IndexSelect(x, axis, indices)`; `Index(x, (indices,))` takes along the first axis."""
    if op.node.op == "IndexSelect":
        return op.op("Gather", op.tensor(0), _places(op, 2), axis=int(op.static(1)))
    places = op.tensors(1)
    if len(places) != 1:
        raise op.fail("it indexes several axes at once", "index one axis after the other")
    return op.op("Gather", op.tensor(0), places[0], axis=0)


@rule("GatherD")
def gather_elements(op: Op) -> str:
    return op.op("GatherElements", op.tensor(0), _places(op, 2), axis=int(op.static(1)))
