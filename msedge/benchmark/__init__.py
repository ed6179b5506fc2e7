"""Latency, memory and size of models, measured in turns."""

from msedge.benchmark.bench import bench

__all__ = ["bench"]
