"""msedge run"""

from __future__ import annotations

import click

from msedge.cli.common import byte_progress, emit_json, json_option, lite_option, print_table, say, size_text
from msedge.cli.recipes import leave_stopped, recipe_options, resolve, with_weights


@click.command()
@recipe_options
@click.option("--threads", type=click.IntRange(1), default=1, show_default=True, help="Threads for the latencies.")
@lite_option
@json_option
def run(recipe, out, overrides, data, weights, resume, threads, lite, as_json):
    """Walk the whole road with RECIPE: train, convert, verify, bench, and a closing table."""
    overrides = with_weights(overrides, weights)
    resolved, out = resolve(recipe, out, overrides, data)
    from msedge.pipeline import run as walk
    from msedge.training import Stopped

    try:
        report = walk(resolved, out, resume=resume, threads=threads, lite=lite, say=say, progress=byte_progress)
    except Stopped:
        leave_stopped(recipe, out, overrides, data, ["--threads", str(threads), *(["--lite", lite] if lite else [])])
    if as_json:
        emit_json(report.to_dict())
    else:
        _show(report)
    if not report.passed:
        from msedge.errors import CheckFailed

        failed = next(row for row in report.rows if not row.passed)
        raise CheckFailed(f"{failed.name} does not hold: {'; '.join(failed.reasons)}", f"see {out}/report.json")


def _show(report) -> None:
    drawn = " (drawn pictures, not photos)" if report.data.startswith("builtin:") else ""
    print_table(
        f"{report.data}{drawn}, {report.image_size} px, {report.rows[0].images} validation images, "
        f"MindSpore Lite on this CPU, {report.threads} thread(s)",
        ["model", "network", "accuracy", "same top-1 as source", "size", "p50", "gate"],
        [
            [
                row.name,
                row.model,
                f"{row.top1:.1%}",
                f"{row.agreement:.1%}",
                size_text(row.size_bytes),
                f"{row.p50_ms:.2f} ms ({row.ratio:.2f}x)",
                "passed" if row.passed else "FAILED",
            ]
            for row in report.rows
        ],
    )
    if any(row.name.endswith("int8") for row in report.rows):
        say("INT8 runs on scalar kernels on x86: its time here says nothing about a phone.")
