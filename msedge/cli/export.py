"""msedge export"""

from __future__ import annotations

import click

from msedge.cli.common import PATH, emit_json, json_option, out_option, print_table, size_text


@click.command()
@click.argument("checkpoint", metavar="CKPT_DIR", type=PATH)
@click.option(
    "--format",
    "formats",
    type=click.Choice(["onnx", "mindir"], case_sensitive=False),
    multiple=True,
    default=("onnx",),
    show_default=True,
    help="What to write; may be given twice.",
)
@out_option()
@click.option("--batch", type=click.IntRange(min=1), default=1, show_default=True, help="Images in one call.")
@click.option("--force", is_flag=True, help="Write into a folder that holds other files.")
@json_option
def export(checkpoint, formats, out, batch, force, as_json):
    """Write the model of the checkpoint folder CKPT_DIR (or of one .ckpt in it) as ONNX or MindIR.

    OUT receives the model, golden.npz (inputs and the cell's answers), model.json and manifest.json. The file is run and
    compared with the cell before it gets its name.
    """
    from msedge.artifact import read_manifest
    from msedge.exporter import export as run

    folder = run(checkpoint, out, tuple(dict.fromkeys(f.lower() for f in formats)), batch, force=force)
    manifest = read_manifest(folder, "export")
    report, files = manifest["export"], manifest["files"]
    if as_json:
        emit_json({"folder": str(folder), **report, "files": files})
        return
    rows = [[f"model.{f}", size_text(files[f"model.{f}"]["bytes"]), f"{report['max_abs'][f]:.2g}"] for f in report["max_abs"]]
    print_table(f"{folder} ({report['seconds']:.1f} s)", ["file", "size", "max abs difference of logits"], rows)
