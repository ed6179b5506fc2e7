"""`msedge bench`."""

from __future__ import annotations

import click

from msedge.cli.common import PATH, emit_json, json_option, lite_option, print_table, progress, say, size_text
from msedge.errors import UserError


class _Numbers(click.ParamType):
    name = "N,N,..."

    def convert(self, value, param, ctx):
        if isinstance(value, tuple):
            return value
        try:
            numbers = tuple(int(part) for part in value.split(","))
        except ValueError:
            numbers = ()
        if not numbers or min(numbers) < 1 or max(numbers) > 1024:
            self.fail(f"'{value}' is not a list of thread counts such as 1,2", param, ctx)
        return tuple(dict.fromkeys(numbers))


@click.command()
@click.argument("models", nargs=-1, required=True, type=PATH, metavar="MODEL...")
@click.option("--threads", type=_Numbers(), default=(1,), help="Thread counts to measure, such as 1,2.  [default: 1]")
@click.option("--runs", type=click.IntRange(1), default=50, show_default=True, help="Measured runs of each.")
@click.option("--warmup", type=click.IntRange(0), default=10, show_default=True, help="Runs before, not measured.")
@click.option(
    "--runtime", "runtimes", multiple=True, metavar="NAME", help="onnxruntime or openvino for ONNX files; repeatable."
)
@click.option("--image", type=PATH, help="Feed this image instead of noise.")
@click.option("--profile", is_flag=True, help="Show the time of each node and operator (.ms, or ONNX in onnxruntime).")
@click.option("--top", type=click.IntRange(1), default=20, show_default=True, help="With --profile: so many nodes.")
@lite_option
@json_option
def bench(models, threads, runs, warmup, runtimes, image, profile, top, lite, as_json):
    """Measure latency, memory and size of models, each in a process of its own, taking turns.

    MODEL is an ONNX file, a .ms file, a checkpoint folder, or an export or convert folder. Times are of one batch as
    the file has it (usually one image).
    """
    if profile:
        if set(runtimes) - {"onnxruntime"}:
            raise UserError(f"{runtimes[0]} reports no nodes that --profile reads", "leave --runtime out")
        _profile(models, threads, runs, warmup, image, top, lite, as_json)
        return
    from msedge.benchmark import bench as run

    rows = run(
        models,
        threads=threads,
        runs=runs,
        warmup=warmup,
        runtimes=runtimes or None,
        image=image,
        lite=lite,
        say=say,
        progress=progress,
    )
    if as_json:
        emit_json(rows)
        return
    columns = ["model", "runtime", "threads", "p50 ms", "p90", "p99", "mean", "ratio", "size", "peak MB", "params", "MACs"]
    print_table(
        f"latency of one batch, {runs} runs in turns",
        columns,
        [
            (
                row["model"],
                row["runtime"] + (" *" if row["note"] else ""),
                row["threads"],
                *(_ms(row[key]) for key in ("p50_ms", "p90_ms", "p99_ms", "mean_ms")),
                f"{row['ratio']:.2f}" if row["ratio"] is not None else "",
                size_text(row["size_bytes"]),
                f"{row['peak_rss_mb']:.0f}",
                _count(row["params"]),
                _count(row["macs"]),
            )
            for row in rows
        ],
        left=2,
    )
    for note in dict.fromkeys(row["note"] for row in rows if row["note"]):
        click.echo(f"* {note}")


def _profile(models, threads, runs, warmup, image, top, lite, as_json):
    from msedge.benchmark import profile

    found = [
        profile(model, threads=n, runs=runs, warmup=warmup, image=image, lite=lite, say=say, progress=progress)
        for model in models
        for n in threads
    ]
    if as_json:
        emit_json(found)
        return
    for one in found:
        nodes = sorted(one["nodes"], key=lambda node: -node["ms"])[:top]
        print_table(
            f"{one['model']}, {one['runtime']}, threads {one['threads']}: {one['node_count']} nodes, {runs} runs",
            ["operator", "nodes", "ms", "share"],
            [(t["type"], t["nodes"], f"{t['ms']:.3f}", f"{t['share']:.1%}") for t in one["types"]],
        )
        print_table(
            f"the {len(nodes)} slowest nodes",
            ["node", "operator", "first output", "ms", "share"],
            [(n["name"], n["type"], " x ".join(map(str, n["shape"])), f"{n['ms']:.3f}", f"{n['share']:.1%}") for n in nodes],
            left=3,
        )
        click.echo(
            f"nodes {one['nodes_ms']:.3f} ms together, a report's share in each at most {1e3 * one['node_floor_ms']:.1f} us; "
            f"a run {one['plain_ms']:.3f} ms, with reports {one['reported_ms']:.3f} ms"
        )


def _ms(value: float) -> str:
    return f"{value:.3g}" if value < 100 else f"{value:.0f}"


def _count(n: int | None) -> str:
    if n is None:
        return "?"
    for unit, size in (("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if n >= size:
            return f"{n / size:.3g} {unit}"
    return str(n)
