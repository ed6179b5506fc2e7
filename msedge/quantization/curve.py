"""The accuracy-size curve as a picture."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import TYPE_CHECKING

from msedge.artifact import atomic_path

if TYPE_CHECKING:
    from msedge.quantization.mixed import MixedPlan

_BLUE, _RED = "#1f77b4", "#d62728"


def draw(mixed: MixedPlan, file: Path, title: str = "") -> None:
    """Agreement with the float model, and top-1 where it is known, against what the constants weigh more than those of the
    smallest plan; the found plan is ringed. SVG or PNG by the suffix of `file`; the same curve gives the same bytes.
    Raises ArtifactError."""
    import matplotlib
    from matplotlib.figure import Figure
    from matplotlib.ticker import PercentFormatter

    smallest, found = mixed.curve[0].bytes, mixed.found
    more = [(p.bytes - smallest) / 1e3 for p in mixed.curve]
    at = (found.bytes - smallest) / 1e3
    agreement = [p.loss.agreement for p in mixed.curve]
    figure = Figure(figsize=(6.4, 4), layout="constrained")
    axes = figure.add_subplot()
    axes.plot(more, agreement, "o", markersize=3.5, color=_BLUE, label="agreement with the float model")
    axes.plot(more, _best_so_far(agreement), drawstyle="steps-post", linewidth=0.8, color=_BLUE)
    axes.plot(at, found.loss.agreement, "o", markersize=9, fillstyle="none", color=_BLUE)
    if found.loss.top1 is not None:
        axes.plot(more, [p.loss.top1 for p in mixed.curve], "s", markersize=3.5, color=_RED, label="top-1")
        axes.axhline(found.loss.top1_float, linestyle=":", color=_RED, label="top-1 of the float model")
        axes.plot(at, found.loss.top1, "o", markersize=9, fillstyle="none", color=_RED)
    axes.yaxis.set_major_formatter(PercentFormatter(1, decimals=1))
    axes.set_xscale("symlog", linthresh=1)
    axes.set_xlim(left=0)
    axes.set_xlabel(f"KB of constants above the smallest plan's {smallest / 1e6:.2f} MB")
    axes.set_title(title or f"{len(found.nodes)} nodes in float {'hold' if mixed.met else 'come nearest to'} {mixed.budget}")
    axes.grid(alpha=0.3)
    axes.legend()
    with atomic_path(file) as temporary, matplotlib.rc_context({"svg.hashsalt": "msedge"}):
        figure.savefig(temporary, dpi=120, metadata={"Date": None} if file.suffix == ".svg" else None)


def _best_so_far(values: list[float]) -> list[float]:
    return list(itertools.accumulate(values, max))
