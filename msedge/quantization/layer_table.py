"""The layer report as a table."""

from __future__ import annotations

from collections.abc import Sequence

from msedge.quantization.layer_report import LayerReport, NodeError


def rows(report: LayerReport, nodes: Sequence[NodeError] | None = None) -> tuple[list[str], list[list[str]]]:
    """Column names and cells for a table of `nodes` (default: all)."""
    real = any(e.runtime_db is not None for e in report.nodes)
    columns = ["node", "precision", "SQNR dB", "cosine", "clipped", "input clipped", "seen", "calibrated"]
    cells = [
        [
            e.name,
            e.precision,
            f"{e.sqnr_db:.1f}",
            f"{e.cosine:.5f}",
            f"{e.clipped:.3%}",
            f"{e.input_clipped:.3%}",
            _range(e.seen),
            _range(e.calibrated),
            *((_db(e.runtime_db), _db(e.simulation_db), _steps(e.kernel_steps)) if real else ()),
        ]
        for e in (report.nodes if nodes is None else nodes)
    ]
    return columns + (["runtime dB", "to plan dB", "kernel steps"] if real else []), cells


def _range(ends: tuple[float, float] | None) -> str:
    return "" if ends is None else f"{ends[0]:.3g} to {ends[1]:.3g}"


def _db(value: float | None) -> str:
    return "" if value is None else f"{value:.1f}"


def _steps(value: int | None) -> str:
    return "" if value is None else str(value)


def table(report: LayerReport, nodes: Sequence[NodeError] | None = None, title: str = "Error of every node"):
    """A rich table of `nodes` (default: all)."""
    from rich.table import Table

    columns, cells = rows(report, nodes)
    made = Table(title=title, title_justify="left", header_style="bold")
    for i, name in enumerate(columns):
        made.add_column(name, justify="left" if i < 2 else "right", overflow="fold")
    for row in cells:
        made.add_row(*row)
    return made
