"""Latency, memory and size of models, measured in turns."""

from msedge.benchmark.measurement import bench

__all__ = ["bench"]
