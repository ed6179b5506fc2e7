"""Pooling.

Lite 2.0.0 divides an average over padding by the wrong count if the padding counts: such padding is a node of its own.
"""

from __future__ import annotations

from msedge.exporter.emitter import Op
from msedge.exporter.registry import rule
from msedge.exporter.rules.conv import same_pads, spatial

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


def _padded(op: Op, x: str, pads: list[int]) -> str:
    amounts = op.numbers([0, 0, pads[0], pads[1], 0, 0, pads[2], pads[3]], "pads")
    return op.op("Pad", x, amounts, op.scalar(0.0, "zero"), mode="constant")


@rule("AvgPool2D", "AvgPoolExt")
def average_pool_ext(op: Op) -> str:
    """`avg_pool2d(x, kernel, stride, padding, ceil_mode, count_include_pad, divisor_override)`."""
    kernel = spatial(op.ints(1))
    strides = spatial(op.ints(2)) if op.has(2) and op.static(2) != () else kernel
    pads = spatial(op.ints(3)) * 2
    if op.static(4) or (op.has(6) and op.static(6)):
        raise op.fail("ceil_mode and divisor_override are not exported")
    x, count = op.tensor(0), bool(op.static(5))
    if any(pads) and count:
        x, pads = _padded(op, x, pads), [0, 0, 0, 0]
    return op.op("AveragePool", x, kernel_shape=kernel, strides=strides, pads=pads, count_include_pad=0)


@rule("MaxPoolWithMask", "MaxPoolWithIndices", "MaxPoolWithArgmaxV2")
def max_pool_with_places(op: Op) -> list[str]:
    """Only the maxima can be exported, not their places."""
    by_attr = op.node.op == "MaxPoolWithArgmaxV2"
    kernel = spatial(op.ints(1, "kernel_size"))
    strides = spatial(op.ints(2, "strides"))
    pads = spatial(op.ints(3, "pads" if by_attr else "")) * 2
    dilation = op.ints(4, "dilation", 1)
    if op.static(5, "ceil_mode", False) or set(dilation) != {1}:
        raise op.fail("ceil_mode and dilation are not exported")
    return [op.op("MaxPool", op.tensor(0), kernel_shape=kernel, strides=strides, pads=pads)]


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
