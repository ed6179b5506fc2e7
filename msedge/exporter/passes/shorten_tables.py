"""A Gather that does the same in each of many equal blocks needs the table of one block.

The heads of every window, or of every image of a batch, are gathered alike; Gather along the second axis says so. This
makes files smaller, and comes last: other rewrites look for Gathers along the first axis.
"""

from __future__ import annotations

import numpy as np

from msedge.exporter.graph import Graph, Node

_WORTH = 256  # numbers of a table that is looked at


def shorten_tables(graph: Graph) -> bool:
    changed = False
    for node in [n for n in graph.nodes if n.op == "Gather" and n.attrs.get("axis", 0) == 0]:
        table, data = graph.constants.get(node.inputs[1]), graph.shape(node.inputs[0])
        if table is None or node.inputs[0] in graph.constants or len(data) != 2 or table.size < _WORTH:
            continue
        if (blocks := _blocks(table, data[0])) > 1:
            _shorten(graph, node, table, blocks)
            changed = True
    return changed


def _blocks(table: np.ndarray, rows: int) -> int:
    """The most equal blocks that cut both the table's first axis and the data's rows and are gathered alike."""
    for n in range(min(table.shape[0], rows), 1, -1):
        if table.shape[0] % n == 0 and rows % n == 0:
            parts = table.reshape(n, -1)
            step = rows // n
            alike = (parts == parts[0] + step * np.arange(n)[:, None]).all()
            if alike and parts[0].min() >= 0 and parts[0].max() < step:
                return n
    return 1


def _shorten(graph: Graph, node: Node, table: np.ndarray, blocks: int) -> None:
    layer, (rows, length) = node.layer, graph.shape(node.inputs[0])
    dtype = graph.types[node.output][1]
    first = table.reshape(blocks, -1)[0]
    inner = table.shape[1:] if table.shape[0] == blocks else (first.size,)
    index = graph.add_constant(first.reshape(inner), f"{layer}/rows")
    before = graph.new_reshape(layer, node.inputs[0], (blocks, rows // blocks, length))
    kind = ((blocks, *inner, length), dtype)
    gather = graph.new_node("Gather", layer, [before.output, index], [kind], axis=1)
    new = [before, gather]
    if kind[0] != graph.shape(node.output):
        new.append(graph.new_reshape(layer, gather.output, graph.shape(node.output)))
    graph.insert(node, new)
    graph.replace(node.output, new[-1].output)
