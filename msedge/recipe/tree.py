"""YAML with its origin: every value knows its file and line, so that errors can name them."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from msedge.errors import RecipeError

BASE_KEY = "_base_"


@dataclass(frozen=True)
class Node:
    """A YAML value with where it stands. `value` is a scalar, a list of Node, or a dict of str to Node."""

    value: Any
    file: str
    line: int

    @property
    def where(self) -> str:
        return f"{self.file}:{self.line}" if self.line else self.file

    def plain(self) -> Any:
        if isinstance(self.value, dict):
            return {key: node.plain() for key, node in self.value.items()}
        if isinstance(self.value, list):
            return [node.plain() for node in self.value]
        return self.value


class _Loader(yaml.SafeLoader):
    """SafeLoader that reads 1e-3 as a number, as YAML 1.2 does."""


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"^[-+]?[0-9][0-9_]*(\.[0-9]*)?[eE][-+]?[0-9]+$"), list("-+0123456789")
)


def parse(text: str, file: str) -> Node:
    """Parse YAML text; raises RecipeError with file and line for anything that is not clean YAML."""
    try:
        loader = _Loader(text)
    except yaml.YAMLError as e:
        raise RecipeError(f"{file}: not readable as YAML: {str(e).splitlines()[0]}") from None
    try:
        root = loader.get_single_node()
        if root is None:
            raise RecipeError(f"{file}: the recipe is empty")
        return _convert(root, loader, file)
    except yaml.MarkedYAMLError as e:
        line = e.problem_mark.line + 1 if e.problem_mark else 0
        problem = e.problem or "not valid YAML"
        hint = "indent with spaces: YAML does not allow tabs" if "\\t" in problem else ""
        raise RecipeError(f"{file}:{line}: {problem}", hint) from None
    except yaml.YAMLError as e:
        raise RecipeError(f"{file}: not valid YAML: {e}") from None
    finally:
        loader.dispose()


def _convert(node: yaml.Node, loader: _Loader, file: str) -> Node:
    line = node.start_mark.line + 1
    if isinstance(node, yaml.MappingNode):
        items: dict[str, Node] = {}
        for key_node, value_node in node.value:
            key = loader.construct_object(key_node)
            at = f"{file}:{key_node.start_mark.line + 1}"
            if not isinstance(key, str):
                raise RecipeError(f"{at}: the key {key!r} is not a word", "put it in quotes if it is a name")
            if key in items:
                raise RecipeError(f"{at}: the key '{key}' stands here twice", "keep one of the two")
            child = _convert(value_node, loader, file)
            items[key] = Node(child.value, file, key_node.start_mark.line + 1)
        return Node(items, file, line)
    if isinstance(node, yaml.SequenceNode):
        return Node([_convert(child, loader, file) for child in node.value], file, line)
    return Node(loader.construct_object(node), file, line)


def read(path: Path, seen: tuple[Path, ...] = ()) -> Node:
    """Read a recipe file and the files that its `_base_` names (relative to it), later ones winning."""
    path = path.resolve()
    if path in seen:
        chain = " -> ".join(p.name for p in (*seen, path))
        raise RecipeError(f"{path}: `{BASE_KEY}` goes round in a circle: {chain}")
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        hint = "check the path; `recipes/` holds the ones that come with msedge"
        raise RecipeError(f"there is no recipe {path}", hint) from None
    except (OSError, UnicodeDecodeError) as e:
        raise RecipeError(f"the recipe {path} cannot be read: {e}") from None
    name = _short(path)
    node = parse(text, name)
    if not isinstance(node.value, dict):
        raise RecipeError(f"{name}:{node.line}: a recipe is a mapping of keys to values")
    own = dict(node.value)
    base = own.pop(BASE_KEY, None)
    merged = Node({}, name, node.line)
    for parent in _base_names(base):
        merged = merge(merged, read(path.parent / parent, (*seen, path)))
    return merge(merged, Node(own, name, node.line))


def _short(path: Path) -> str:
    try:
        return str(path.relative_to(Path.cwd()))
    except ValueError:
        return str(path)


def _base_names(base: Node | None) -> list[str]:
    if base is None:
        return []
    names = base.plain() if isinstance(base.value, list) else [base.value]
    if not all(isinstance(name, str) for name in names):
        raise RecipeError(f"{base.where}: `{BASE_KEY}` must be a file name or a list of them")
    return names


def merge(below: Node, above: Node) -> Node:
    """Lay `above` over `below`: mappings are merged key by key, everything else is replaced."""
    if not (isinstance(below.value, dict) and isinstance(above.value, dict)):
        return above
    items = dict(below.value)
    for key, node in above.value.items():
        items[key] = merge(items[key], node) if key in items else node
    return Node(items, above.file, above.line)


def override(root: Node, assignment: str) -> Node:
    """Apply one `a.b=c` of the command line; the value is read as YAML."""
    where = f"--set {assignment}"
    key, equals, text = assignment.partition("=")
    parts = key.strip().split(".")
    if not equals or not all(parts):
        raise RecipeError(f"{where}: this is not of the form key.key=value", "for example --set train.epochs=5")
    tree = _without_lines(parse(text, where)) if text.strip() else Node(None, where, 0)
    for part in reversed(parts):
        tree = Node({part: tree}, where, 0)
    return merge(root, tree)


def _without_lines(node: Node) -> Node:
    if isinstance(node.value, dict):
        return Node({k: _without_lines(v) for k, v in node.value.items()}, node.file, 0)
    if isinstance(node.value, list):
        return Node([_without_lines(v) for v in node.value], node.file, 0)
    return Node(node.value, node.file, 0)
