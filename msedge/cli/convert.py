"""`msedge convert`."""

from __future__ import annotations

import click

from msedge.cli.common import PATH, emit_json, json_option, lite_option, out_option, progress, say
from msedge.errors import UserError

_SHARE = click.FloatRange(0, 1)


@click.command()
@click.argument("source", type=PATH)
@out_option()
@click.option(
    "--quant",
    metavar="MODE",
    help="none, fp16, PostTraining (ptq), WeightQuant (weight) or AwareTraining (qat).  [default: the plan's, else none]",
)
@click.option("--engine", default="msedge", show_default=True, help="Who quantises: msedge, or MindSpore Lite's converter.")
@click.option("--bits", type=int, default=8, show_default=True, help="Bits of a weight, for WeightQuant.")
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
@click.option("--int8-cosine", type=_SHARE, help="Least mean cosine of a quantised model.  [default: 0.99]")
@click.option("--agreement", type=_SHARE, help="Least share of equal top-1 of a quantised model.  [default: 0.97]")
@lite_option
@json_option
def convert(
    source, out, quant, engine, bits, calib, calib_images, data, data_images, target, gelu, fmk, timeout, lite, as_json, **gate
):
    """Convert SOURCE to MindSpore Lite, run the result, and compare it with the source.

    SOURCE is a checkpoint folder, an export folder, a folder of `msedge quantize` (its plan is followed), an .onnx or a
    .mindir file. OUT receives model.ms with model.json, plan.json where it is quantised, convert.log, parity.json and
    manifest.json. Exit code 1 where the comparison does not hold (the files are there).
    """
    from msedge.converter import convert as run
    from msedge.errors import CheckFailed
    from msedge.recipe import GateConfig

    report = run(
        source,
        out,
        quant=quant,
        engine=engine,
        making=making_of(quant, bits),
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


def making_of(quant: str | None, bits: int):
    """The engine's settings where --bits asks for others than the usual. Raises UserError where bits have no meaning."""
    if bits == 8:
        return None
    from msedge.quantization.making import Making
    from msedge.recipe import quant_name

    if quant_name(quant or "") != "WeightQuant":
        raise UserError(f"--bits {bits} has a meaning for weights only", "add --quant WeightQuant")
    return Making(mode="weight", bits=bits)
