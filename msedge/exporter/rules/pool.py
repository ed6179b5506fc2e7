"""Pooling.

Lite 2.0.0 divides an average over padding by the wrong count if the padding counts: such padding is a node of its own.
"""

from __future__ import annotations

from msedge.exporter.emitter import Op
from msedge.exporter.registry import rule
from msedge.exporter.rules.conv import onnx_pads, same_pads, spatial

_SAME, _VALID = ("same", 1), ("valid", 2)


def _pads(op: Op, mode: object, kernel: list[int], strides: list[int]) -> list[int]:
    mode = mode.lower() if isinstance(mode, str) else mode
    if mode in _SAME:
        return same_pads(op.shape(0)[2:], kernel, strides)
    if mode in _VALID:
        return [0, 0, 0, 0]
    raise op.fail(f"the padding mode is {mode!r}")


@rule("MaxPool", "AvgPool")
def pool(op: Op) -> str:
    """Arguments or attributes kernel_size, strides, pad_mode, data_format."""
    if len(op.shape(0)) != 4:
        raise op.fail(f"the input has rank {len(op.shape(0))}, not 4")
    kernel = spatial(op.ints(1, "kernel_size"))
    strides = spatial(op.ints(2, "strides"))
    pads = _pads(op, op.static(3, "pad_mode"), kernel, strides)
    kind = {"MaxPool": "MaxPool", "AvgPool": "AveragePool"}[op.node.op]
    attrs = {"count_include_pad": 0} if kind == "AveragePool" else {}
    return op.op(kind, op.tensor(0), kernel_shape=kernel, strides=strides, pads=pads, **attrs)


@rule("AvgPool2D")
def average_pool_ext(op: Op) -> str:
    """`avg_pool2d(x, kernel, stride, padding, ceil_mode, count_include_pad, divisor_override)`."""
    kernel = spatial(op.ints(1))
    strides = spatial(op.ints(2)) if op.has(2) and op.static(2) != () else kernel
    if op.static(4) or (op.has(6) and op.static(6)):
        raise op.fail("ceil_mode and divisor_override are not exported")
    return _average(op, op.tensor(0), kernel, strides, spatial(op.ints(3)) * 2, bool(op.static(5)))


def _average(op: Op, x: str, kernel: list[int], strides: list[int], pads: list[int], count_padding: bool) -> str:
    if any(pads) and count_padding:
        amounts = op.numbers([0, 0, pads[0], pads[1], 0, 0, pads[2], pads[3]], "pads")
        x = op.op("Pad", x, amounts, op.scalar(0.0, "zero"), mode="constant")
        pads = [0, 0, 0, 0]
    return op.op("AveragePool", x, kernel_shape=kernel, strides=strides, pads=pads, count_include_pad=0)


def _flat(op: Op) -> str:
    """The input of a 3-D pool without its depth of one: MindSpore pools images with padding that way."""
    shape = op.shape(0)
    if shape[2] != 1:
        raise op.fail("it pools over depth")
    return op.reshape(op.tensor(0), (*shape[:2], *shape[3:]))


@rule("AvgPool3D")
def average_pool_3d(op: Op) -> str:
    if op.attr("ceil_mode") or op.attr("divisor_override"):
        raise op.fail("ceil_mode and divisor_override are not exported")
    kernel, strides = spatial(op.attr("kernel_size")), spatial(op.attr("strides"))
    pads = onnx_pads(*op.attr("pad_list")[2:])
    return op.reshape(_average(op, _flat(op), kernel, strides, pads, op.attr("count_include_pad")), op.result[0])


@rule("MaxPool3DWithArgmax")
def max_pool_3d(op: Op) -> list[str]:
    """Only the maxima can be exported, not their places."""
    if op.attr("ceil_mode") or set(op.attr("dilation")) != {1}:
        raise op.fail("ceil_mode and dilation are not exported")
    kernel, strides, pads = (spatial(op.attr(n)) for n in ("ksize", "strides", "pads"))
    y = op.op("MaxPool", _flat(op), kernel_shape=kernel, strides=strides, pads=pads * 2)
    return [op.reshape(y, op.result[0])]


@rule("MaxPoolWithMask", "MaxPoolWithIndices")
def max_pool_with_places(op: Op) -> list[str]:
    """`max_pool2d(x, kernel, strides, padding, dilation, ceil_mode)`; only the maxima can be exported, not their places."""
    kernel, strides, pads = (spatial(op.ints(i, n)) for i, n in ((1, "kernel_size"), (2, "strides"), (3, "pads")))
    if op.static(5, "ceil_mode", False) or set(op.ints(4, "dilation", 1)) != {1}:
        raise op.fail("ceil_mode and dilation are not exported")
    return [op.op("MaxPool", op.tensor(0), kernel_shape=kernel, strides=strides, pads=pads * 2)]


@rule("AdaptiveAvgPool2D", "AdaptiveAvgPool2DExt")
def adaptive_average_pool(op: Op) -> str:
    """Output sizes that divide the input's."""
    size, out = op.shape(0)[-2:], op.node.outputs[0][0][-2:]
    if any(n % m for n, m in zip(size, out, strict=True)):
        raise op.fail(f"{list(out)} does not divide the input of {list(size)}", "choose an output size that divides it")
    if tuple(out) == (1, 1):
        return op.op("GlobalAveragePool", op.tensor(0))
    kernel = [n // m for n, m in zip(size, out, strict=True)]
    return op.op("AveragePool", op.tensor(0), kernel_shape=kernel, strides=kernel, pads=[0, 0, 0, 0], count_include_pad=0)
