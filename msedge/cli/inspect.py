"""`msedge inspect`."""

from __future__ import annotations

import click

from msedge.cli.common import PATH, emit_json, json_option, print_table, size_text


@click.command(name="inspect")
@click.argument("file", type=PATH)
@json_option
def inspect_(file, as_json):
    """Show what is inside a .ms or ONNX file (or an export or convert folder)."""
    from msedge.runtime.inside import describe

    described = describe(file)
    if as_json:
        emit_json(described)
        return
    count = "not known" if described.get("macs") is None else f"{described['macs']:,}"
    rows = [
        ("format", described["format"]),
        ("written by", described["producer"] or "not said"),
        ("size", size_text(described["size_bytes"])),
        *(("input", _tensor(t)) for t in described["inputs"]),
        *(("output", _tensor(t)) for t in described["outputs"]),
        ("nodes", f"{described['nodes']} ({described['quantised_nodes']} quantised)"),
        ("parameters", f"{described['params']:,}"),
        ("multiply-accumulates", count),
        *((f"constants in {dtype}", size_text(size)) for dtype, size in described["bytes_by_dtype"].items()),
    ]
    if model := described["model"]:
        rows.insert(2, ("model", f"{model['architecture']}, {model['num_classes']} classes, {model['image_size']} px"))
    print_table(str(file), ["", ""], rows, left=2)
    print_table("", ["operator", "nodes"], described["op_counts"].items())


def _tensor(tensor: dict) -> str:
    dims = " x ".join("?" if d in (None, -1) else str(d) for d in tensor["shape"])
    return f"{tensor['name']}: {tensor['dtype']} [{dims}]"
