"""Rewrites of the emitted graph, one file each. Every pass is a function from a Graph to whether it changed something."""

from __future__ import annotations

from collections.abc import Callable

from msedge.exporter.build import infer_types
from msedge.exporter.graph import Graph
from msedge.exporter.passes.canonicalise_activations import canonicalise_activations
from msedge.exporter.passes.drop_dead import drop_dead
from msedge.exporter.passes.drop_no_ops import drop_no_ops
from msedge.exporter.passes.fold_affine import fold_affine
from msedge.exporter.passes.fold_batchnorm import fold_batchnorm
from msedge.exporter.passes.fold_bias import fold_bias
from msedge.exporter.passes.fold_constants import fold_constants, parameter_bytes, room_to_grow
from msedge.exporter.passes.fold_query_scale import fold_query_scale
from msedge.exporter.passes.fold_scale import fold_scale
from msedge.exporter.passes.gather_rows import gather_rows
from msedge.exporter.passes.lift_gemm import lift_gemm
from msedge.exporter.passes.mean_of_images import mean_of_images
from msedge.exporter.passes.merge_reshapes import merge_reshapes
from msedge.exporter.passes.merge_transposes import merge_transposes
from msedge.exporter.passes.power_of_variances import power_of_variances
from msedge.exporter.passes.share_constants import share_constants
from msedge.exporter.passes.share_nodes import share_nodes
from msedge.exporter.passes.shorten_tables import shorten_tables
from msedge.exporter.passes.split_slices import split_slices
from msedge.exporter.passes.swap_gather_gemm import swap_gather_gemm
from msedge.exporter.passes.take_rows_early import take_rows_early

PASSES: tuple[Callable[[Graph], bool], ...] = (
    share_constants,
    fold_constants,
    mean_of_images,
    power_of_variances,
    drop_no_ops,
    canonicalise_activations,
    fold_batchnorm,
    fold_bias,
    fold_scale,
    fold_affine,
    fold_query_scale,
    split_slices,
    lift_gemm,
    merge_reshapes,
    merge_transposes,
    take_rows_early,
    gather_rows,
    swap_gather_gemm,
    drop_dead,
)
LAST: tuple[Callable[[Graph], bool], ...] = (
    shorten_tables,
    share_constants,
    merge_reshapes,
    drop_no_ops,
    share_nodes,
    drop_dead,
)
_ROUNDS = 20


def optimise(graph: Graph) -> None:
    """Run all passes until none of them finds anything more. Each keeps the types of what it adds.

    Constants that grow by folding come last: only then is known how much room the rest of the graph leaves them.
    """
    infer_types(graph)
    drop_dead(graph)
    parameters = parameter_bytes(graph)
    for _ in range(_ROUNDS):
        changes = [rewrite(graph) for rewrite in PASSES]
        if not any(changes):
            break
    else:
        raise RuntimeError(f"the passes still change the graph after {_ROUNDS} rounds")
    _finish(graph)
    graph.room = room_to_grow(graph, parameters)
    if fold_constants(graph):
        _finish(graph)


def _finish(graph: Graph) -> None:
    for rewrite in LAST:
        rewrite(graph)
