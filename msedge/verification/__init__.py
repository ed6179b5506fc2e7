"""Do two models decide alike: metrics, comparison of runners, the gate."""

from msedge.verification.comparison import VerifyReport, compare, verify
from msedge.verification.gate import Thresholds, conversion_thresholds
from msedge.verification.metrics import Comparison, Paired, compare_outputs

__all__ = [
    "Comparison",
    "Paired",
    "Thresholds",
    "VerifyReport",
    "compare",
    "compare_outputs",
    "conversion_thresholds",
    "verify",
]
