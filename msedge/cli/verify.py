"""`msedge verify`."""

from __future__ import annotations

import click

from msedge.cli.common import PATH, emit_json, json_option, lite_option, print_table, progress, say


@click.command()
@click.argument("a", type=PATH)
@click.argument("b", type=PATH)
@click.option("--data", required=True, metavar="DIR", help="Class folders, any folder of images, or builtin:catdog.")
@click.option("--limit", type=int, metavar="N", help="Use at most N images, balanced over the classes.")
@click.option("--min-agreement", type=click.FloatRange(0, 1), help="Fail below this share of equal top-1 (0.97).")
@click.option(
    "--min-cosine", type=click.FloatRange(-1, 1), help="Fail below this mean cosine (0.99); pooled for 2 or 3 classes."
)
@click.option("--max-drop", type=click.FloatRange(0, 1), help="Fail if B loses more top-1 than this (0.01: one point).")
@click.option("--threads", type=click.IntRange(1), default=1, show_default=True)
@lite_option
@json_option
def verify(a, b, data, limit, min_agreement, min_cosine, max_drop, threads, lite, as_json):
    """Compare the decisions of model B with those of model A (the reference) on images.

    A and B are any two of: checkpoint folder, ONNX file, .ms file, export or convert folder. Exit code 1 where a given
    limit does not hold.
    """
    from msedge.errors import CheckFailed
    from msedge.verification import Thresholds
    from msedge.verification import verify as run

    thresholds = Thresholds(min_cosine=min_cosine, min_agreement=min_agreement, max_drop=max_drop)
    report = run(a, b, data, limit=limit, thresholds=thresholds, threads=threads, lite=lite, say=say, progress=progress)
    if as_json:
        emit_json(report.to_dict())
    else:
        c = report.comparison
        rows = [
            ("images", c.n),
            ("top-1 of A", _percent(c.top1_a)),
            ("top-1 of B", _percent(c.top1_b)),
            ("same decision", f"{100 * c.agreement:.2f} % ({c.flips} flipped)"),
            ("cosine", f"{c.cosine_mean:.6f} mean, {c.cosine_min:.6f} min, {c.cosine_pooled:.6f} pooled"),
            ("largest difference", f"{c.max_abs:.3g}"),
            ("signal to noise", f"{c.sqnr_db:.1f} dB"),
        ]
        if c.paired:
            rows.append(("right only in A / only in B", f"{c.paired.only_a_right} / {c.paired.only_b_right}"))
        print_table(f"A {report.a}\nB {report.b}\non {data}", ["", ""], rows, left=2)
    if not report.passed:
        raise CheckFailed(f"{report.b} does not hold: {'; '.join(report.reasons)}")


def _percent(share: float | None) -> str:
    return "not known" if share is None else f"{100 * share:.2f} %"
