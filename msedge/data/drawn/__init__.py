"""`builtin:catdog`: cats and dogs drawn by code, the data set that needs no download."""

from __future__ import annotations

from pathlib import Path

from msedge.recipe.schema import DrawnConfig

BUILTIN = "builtin:catdog"

__all__ = ["BUILTIN", "ensure_drawn", "make_drawn"]


def ensure_drawn(config: DrawnConfig) -> Path:
    """The drawn set of this configuration in the user cache; draws it on first use."""
    from msedge.data.drawn.dataset import ensure_drawn

    return ensure_drawn(config)


def make_drawn(out: Path, config: DrawnConfig, progress=None) -> None:
    """Draw the set into `out`; see `msedge.data.drawn.dataset.make_drawn`."""
    from msedge.data.drawn.dataset import make_drawn

    make_drawn(out, config, progress)
