"""Which layer a primitive belongs to: the first half of its ONNX node's name.

MindSpore compiles the code of equal layers once, and the code of `+` once for all of them, and writes the scope of the
first use on every other. Parameters have unique names, so a primitive that uses one, or what was computed from
parameters alone, is placed by it. Any other lies between two such: the last one that it computes from and the first one
that uses it. What their layers have in common holds it, and the written scope is believed as far as it agrees.
"""

from __future__ import annotations

import numpy as np

from msedge.exporter.values import GraphInput, MindGraph, MindNode, Parameter, Result, leaves

Path = tuple[tuple[str, str], ...]  # (name, class) from the outermost cell inwards
_LISTS = {"CellList", "SequentialCell", "CellDict"}


def place(graph: MindGraph) -> dict[int, str]:
    """The dotted layer name of every node, by `id(node)`."""
    learned = _learned(graph.nodes)
    fixed = {id(node): path for node in graph.nodes if (path := _by_parameter(node, learned))}
    owners = {_names(path)[:n] for path in fixed.values() for n in range(1, len(path) + 1)}
    before, after = _nearest(graph.nodes, fixed)
    places = {}
    for node in graph.nodes:
        key = id(node)
        neighbours = fixed.get(before.get(key), ()), fixed.get(after.get(key), ())
        path = fixed.get(key) or _between(node.layer, *neighbours, owners)
        places[key] = ".".join(name for name, _ in path)
    return places


def _learned(nodes: list[MindNode]) -> dict[int, Parameter]:
    """Of every node that depends on parameters alone the largest of these: a kernel rather than its scales."""
    found: dict[int, Parameter] = {}
    for node in nodes:
        values = [found.get(id(v.node), v) if isinstance(v, Result) else v for v in leaves(node.inputs)]
        parameters = [v for v in values if isinstance(v, Parameter)]
        if parameters and not any(isinstance(v, Result | GraphInput) for v in values):
            found[id(node)] = max(parameters, key=lambda p: np.size(p.array))
    return found


def _by_parameter(node: MindNode, learned: dict[int, Parameter]) -> Path:
    computed = [learned[id(v.node)] for v in leaves(node.inputs) if isinstance(v, Result) and id(v.node) in learned]
    owner = next((p.scope for p in (*node.parameters, *computed) if p.scope), "")
    if not owner:
        return ()
    names = tuple(owner.split("."))
    if _names(node.layer)[: len(names)] == names:
        return node.layer[: len(names)]
    classes = [cls for _, cls in node.layer] if len(node.layer) == len(names) else [""] * len(names)
    return tuple(zip(names, classes, strict=True))


def _nearest(nodes: list[MindNode], fixed: dict[int, Path]) -> tuple[dict[int, int], dict[int, int]]:
    """For every node the latest placed one before it and the earliest one after it, along the data."""
    order = {id(n): i for i, n in enumerate(nodes)}
    before: dict[int, int] = {}
    after: dict[int, int] = {}
    for n in nodes:
        sources = [id(v.node) for v in leaves(n.inputs) if isinstance(v, Result)]
        known = [s if s in fixed else before.get(s) for s in sources]
        if found := [k for k in known if k is not None]:
            before[id(n)] = max(found, key=order.__getitem__)
    for n in reversed(nodes):
        nearest = id(n) if id(n) in fixed else after.get(id(n))
        for v in leaves(n.inputs):
            if nearest is not None and isinstance(v, Result):
                key = id(v.node)
                after[key] = min(after.get(key, nearest), nearest, key=order.__getitem__)
    return before, after


def _between(written: Path, before: Path, after: Path, owners: set[tuple[str, ...]]) -> Path:
    common = _common(before, after) if before and after else (before or after)[:-1]
    while common and common[-1][1] in _LISTS and len(before) > len(common):
        common = before[: len(common) + 1]  # between two items of a list: the end of the first one
    if _starts(written, common) and _agrees(written, before, after, owners):
        return written
    fitting = [c for c in _aligned(written, before, after) if _starts(c, common)]
    return max(fitting, key=len, default=common)


def _agrees(written: Path, before: Path, after: Path, owners: set[tuple[str, ...]]) -> bool:
    """Whether the written layer holds a neighbour, or stands directly beside one and holds no parameter itself."""
    if not (before or after):
        return True
    held = written if _names(written) in owners else written[:-1]
    return any(_starts(other, held) for other in (before, after))


def _aligned(written: Path, before: Path, after: Path):
    """Where the neighbours' layers have the class of the written scope, or that of the cell around it."""
    classes = [cls for _, cls in written]
    around = 2 if classes[-2:-1] and classes[-2] in _LISTS else 1  # a list says nothing: look at its owner, too
    for other in (before, after):
        for depth in range(1, len(other) + 1):
            head = other[:depth]
            if classes and classes[-1] == head[-1][1]:
                yield head
            if len(written) > around and classes[-1 - around : -1] == [cls for _, cls in head[-around:]]:
                yield (*head, written[-1])


def _names(path: Path) -> tuple[str, ...]:
    return tuple(name for name, _ in path)


def _starts(path: Path, head: Path) -> bool:
    return _names(path)[: len(head)] == _names(head)


def _common(a: Path, b: Path) -> Path:
    n = 0
    while n < min(len(a), len(b)) and a[n][0] == b[n][0]:
        n += 1
    return a[:n]
