"""`msedge lite`."""

from __future__ import annotations

import os

import click

from msedge.cli.common import PATH, emit_json, json_option, lite_option, print_table, progress, say


@click.group()
def lite():
    """Install and probe the MindSpore Lite toolchain."""


@lite.command()
@click.option("--force", is_flag=True, help="Install again even where a whole copy is there.")
@click.option("--wheel", type=PATH, help="Use this wheel file instead of downloading it.")
@json_option
def install(force, wheel, as_json):
    """Fetch the pinned MindSpore Lite wheel, check it, unpack it into the user's cache and prove that it works."""
    from msedge.lite.install import install as run
    from msedge.lite.wheel import WHEEL_VARIABLE

    if wheel:
        os.environ[WHEEL_VARIABLE] = str(wheel)
    with _Steps() as steps:
        folder = run(steps, force=force)
    if as_json:
        emit_json(_described(str(folder)))
    else:
        click.echo(f"MindSpore Lite is in {folder}: a model was converted, run, traced and quantised with it")


@lite.command(name="list")
@json_option
def list_(as_json):
    """List the toolchains that are found, the one that is used first. Installs nothing."""
    from msedge.runtime.toolchains import all_toolchains

    found = all_toolchains()
    rows = [{"place": f.place, "problem": f.problem, **(_plain(f.info) if f.info else {})} for f in found]
    if as_json:
        emit_json(rows)
        return
    _table([row for row in rows if "kind" in row])
    for row in rows:
        if row["problem"]:
            say(f"{row['place']}: {row['problem']}")
    if not rows:
        say("no MindSpore Lite toolchain was found: run msedge lite install")


@lite.command()
@lite_option
@json_option
def probe(lite, as_json):
    """Say what the toolchain that would be used can do. Installs nothing."""
    described = _described(lite)
    if as_json:
        emit_json(described)
    else:
        _table([described])


class _Steps:
    """Turns install's (step, done, total) into one progress bar for each step."""

    def __init__(self):
        self._step, self._bar, self._report = "", None, None

    def __enter__(self):
        return self

    def __exit__(self, *error):
        self._end(*error)

    def __call__(self, step: str, done: int, total: int) -> None:
        if step != self._step:
            self._end(None, None, None)
            self._step, self._bar = step, progress(f"{step} MindSpore Lite", total, in_bytes=step in ("download", "unpack"))
            self._report = self._bar.__enter__()
        self._report(done)

    def _end(self, *error):
        if self._bar:
            self._bar.__exit__(*error)
            self._bar = None


def _described(where: str | None) -> dict:
    from msedge.lite import find_toolchain

    return _plain(find_toolchain(where, install=False, say=say).info)


def _plain(info) -> dict:
    return {"kind": info.kind, "location": str(info.location), "version": info.version, "abilities": info.abilities}


def _table(rows: list[dict]) -> None:
    if not rows:
        return
    columns = ["toolchain", "version", "convert", "run", "trace", "INT8", "newest MindIR", "Ascend"]
    keys = ("convert", "predict", "trace", "full_quant", "mindir_version", "ascend")
    print_table(
        "MindSpore Lite",
        columns,
        [(f"{r['kind']}: {r['location']}", r["version"], *(_word(r["abilities"].get(k)) for k in keys)) for r in rows],
    )


def _word(value) -> str:
    if value is None:
        return "unknown"
    return {True: "yes", False: "no"}.get(value, str(value)) if isinstance(value, bool) else str(value)
