"""`msedge quantize`."""

from __future__ import annotations

import click

from msedge.cli.common import PATH, emit_json, json_option, out_option, print_table, progress, say


@click.command()
@click.argument("source", type=PATH)
@out_option()
@click.option(
    "--mode",
    type=click.Choice(["ptq", "weight"]),
    default="ptq",
    show_default=True,
    help="ptq: 8-bit weights and activations. weight: only the weights.",
)
@click.option("--bits", type=int, default=8, show_default=True, help="Bits of a weight, for --mode weight.")
@click.option("--group", type=int, default=0, help="Weights that share a scale, for --mode weight (0: one step per tensor).")
@click.option(
    "--calib",
    metavar="DIR",
    help="Images to calibrate with: a dataset, any folder, builtin:catdog, a set of msedge calib make.",
)
@click.option("--calib-images", type=click.IntRange(1), default=128, show_default=True, help="How many of them.")
@click.option("--observer", help="How ranges are found.  [default: the best measured]")
@click.option("--keep-float", multiple=True, metavar="PATTERN", help="Nodes that stay float, as in '*.head*'; may be repeated.")
@click.option("--budget", metavar="LOSS", help="Keep as few nodes float as hold this: 0.5pp of top-1, or agreement=0.99.")
@click.option("--data", metavar="DIR", help="Judge on these images (else on some of --calib not used).")
@click.option("--data-images", type=click.IntRange(1), default=200, show_default=True, help="How many to judge on.")
@json_option
def quantize(source, out, mode, bits, group, calib, calib_images, observer, keep_float, budget, data, data_images, as_json):
    """Plan how SOURCE is stored with few bits, and say what that costs before anything is converted.

    SOURCE is a checkpoint folder, an export folder or an .onnx file. OUT receives model.onnx, plan.json, layers.json (the
    error of every node) and quantization.json; with --budget also the curve of accuracy against size. msedge convert OUT
    makes the .ms of it. Exit code 1 where a budget does not hold (the nearest plan is there).
    """
    from msedge.errors import CheckFailed
    from msedge.quantization import quantize as run
    from msedge.quantization.making import Making, settings_of

    report = run(
        source,
        out,
        making=Making(mode=mode, bits=bits, group=group, settings=settings_of(observer, keep_float)),
        calib=calib,
        calib_images=calib_images,
        data=data,
        data_images=data_images,
        budget=budget,
        say=say,
        progress=progress,
    )
    if as_json:
        emit_json({"out": str(out), **report.to_dict()})
    else:
        _show(report)
    if not report.passed:
        raise CheckFailed(f"{out}: {'; '.join(report.reasons)}", "the nearest plan is there, see quantization.json")


def _show(report) -> None:
    c, counts = report.comparison, report.counts
    click.echo(f"{report.out}: {report.summary()}")
    worst = report.layers.worst(10)
    print_table(
        f"The nodes with the largest error, of {sum(counts.values())}",
        ["node", "precision", "SQNR dB", "cosine", "clipped"],
        [[n.name, n.precision, f"{n.sqnr_db:.1f}", f"{n.cosine:.5f}", f"{n.clipped:.2%}"] for n in worst],
        left=2,
    )
    if c.outputs and report.plan.of("float"):
        rows = [[name, report.plan.nodes[name].why] for name in report.plan.of("float")]
        print_table("Kept in float", ["node", "why"], rows, left=2)
