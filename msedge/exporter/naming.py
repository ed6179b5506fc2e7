"""Final names: nodes after their layer and operator, tensors after their nodes, initialisers after their parameters."""

from __future__ import annotations

from collections import Counter

from msedge.exporter.graph import Graph


def finalise_names(graph: Graph, inputs: list[str], outputs: list[str]) -> None:
    """Rename everything, in the order of execution, so that the names do not depend on how the graph came about."""
    used = dict.fromkeys(i for n in graph.nodes for i in n.inputs if i in graph.constants)
    graph.constants = {c: graph.constants[c] for c in (*used, *(c for c in graph.constants if c not in used))}
    names = _Names({*inputs, *outputs})
    renamed = dict(zip(graph.inputs, inputs, strict=True))
    for c in sorted((c for c in graph.constants if c in graph.origin), key=lambda c: (graph.origin[c], c)):
        renamed[c] = names.take(graph.origin[c])
    results = _results(graph, outputs)
    for node in graph.nodes:
        node.name = names.take(f"{node.layer}/{node.op}" if node.layer else node.op)
        many = len(node.outputs) > 1
        for i, o in enumerate(node.outputs):
            renamed[o] = results.get(o) or (f"{node.name}.{i}" if many else node.name)
    first_reader = {i: n for n in reversed(graph.nodes) for i in n.inputs}
    for c in graph.constants:
        if c not in renamed:
            role = c.rpartition("/")[2].rstrip("0123456789").rstrip("_") or "constant"
            renamed[c] = names.take(f"{first_reader[c].name}/{role}" if c in first_reader else role)
    _apply(graph, renamed)


def _results(graph: Graph, outputs: list[str]) -> dict[str, str]:
    """New names of the graph's outputs; one that is not computed, or asked for twice, is copied first."""
    made = {o for n in graph.nodes for o in n.outputs}
    found: dict[str, str] = {}
    for i, (old, new) in enumerate(zip(graph.outputs, outputs, strict=True)):
        if old not in made or old in found:
            copy = graph.new_node("Identity", "", [old], [graph.types[old]])
            graph.nodes.append(copy)
            graph.outputs[i] = old = copy.output
        found[old] = new
    return found


def _apply(graph: Graph, renamed: dict[str, str]) -> None:
    for n in graph.nodes:
        n.inputs = [renamed.get(i, i) for i in n.inputs]
        n.outputs = [renamed[o] for o in n.outputs]
    graph.inputs = [renamed[i] for i in graph.inputs]
    graph.outputs = [renamed[o] for o in graph.outputs]
    graph.constants = {renamed[c]: v for c, v in graph.constants.items()}
    graph.types = {renamed[t]: v for t, v in graph.types.items() if t in renamed}
    graph.origin = {renamed[c]: v for c, v in graph.origin.items()}


class _Names:
    """Hands out each name once: `x`, then `x_1`, `x_2`..."""

    def __init__(self, taken: set[str]):
        self.count: Counter[str] = Counter(taken)

    def take(self, wanted: str) -> str:
        name = wanted
        while self.count[name]:
            name = f"{wanted}_{self.count[wanted]}"
            self.count[wanted] += 1
        self.count[name] += 1
        return name
