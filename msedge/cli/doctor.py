"""`msedge doctor`."""

from __future__ import annotations

import click

from msedge.cli.common import emit_json, json_option, print_table, progress, say


@click.command()
@json_option
def doctor(as_json):
    """Say what this machine has for msedge and what is missing, with the command that cures it. Changes nothing.

    Exit code 3 where something that msedge needs is broken.
    """
    from msedge.errors import ToolError
    from msedge.runtime.machine import BROKEN, MISSING, check_machine

    checks = []
    with progress("checking this machine", 0) as report:
        for check in check_machine():
            checks.append(check)
            report(len(checks))
    broken = [c for c in checks if c.status == BROKEN]
    if as_json:
        emit_json({"ok": not broken, "checks": [c.to_dict() for c in checks]})
    else:
        print_table("this machine", ["", "status", "what"], [(c.name, c.status, c.detail) for c in checks], left=3)
        for check in checks:
            if check.cure and check.status in (BROKEN, MISSING):
                say(f"{check.name}: {check.cure}")
    if broken:
        raise ToolError(f"{len(broken)} of {len(checks)} checks failed: {', '.join(c.name for c in broken)}")
