"""What the commands that take a recipe share: their options, the resolved recipe, the word on how to go on."""

from __future__ import annotations

import json
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

import click

from msedge.cli.common import PATH, say

_WEIGHTS = (
    "What the model starts from: .safetensors, .ckpt, a checkpoint folder, hf:timm/NAME, mindcv:NAME, or published. "
    "Short for --set model.weights=FILE."
)
_OPTIONS = (
    click.argument("recipe", type=PATH),
    click.option("--out", type=PATH, help="Folder that receives the result (default: runs/NAME)."),
    click.option("--set", "overrides", multiple=True, metavar="KEY=VALUE", help="Change one key of the recipe."),
    click.option("--data", type=str, metavar="DIR", help="Short for --set data.root=DIR."),
    click.option("--weights", metavar="FILE", help=_WEIGHTS),
    click.option("--resume", is_flag=True, help="Go on with the run in --out."),
)


def recipe_options(command):
    """Add RECIPE, --out, --set, --data, --weights and --resume."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


def with_weights(overrides: Sequence[str], weights: str | None) -> list[str]:
    """The changes of `--set`, and that of `--weights` after them."""
    return [*overrides, *([f"model.weights={json.dumps(weights)}"] if weights else [])]


def resolve(recipe: Path, out: Path | None, overrides: Sequence[str], data: str | None):
    """The recipe with the command line's changes, and the folder that the run goes to."""
    from msedge.recipe import load_recipe

    resolved = load_recipe(recipe, [*overrides, *([f"data.root={data}"] if data else [])])
    return resolved, out or Path("runs") / resolved.name


def leave_stopped(recipe: Path, out: Path, overrides: Sequence[str], data: str | None, more: Sequence[str] = ()) -> NoReturn:
    """Say how to go on with a run that the user stopped, and leave with 130."""
    context = click.get_current_context()
    again = ["msedge", context.info_name, str(recipe), "--out", str(out), *[f"--set={s}" for s in overrides]]
    again += [*(["--data", data] if data else []), *more, "--resume"]
    say(f"msedge: stopped and saved; go on with: {shlex.join(again)}")
    context.exit(130)
