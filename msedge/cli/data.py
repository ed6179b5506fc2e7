"""`msedge data make | check | sheet`."""

from __future__ import annotations

from pathlib import Path

import click

from msedge.cli.common import PATH, emit_json, json_option, print_table, progress, say


@click.group(help="Make and audit image folders.")
def data() -> None:
    pass


@data.command(help="Draw the cats-and-dogs set (drawn by code, not photos) into OUT/{train,val}/{cat,dog}/.")
@click.argument("out", type=PATH)
@click.option("--train", type=click.IntRange(2, 1_000_000), default=1200, show_default=True, help="Training images.")
@click.option("--val", type=click.IntRange(2, 1_000_000), default=400, show_default=True, help="Validation images.")
@click.option("--size", type=click.IntRange(16, 1024), default=160, show_default=True, help="Pixels, square.")
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True)
@click.option("--sheet", type=PATH, help="Also write a contact sheet (PNG) of what was drawn.")
@json_option
def make(out: Path, train: int, val: int, size: int, seed: int, sheet: Path | None, as_json: bool) -> None:
    from msedge.data.drawn import make_drawn
    from msedge.recipe.schema import DrawnConfig

    with progress("drawing", train + val) as report:
        make_drawn(out, DrawnConfig(train=train, val=val, size=size, seed=seed), report)
    say(f"{out}: {train} training and {val} validation images of drawn cats and dogs")
    if sheet:
        _write_sheet(out, sheet, 80)
    if as_json:
        emit_json({"out": str(out), "train": train, "val": val, "size": size, "seed": seed, "drawn": True})


@data.command(
    help="Audit an image folder: class balance, damaged files, sizes, duplicates within and across splits. "
    "Exit code 1 where the set should not be used as it is: unreadable files, a picture both in train and val, the same "
    "file under two labels, an empty or missing class."
)
@click.argument("folder", metavar="DIR")
@json_option
def check(folder: str, as_json: bool) -> None:
    from msedge.data.audit import audit

    with progress("examining") as report:
        result = audit(folder, report)
    if as_json:
        emit_json(result.to_dict())
    else:
        _print_audit(result)
    if not result.ok:
        raise click.exceptions.Exit(1)


@data.command(help="Write a contact sheet (PNG) of images of DIR, evenly over its classes, to look at.")
@click.argument("folder", metavar="DIR")
@click.argument("out", type=PATH)
@click.option("--images", type=click.IntRange(1, 1000), default=80, show_default=True)
def sheet(folder: str, out: Path, images: int) -> None:
    _write_sheet(folder, out, images)


def _write_sheet(folder: Path | str, out: Path, images: int) -> None:
    from msedge.data.calib import choose_calibration
    from msedge.data.sheet import contact_sheet

    contact_sheet(sorted(choose_calibration(folder, images)), out)
    say(f"{out}: contact sheet of {folder}")


def _print_audit(report) -> None:
    splits = list(report.counts)
    names = sorted({name for counts in report.counts.values() for name in counts})
    rows = [[name, *(report.counts[s].get(name, "missing") for s in splits)] for name in names]
    rows.append(["total", *(sum(report.counts[s].values()) for s in splits)])
    print_table(f"{report.root}", ["class", *("images" if s == "all" else s for s in splits)], rows)
    if report.sizes:
        spread = ", ".join(f"{side} {v['min']} to {v['max']} (median {v['median']})" for side, v in report.sizes.items())
        click.echo(f"pixels: {spread}")
    for title, entries in (("unreadable", report.bad), ("unusual", report.odd)):
        for name, reason in entries[:10]:
            click.echo(f"{title}: {name}: {reason}")
        if len(entries) > 10:
            click.echo(f"{title}: and {len(entries) - 10} more (--json lists all)")
    for verdict in report.verdicts:
        click.echo(f"{verdict.level}: {verdict.text}" + (f" -> {verdict.advice}" if verdict.advice else ""))
