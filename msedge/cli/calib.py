"""`msedge calib make | check`."""

from __future__ import annotations

import click

from msedge.cli.common import PATH, emit_json, json_option, print_table, progress, say

model_option = click.option(
    "--model", type=PATH, metavar="M", help="Prepare images as this model does; with ONNX also measure its activations."
)
against_option = click.option(
    "--against", metavar="DIR", help="Validation images for the drift (default: val/ of the data, else its other images)."
)


@click.group(help="Choose and audit the images that quantisation is calibrated with.")
def calib() -> None:
    pass


@calib.command(
    help="Choose N images of DIR: different ones, even over the classes, spread as the data are. Writes calibration.json, "
    "which --calib of convert and quantize takes; the images stay where they are."
)
@click.argument("folder", metavar="DIR")
@click.option("--n", type=click.IntRange(0), default=128, show_default=True, help="Images.")
@click.option("--out", type=PATH, help="Folder that receives the set [calib_data/<name of DIR>].")
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True)
@model_option
@against_option
@click.option("--copy", is_flag=True, help="Also copy the images into the set.")
@json_option
def make(folder, n, out, seed, model, against, copy, as_json) -> None:
    from msedge.quantization.calibration_making import make_calibration

    made = make_calibration(folder, out, n=n, seed=seed, model=model, against=against, copy=copy, say=say, progress=progress)
    say(f"{made.folder}: {len(made.document['images'])} calibration images of {folder}")
    _show(made, as_json)


@calib.command(
    help="Audit a chosen set again: its images by hash, repeats, coverage of the data, drift against validation images. "
    "Exit code 1 where the set should not be used as it is."
)
@click.argument("folder", metavar="DIR", type=PATH)
@model_option
@against_option
@json_option
def check(folder, model, against, as_json) -> None:
    from msedge.quantization.calibration_making import check_calibration

    checked = check_calibration(folder, model=model, against=against, say=say, progress=progress)
    _show(checked, as_json)
    if not checked.audit["ok"]:
        raise click.exceptions.Exit(1)


def _show(made, as_json: bool) -> None:
    if as_json:
        emit_json({"folder": str(made.folder), **made.document, "audit": made.audit})
        return
    audit = made.audit
    rows = [[name or "images", count] for name, count in audit["counts"].items()]
    print_table(f"{made.folder}", ["class", "images"], rows)
    if audit["coverage"]:
        cells = [
            [c["statistic"], *(f"{v:.3g}" for v in (*c["chosen"][::2], *c["whole"][::2])), f"{c['distance']:.3f}",
             f"{100 * c['inside']:.1f} %"] for c in audit["coverage"]
        ]  # fmt: skip
        print_table("coverage: least, median, most in the set and in the data",
                    ["statistic", "set", "", "", "data", "", "", "distance", "inside"], cells)  # fmt: skip
    if audit["drift"]:
        cells = [
            [d["channel"], *(f"{v:+.3f}" for v in (*d["mean"], *d["std"])), f"{d['shift']:+.2f}", f"{d['distance']:.3f}"]
            for d in audit["drift"]
        ]
        print_table(f"drift against {audit['against_images']} images of {audit['against']}",
                    ["channel", "mean", "there", "std", "there", "shift", "distance"], cells)  # fmt: skip
    if activations := audit.get("activations"):
        cells = [
            [t["tensor"], *(f"{v:+.3g}" for v in (*t["calibrated"], *t["seen"])), f"{100 * t['outside']:.4f} %"]
            for t in activations["tensors"][:8]
        ]
        print_table(f"activations outside the calibrated range, the {len(cells)} worst of {activations['measured']}",
                    ["tensor", "least", "most", "seen least", "seen most", "outside"], cells)  # fmt: skip
    for v in audit["verdicts"]:
        click.echo(f"{v['level']}: {v['text']}" + (f" -> {v['advice']}" if v["advice"] else ""))
