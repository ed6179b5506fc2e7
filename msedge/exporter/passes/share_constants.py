"""Keep one of several equal large constants: attention masks, index tables."""

from __future__ import annotations

from msedge.exporter.graph import Graph

_LARGE = 64  # elements; the converter rewrites small ones (shapes, axes) in place, so each node keeps its own


def share_constants(graph: Graph) -> bool:
    """Parameters stay apart, even if they are equal today: they are learned each for itself."""
    first: dict[tuple, str] = {}
    changed = False
    for name, value in list(graph.constants.items()):
        if value.size < _LARGE or name in graph.origin or name in graph.outputs:
            continue
        key = (value.dtype.str, value.shape, value.tobytes())
        kept = first.setdefault(key, name)
        if kept != name:
            graph.replace(name, kept)
            del graph.constants[name]
            graph.types.pop(name)
            changed = True
    return changed
