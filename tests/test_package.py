"""The package as others see it: public names, light imports, one-way dependencies, packages that get installed."""

from __future__ import annotations

import ast
import re
import resource
import subprocess
import sys
from pathlib import Path

import pytest

import msedge

ROOT = Path(__file__).resolve().parents[1]
ORDER = (
    ["errors", "lazy", "progress"],
    ["artifact", "network", "packaged", "mindspore_setup"],
    ["download", "staging"],
    ["recipe"],
    ["data"],
    ["models"],
    ["training"],
    ["exporter"],
    ["lite"],
    ["runtime"],
    ["verification"],
    ["quantization"],
    ["converter"],
    ["benchmark"],
    ["pipeline"],
    ["cli"],
)
LEVEL = {name: level for level, names in enumerate(ORDER) for name in names}


def test_public_names():
    assert msedge.__all__ == [
        "LiteModel",
        "MsedgeError",
        "bench",
        "convert",
        "create_model",
        "export",
        "load_recipe",
        "load_weights",
        "quantize",
        "run",
        "train",
        "verify",
    ]
    for name in msedge.__all__:
        assert callable(getattr(msedge, name)), name
    with pytest.raises(AttributeError):
        msedge.nothing  # noqa: B018


def test_import_and_help_load_nothing_heavy():
    code = (
        "import sys, msedge\n"
        "from msedge.cli import _run\n"
        "assert _run(['--help']) == 0\n"
        "heavy = {'mindspore', 'onnx', 'onnxruntime', 'cv2', 'numpy', 'mindcv'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)


def test_help_is_quick():
    """Processor time, which a busy machine does not stretch as it does the clock's."""

    def once():
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run([sys.executable, "-m", "msedge", "--help"], check=True, capture_output=True)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime

    assert min(once() for _ in range(5)) < 0.3


def imports(path: Path):
    """Every msedge module that a file names in an import, wherever it stands."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("msedge."):
            yield node.module
        elif isinstance(node, ast.Import):
            yield from (a.name for a in node.names if a.name.startswith("msedge."))


def test_dependencies_point_one_way():
    wrong = []
    for path in sorted((ROOT / "msedge").rglob("*.py")):
        own = path.relative_to(ROOT / "msedge").parts[0].removesuffix(".py")
        if own.startswith("__"):
            continue
        for module in imports(path):
            other = module.split(".")[1]
            if other != own and LEVEL[other] >= LEVEL[own]:
                wrong.append(f"{path.relative_to(ROOT)} imports {module}")
    assert not wrong


def test_every_package_is_installed():
    listed = set(re.findall(r'^    "(msedge[^"]*)",$', (ROOT / "pyproject.toml").read_text(), re.MULTILINE))
    found = {".".join(p.parent.relative_to(ROOT).parts) for p in (ROOT / "msedge").rglob("__init__.py")}
    assert listed == found | {"msedge.assets.converters", "msedge.assets.recipes"}
