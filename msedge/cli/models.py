"""`msedge models`: the architectures and their sizes, from the committed catalogue."""

from __future__ import annotations

import dataclasses

import click

from msedge.cli.common import emit_json, json_option, print_table
from msedge.models.catalogue import CATALOGUE


@click.command()
@json_option
def models(as_json: bool) -> None:
    """List the architectures: size, multiply-adds, published accuracy, and the licence of the published weights."""
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
