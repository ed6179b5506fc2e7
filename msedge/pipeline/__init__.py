"""The stages in a row."""

from msedge.pipeline.stage import RunReport, run

__all__ = ["RunReport", "run"]
