"""`msedge models`: the architectures and their sizes, from the committed catalogue; `msedge models fetch`: their weights."""

from __future__ import annotations

import dataclasses

import click

from msedge.cli.common import byte_progress, emit_json, json_option, print_table, say, size_text
from msedge.models.catalogue import CATALOGUE


@click.group(invoke_without_command=True)
@json_option
@click.pass_context
def models(context: click.Context, as_json: bool) -> None:
    """List the architectures: size, multiply-adds, published accuracy, and the licence of the published weights."""
    if context.invoked_subcommand:
        return
    if as_json:
        emit_json([{"name": name, **dataclasses.asdict(entry)} for name, entry in CATALOGUE.items()])
        return
    columns = ["name", "px", "params M", "GMACs", "top-1 %", "weights at huggingface.co", "licence"]
    rows = (
        (name, e.image_size, f"{e.params / 1e6:.2f}", f"{e.macs / 1e9:.2f}", e.top1, e.source, e.licence)
        for name, e in CATALOGUE.items()
    )
    print_table("Sizes with 1000 classes at the given image size; top-1 on ImageNet-1k as published", columns, rows)
    click.echo("Besides these, mindcv:<name> takes any model of MindCV (github.com/mindspore-lab/mindcv).")


@models.command()
@click.argument("names", metavar="NAME...", nargs=-1, required=True)
@click.option("--force", is_flag=True, help="Fetch again what is in the cache already.")
@json_option
def fetch(names: tuple[str, ...], force: bool, as_json: bool) -> None:
    """Fetch published weights into the user's cache, where --weights and recipes find them without a network.

    NAME is a name of this list (its published weights), mindcv:NAME, hf:timm/NAME or hf:timm/NAME@REVISION.
    """
    from msedge.models.published import is_published, obtain

    rows = []
    for name in names:
        what = (name, "") if is_published(name) and name != "published" else ("published", name)
        path = obtain(*what, force=force, say=say, progress=byte_progress)
        rows.append({"name": name, "path": str(path), "bytes": path.stat().st_size})
    if as_json:
        emit_json(rows)
        return
    for row in rows:
        click.echo(f"{row['name']}: {row['path']} ({size_text(row['bytes'])})")
