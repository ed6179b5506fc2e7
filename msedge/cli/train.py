"""msedge train"""

from __future__ import annotations

import click

from msedge.cli.common import byte_progress, emit_json, json_option, print_table, progress
from msedge.cli.recipes import leave_stopped, recipe_options, resolve, with_weights


@click.command()
@recipe_options
@click.option("--only", type=click.Choice(["teacher", "student"]), help="Train one of the two.")
@click.option("--print-recipe", is_flag=True, help="Print the resolved recipe and stop.")
@json_option
def train(recipe, out, overrides, data, weights, resume, only, print_recipe, as_json):
    """Train what RECIPE describes.

    A recipe with a teacher leaves OUT/teacher and OUT/student, another one leaves its checkpoint in OUT. One with a qat
    section trains the result once more for INT8 and leaves it in OUT/qat, for msedge convert.
    """
    overrides = with_weights(overrides, weights)
    resolved, out = resolve(recipe, out, overrides, data)
    if print_recipe:
        from msedge.recipe import to_yaml

        click.echo(to_yaml(resolved), nl=False)
        return
    from msedge.training import Stopped
    from msedge.training import train as run

    folders = []
    try:
        if not (resolved.qat and resolved.qat.checkpoint):
            folders = list(run(resolved, out, resume=resume, only=only, progress=byte_progress).folders)
        trained = _train_quantised(resolved, folders, out, resume) if resolved.qat and not only else None
    except Stopped:
        leave_stopped(recipe, out, overrides, data, ["--only", only] if only else [])
    if as_json:
        emit_json({"folders": folders, **({"qat": trained.to_dict()} if trained else {})})
        return
    rows = [[f["folder"], f["model"], f"{f['val_accuracy']:.1%}", f["val_images"], f["best_epoch"]] for f in folders]
    if trained:
        r = trained.report
        accuracy = f"{r['val_accuracy']:.1%}, {r['val_agreement']:.1%} as in float"
        rows.append([trained.out, f"quantised ({r['settings']['mode']})", accuracy, r["val_images"], r["best_epoch"]])
    print_table("Trained", ["folder", "model", "val accuracy", "images", "best epoch"], rows)


def _train_quantised(recipe, folders: list[dict], out, resume: bool):
    """The qat section of the recipe, on the model that was just trained or the checkpoint that it names."""
    from msedge.quantization import run_qat

    source = recipe.qat.checkpoint or folders[-1]["folder"]
    return run_qat(recipe, source, out / "qat", resume=resume, progress=progress)
