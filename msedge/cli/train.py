"""msedge train"""

from __future__ import annotations

import shlex
from pathlib import Path

import click

from msedge.cli.common import PATH, emit_json, json_option, print_table, say


@click.command()
@click.argument("recipe", type=PATH)
@click.option("--out", type=PATH, help="Folder that receives the checkpoint folders (default: runs/NAME).")
@click.option("--set", "overrides", multiple=True, metavar="KEY=VALUE", help="Change one key of the recipe.")
@click.option("--data", type=str, metavar="DIR", help="Short for --set data.root=DIR.")
@click.option("--resume", is_flag=True, help="Go on with the run in --out.")
@click.option("--only", type=click.Choice(["teacher", "student"]), help="Train one of the two.")
@click.option("--print-recipe", is_flag=True, help="Print the resolved recipe and stop.")
@json_option
def train(recipe, out, overrides, data, resume, only, print_recipe, as_json):
    """Train what RECIPE describes.

    A recipe with a teacher leaves OUT/teacher and OUT/student, another one leaves its checkpoint in OUT.
    """
    from msedge.recipe import load_recipe, to_yaml

    resolved = load_recipe(recipe, [*overrides, *([f"data.root={data}"] if data else [])])
    if print_recipe:
        click.echo(to_yaml(resolved), nl=False)
        return
    out = out or Path("runs") / resolved.name
    from msedge.training import Stopped
    from msedge.training import train as run

    try:
        done = run(resolved, out, resume=resume, only=only)
    except Stopped:
        ctx = click.get_current_context()
        again = ["msedge", "train", str(recipe), "--out", str(out), *[f"--set={s}" for s in overrides]]
        again += [*(["--data", data] if data else []), *(["--only", only] if only else []), "--resume"]
        say(f"msedge: stopped and saved; go on with: {shlex.join(again)}")
        ctx.exit(130)
    if as_json:
        emit_json(done.to_dict())
        return
    rows = [[f["folder"], f["model"], f"{f['val_accuracy']:.1%}", f["val_images"], f["best_epoch"]] for f in done.folders]
    print_table("Trained", ["folder", "model", "val accuracy", "images", "best epoch"], rows)
