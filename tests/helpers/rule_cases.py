"""Cases for the tests of the exporter's rules: functions of one tensor, each registered under its name."""

from __future__ import annotations

from collections.abc import Callable

import pytest

IMAGE = (2, 6, 8, 8)
TOKENS = (2, 12, 6)


class Cases:
    """`@cases()` or `@cases(shape, low=, high=)` registers a function; `params` is for `parametrize`."""

    def __init__(self):
        self.params = []

    def __call__(self, shape: tuple[int, ...] = IMAGE, **range_: float) -> Callable:
        def register(function):
            self.params.append(pytest.param(function, shape, range_, id=function.__name__))
            return function

        return register
