from __future__ import annotations

import pytest

from msedge.mindspore_setup import load_mindspore


@pytest.fixture(scope="session", autouse=True)
def ms():
    """MindSpore in graph mode, as training and the runners use it."""
    mindspore = load_mindspore()
    mindspore.set_context(mode=mindspore.GRAPH_MODE)
    return mindspore


@pytest.fixture
def pynative(ms):
    """Operator by operator: for single passes this is faster than to compile a graph."""
    ms.set_context(mode=ms.PYNATIVE_MODE)
    yield ms
    ms.set_context(mode=ms.GRAPH_MODE)
