"""Files that come with msedge: recipes and back-end profiles, in a checkout and after a plain install alike."""

from __future__ import annotations

from pathlib import Path

_HERE = Path(__file__).parent


def asset_folder(kind: str) -> Path:
    """The folder of `recipes` or `converters`: top of the checkout, or inside the installed package."""
    checkout = _HERE.parent / kind
    return checkout if (_HERE.parent / "pyproject.toml").is_file() else _HERE / "assets" / kind
