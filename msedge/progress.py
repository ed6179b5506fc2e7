"""How long work tells how far it is: any function like the command line's `progress`."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from contextlib import AbstractContextManager

Report = Callable[[int], None]
Progress = Callable[[str, int], AbstractContextManager[Report]]
Say = Callable[[str], None]


def no_progress(label: str, total: int) -> AbstractContextManager[Report]:
    """For callers that do not want to know."""
    return contextlib.nullcontext(lambda done: None)


def silent(text: str) -> None:
    """For callers that want no notices."""
