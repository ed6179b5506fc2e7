"""Resizing of feature maps."""

from __future__ import annotations

import numpy as np

from msedge.exporter.emitter import Op
from msedge.exporter.registry import rule


def _resize(op: Op, mode: str, align_corners: bool, half_pixels: bool) -> str:
    size, out = op.shape(0)[2:], op.result[0][2:]
    if size == out:
        return op.tensor(0)
    scales = op.constant(np.asarray([1, 1, *[m / n for n, m in zip(size, out, strict=True)]], np.float32), "scales")
    place = "align_corners" if align_corners else "half_pixel" if half_pixels else "asymmetric"
    attrs = {"coordinate_transformation_mode": place, "mode": mode}
    if mode == "nearest":
        attrs["nearest_mode"] = "round_prefer_floor" if align_corners else "floor"
    exact = all(m == int(n * (m / n)) for n, m in zip(size, out, strict=True))
    if exact:
        return op.op("Resize", op.tensor(0), "", scales, **attrs)
    return op.op("Resize", op.tensor(0), "", "", op.numbers(op.result[0], "sizes"), **attrs)


@rule("ResizeBilinearV2", "UpsampleBilinear2D")
def bilinear(op: Op) -> str:
    """Arguments x, size, align_corners, half_pixel_centers."""
    if op.node.op == "UpsampleBilinear2D":
        corners = bool(op.static(3))
        return _resize(op, "linear", corners, not corners)
    return _resize(op, "linear", bool(op.static(2, "align_corners", False)), bool(op.static(3, "half_pixel_centers", False)))


@rule("ResizeNearestNeighbor", "ResizeNearestNeighborV2", "UpsampleNearest2D")
def nearest(op: Op) -> str:
    if op.node.op == "UpsampleNearest2D":
        return _resize(op, "nearest", False, False)
    return _resize(op, "nearest", bool(op.static(2, "align_corners", False)), bool(op.static(3, "half_pixel_centers", False)))
