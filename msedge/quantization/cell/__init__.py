"""The exported ONNX graph as a MindSpore cell, with fake quantisation."""

from msedge.quantization.cell.cell import GraphCell, simulate

__all__ = ["GraphCell", "simulate"]
