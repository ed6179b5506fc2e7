"""msedge train"""

from __future__ import annotations

import click

from msedge.cli.common import byte_progress, emit_json, json_option, print_table
from msedge.cli.recipes import leave_stopped, recipe_options, resolve, with_weights


@click.command()
@recipe_options
@click.option("--only", type=click.Choice(["teacher", "student"]), help="Train one of the two.")
@click.option("--print-recipe", is_flag=True, help="Print the resolved recipe and stop.")
@json_option
def train(recipe, out, overrides, data, weights, resume, only, print_recipe, as_json):
    """Train what RECIPE describes.

    A recipe with a teacher leaves OUT/teacher and OUT/student, another one leaves its checkpoint in OUT.
    """
    overrides = with_weights(overrides, weights)
    resolved, out = resolve(recipe, out, overrides, data)
    if print_recipe:
        from msedge.recipe import to_yaml

        click.echo(to_yaml(resolved), nl=False)
        return
    from msedge.training import Stopped
    from msedge.training import train as run

    try:
        done = run(resolved, out, resume=resume, only=only, progress=byte_progress)
    except Stopped:
        leave_stopped(recipe, out, overrides, data, ["--only", only] if only else [])
    if as_json:
        emit_json(done.to_dict())
        return
    rows = [[f["folder"], f["model"], f"{f['val_accuracy']:.1%}", f["val_images"], f["best_epoch"]] for f in done.folders]
    print_table("Trained", ["folder", "model", "val accuracy", "images", "best epoch"], rows)
