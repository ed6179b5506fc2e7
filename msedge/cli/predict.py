"""`msedge predict`."""

from __future__ import annotations

import click

from msedge.cli.common import PATH, emit_json, json_option, lite_option, print_table, progress, say


@click.command()
@click.argument("model", type=PATH)
@click.argument("images", nargs=-1, required=True, type=PATH, metavar="IMAGE...")
@click.option("--top", type=click.IntRange(1), default=3, show_default=True, help="Classes to show for each image.")
@click.option("--threads", type=click.IntRange(1), default=1, show_default=True)
@lite_option
@json_option
def predict(model, images, top, threads, lite, as_json):
    """Classify images (files or folders) with a checkpoint folder, an ONNX file or a .ms file.

    Images that cannot be read are named and the others shown; the exit code is then 2.
    """
    from msedge.errors import DataError
    from msedge.runtime import open_runner
    from msedge.runtime.classify import classify, expand

    paths = expand(images)
    with open_runner(model, threads=threads, lite=lite, say=say) as runner:
        answers = classify(runner, paths, top=top, say=say, progress=progress)
    failed = [a for a in answers if "error" in a]
    if as_json:
        emit_json(answers)
    else:
        shown = [a for a in answers if "error" not in a]
        if shown:
            places = range(1, 1 + max(len(a["top"]) for a in shown))
            rows = [(a["image"], *(f"{c['class']} {100 * c['probability']:.1f} %" for c in a["top"])) for a in shown]
            print_table("", ["image", *(f"{place}." for place in places)], rows, left=1 + len(places))
        for answer in failed:
            say(f"msedge: {answer['error']}")
    if failed:
        raise DataError(f"{len(failed)} of {len(answers)} images cannot be read")
