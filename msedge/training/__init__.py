"""Training and distillation: recipe in, checkpoint folders out."""

from msedge.training.loop import Stopped
from msedge.training.stage import TrainResult, train

__all__ = ["Stopped", "TrainResult", "train"]
