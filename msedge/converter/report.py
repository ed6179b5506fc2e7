"""What a conversion says of itself: `parity.json` and one line."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from msedge.converter.modes import LABELS
from msedge.converter.parity import Parity
from msedge.verification import Thresholds
from msedge.verification.metrics import FEW_OUTPUTS


@dataclass(frozen=True)
class ConvertReport:
    """`reasons` says which thresholds do not hold; `seconds` is the converter's own time without the worker's start."""

    out: Path
    quant: str
    engine: str | None
    kept_float: dict[str, str]
    target: str
    fmk: str
    parity: Parity
    thresholds: Thresholds
    reasons: tuple[str, ...]
    size_bytes: int
    quantised_nodes: int
    tanh_gelus: int
    calibration_images: int
    seconds: float
    worker_start_seconds: float
    toolchain: str

    @property
    def passed(self) -> bool:
        return not self.reasons

    @property
    def model(self) -> Path:
        return self.out / "model.ms"

    def verdict(self) -> str:
        """One line for people."""
        c = self.parity.comparison
        text = f"model.ms: {LABELS[self.quant]}, {_size(self.size_bytes)}"
        if self.tanh_gelus:
            text += f", {self.tanh_gelus} GELUs in tanh form"
        if c.outputs < FEW_OUTPUTS:
            text += f", cosine {_cosine(c.cosine_pooled)} pooled"
        else:
            text += f", cosine {_cosine(c.cosine_mean)} mean / {_cosine(c.cosine_min)} min"
        if self.parity.images:
            text += f", top-1 agreement {100 * c.agreement:.1f} %"
        return f"{text} on {self.parity.on}: " + ("passed" if self.passed else f"FAILED: {'; '.join(self.reasons)}")

    def to_dict(self) -> dict[str, Any]:
        return {
            "quant": self.quant,
            "engine": self.engine,
            "kept_float": self.kept_float,
            "target": self.target,
            "fmk": self.fmk,
            **self.parity.to_dict(),
            "gate": self.thresholds.to_dict(),
            "passed": self.passed,
            "reasons": list(self.reasons),
            "size_bytes": self.size_bytes,
            "quantised_nodes": self.quantised_nodes,
            "tanh_gelus": self.tanh_gelus,
            "calibration_images": self.calibration_images,
            "convert_seconds": round(self.seconds, 3),
            "worker_start_seconds": round(self.worker_start_seconds, 3),
            "toolchain": self.toolchain,
        }


def _cosine(value: float) -> str:
    """Four digits, or six where four would round a difference away."""
    text = f"{value:.4f}"
    return f"{value:.6f}" if value < 1 and float(text) == 1 else text


def _size(n: int) -> str:
    return f"{n / 1e3:.1f} KB" if n < 100_000 else f"{n / 1e6:.2f} MB"
