"""What the commands share: options, the JSON document on stdout, lines and progress on stderr."""

from __future__ import annotations

import contextlib
import json
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import click

PATH = click.Path(path_type=Path)

json_option = click.option("--json", "as_json", is_flag=True, help="One JSON document on stdout, nothing else there.")
lite_option = click.option(
    "--lite", "lite", metavar="WHERE", help="The Lite toolchain: an interpreter with mindspore_lite, or a folder."
)


def out_option(required: bool = True):
    return click.option("--out", type=PATH, required=required, help="Folder that receives the result.")


def emit_json(document: Any) -> None:
    click.echo(json.dumps(document, indent=2))


def console():
    """The rich console on stderr, where all lines and progress go."""
    from rich.console import Console

    return Console(stderr=True, highlight=False, soft_wrap=True)


def say(text: str) -> None:
    """One plain line on stderr."""
    click.echo(text, err=True)


def print_table(title: str, columns: list[str], rows: Iterable[Iterable[Any]], *, left: int = 1) -> None:
    """A table on stdout: the answer of a command that was not asked for JSON. The first `left` columns hold text."""
    from rich.console import Console
    from rich.table import Table

    table = Table(title=title, title_justify="left", header_style="bold", show_header=any(columns))
    for i, name in enumerate(columns):
        table.add_column(name, justify="left" if i < left else "right", overflow="fold")
    for row in rows:
        table.add_row(*("" if cell is None else str(cell) for cell in row))
    wide = None if sys.stdout.isatty() else 120
    Console(highlight=False, markup=False, width=wide).print(table)


class _PlainProgress:
    """For logs: a line at most every ten seconds."""

    def __init__(self, label: str, total: int, show: Callable[[int], str]):
        self.label, self.total, self.show, self.last = label, total, show, time.monotonic()

    def __call__(self, done: int, total: int | None = None) -> None:
        self.total = total or self.total
        if time.monotonic() - self.last >= 10:
            self.last = time.monotonic()
            say(
                f"{self.label}: {self.show(done)}/{self.show(self.total)}" if self.total else f"{self.label}: {self.show(done)}"
            )


@contextlib.contextmanager
def progress(label: str, total: int = 0, *, in_bytes: bool = False) -> Iterator[Any]:
    """Yield `report(done, total=None)`: a bar on a terminal, a line every ten seconds in a log."""
    if not sys.stderr.isatty():
        yield _PlainProgress(label, total, size_text if in_bytes else str)
        return
    from rich.progress import BarColumn, DownloadColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    count = DownloadColumn() if in_bytes else MofNCompleteColumn()
    columns = (TextColumn("{task.description}"), BarColumn(), count, TimeRemainingColumn())
    with Progress(*columns, console=console(), transient=True) as bars:
        task = bars.add_task(label, total=total or None)
        yield lambda done, total=None: bars.update(task, completed=done, **({"total": total} if total else {}))


def byte_progress(label: str, total: int = 0):
    """`progress` for what is counted in bytes."""
    return progress(label, total, in_bytes=True)


def size_text(n: int) -> str:
    """Bytes as people read them: 1,234 B, 12.3 KB, 4.56 MB (powers of 1000)."""
    if n < 10_000:
        return f"{n:,} B"
    return f"{n / 1e3:.1f} KB" if n < 1_000_000 else f"{n / 1e6:.2f} MB"
