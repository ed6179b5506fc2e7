"""One interface for a model in MindSpore, onnxruntime, OpenVINO or MindSpore Lite."""

from msedge.runtime.base import Runner
from msedge.runtime.locate import Located, locate
from msedge.runtime.open import RUNTIMES, check_runtime, open_runner
from msedge.runtime.spec import load_spec

__all__ = ["RUNTIMES", "Located", "Runner", "check_runtime", "load_spec", "locate", "open_runner"]
