"""Convolutions."""

from __future__ import annotations

from msedge.exporter.emitter import Op
from msedge.exporter.registry import rule


def spatial(values: tuple[int, ...]) -> list[int]:
    """Height and width of strides or dilations that MindSpore writes as 1, 2 or 4 (NCHW) numbers."""
    return list(values[-2:]) if len(values) > 1 else [values[0]] * 2


def onnx_pads(top: int, bottom: int, left: int, right: int) -> list[int]:
    """MindSpore's order of padding to ONNX's."""
    return [top, left, bottom, right]


def same_pads(size: tuple[int, ...], kernel: list[int], strides: list[int]) -> list[int]:
    """ONNX pads of the padding mode `same`: what is odd goes to the bottom and the right."""
    total = [max((-(-n // s) - 1) * s + k - n, 0) for n, k, s in zip(size, kernel, strides, strict=True)]
    return [t // 2 for t in total] + [t - t // 2 for t in total]


@rule("Conv2D")
def conv2d(op: Op) -> str:
    if op.attr("format", "NCHW") != "NCHW":
        raise op.fail("the data format is not NCHW")
    pads = op.attr("pad_list")
    kernel = list(op.shape(1)[2:])
    return op.op(
        "Conv",
        op.tensor(0),
        op.tensor(1),
        kernel_shape=kernel,
        strides=spatial(op.attr("stride")),
        pads=onnx_pads(*pads),
        dilations=spatial(op.attr("dilation", (1, 1))),
        group=int(op.attr("group", 1)),
    )


@rule("Conv2DExt", "Convolution", "Conv2DPadding")
def conv2d_ext(op: Op) -> str:
    """`mint.nn.functional.conv2d(x, weight, bias, stride, padding, dilation, groups)`."""
    strides, dilations = spatial(op.ints(3)), spatial(op.ints(5))
    kernel = list(op.shape(1)[2:])
    padding = op.static(4)
    if padding in ("same", "SAME", 1) and op.node.op == "Conv2DPadding":
        spread = [(k - 1) * d + 1 for k, d in zip(kernel, dilations, strict=True)]
        pads = same_pads(op.shape(0)[2:], spread, strides)
    elif op.node.op == "Conv2DPadding":
        pads = [0, 0, 0, 0]
    else:
        pads = spatial(op.ints(4)) * 2
    group = op.static(8) if op.node.op == "Convolution" else op.static(6)
    inputs = [op.tensor(0), op.tensor(1)] + ([op.tensor(2)] if op.has(2) else [])
    return op.op("Conv", *inputs, kernel_shape=kernel, strides=strides, pads=pads, dilations=dilations, group=int(group))
