"""`msedge convert`."""

from __future__ import annotations

import click

from msedge.cli.common import PATH, emit_json, json_option, lite_option, out_option, progress, say

_SHARE = click.FloatRange(0, 1)


@click.command()
@click.argument("source", type=PATH)
@out_option()
@click.option("--quant", default="none", show_default=True, metavar="MODE", help="none, fp16, or PostTraining (ptq) for INT8.")
@click.option("--calib", metavar="DIR", help="Images for PostTraining: a dataset, any folder, or builtin:catdog.")
@click.option("--calib-images", type=click.IntRange(1), default=128, show_default=True, help="How many of them.")
@click.option("--data", metavar="DIR", help="Judge the result on these images (else on some of --calib not used).")
@click.option("--data-images", type=click.IntRange(1), default=200, show_default=True, help="How many to judge on.")
@click.option("--target", default="cpu", show_default=True, help="A profile of converters/; cpu is this machine's.")
@click.option(
    "--gelu", type=click.Choice(("exact", "tanh")), default="exact", show_default=True, help="tanh: faster, another function."
)
@click.option("--fmk", metavar="FORMAT", help="ONNX or MINDIR, where the source offers both.")
@click.option("--timeout", type=click.FloatRange(1), default=600, show_default=True, help="Seconds for the converter.")
@click.option("--float-cosine", type=_SHARE, help="Least mean cosine of a float model.  [default: 0.9999]")
@click.option("--fp16-cosine", type=_SHARE, help="Least mean cosine of an fp16 model.  [default: 0.999]")
@click.option("--int8-cosine", type=_SHARE, help="Least mean cosine of an INT8 model.  [default: 0.99]")
@click.option("--agreement", type=_SHARE, help="Least share of equal top-1 of an INT8 model.  [default: 0.97]")
@lite_option
@json_option
def convert(source, out, quant, calib, calib_images, data, data_images, target, gelu, fmk, timeout, lite, as_json, **gate):
    """Convert SOURCE to MindSpore Lite, run the result, and compare it with the source.

    SOURCE is a checkpoint folder, an export folder, an .onnx or a .mindir file. OUT receives model.ms with model.json,
    convert.log, parity.json and manifest.json. Exit code 1 where the comparison does not hold (the files are there).
    """
    from msedge.converter import convert as run
    from msedge.errors import CheckFailed
    from msedge.recipe import GateConfig

    report = run(
        source,
        out,
        quant=quant,
        calib=calib,
        calib_images=calib_images,
        data=data,
        parity_limit=data_images,
        target=target,
        gelu=gelu,
        gate=GateConfig(**{name: value for name, value in gate.items() if value is not None}),
        lite=lite,
        fmk=fmk,
        timeout=timeout,
        say=say,
        progress=progress,
    )
    if as_json:
        emit_json({"out": str(out), **report.to_dict()})
    else:
        click.echo(f"{out}/{report.verdict()}")
    if not report.passed:
        raise CheckFailed(
            f"{out}/model.ms does not hold: {'; '.join(report.reasons)}", "the files are there to look at, see parity.json"
        )
