"""Latency, memory and size of models, measured in turns; and where their time goes."""

from msedge.benchmark.measurement import bench
from msedge.benchmark.profiling import profile

__all__ = ["bench", "profile"]
