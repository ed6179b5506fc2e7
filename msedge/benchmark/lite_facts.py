"""What is known of a `.ms` without running it."""

from __future__ import annotations

from pathlib import Path
from typing import Any


def lite_facts(file: Path) -> dict[str, Any]:
    return {"params": None, "macs": None}
