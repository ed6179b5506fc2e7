"""Fixtures for every suite. The real photos and reference outputs lie outside the project and may be absent."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]

# A shell ignores SIGINT for what it runs in the background, and children inherit that: tests of Ctrl-C need it back.
signal.signal(signal.SIGINT, signal.default_int_handler)

pytest_plugins = ("small_fixtures", "tiny_runs", "web_site")


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder with real photos and oracles: MSEDGE_SHARED, or `shared` beside the checkout."""
    folder = Path(os.environ.get("MSEDGE_SHARED") or ROOT.parent / "shared")
    if not folder.is_dir():
        pytest.skip("no shared folder beside the checkout")
    return folder


@pytest.fixture(scope="session")
def pets(shared: Path) -> Path:
    folder = shared / "data" / "pets"
    if not folder.is_dir():
        pytest.skip("no real photos beside the checkout")
    return folder


@pytest.fixture(scope="session")
def oracles(shared: Path) -> Path:
    folder = shared / "oracles"
    if not folder.is_dir():
        pytest.skip("no oracles beside the checkout")
    return folder


# A test may skip for these reasons and no others: what cannot be had on every machine.
ALLOWED_SKIPS = (
    "no shared folder beside the checkout",
    "no real photos beside the checkout",
    "no oracles beside the checkout",
    "no C compiler",  # the compiled training operators are an extra
    "only root may mount",  # full and read-only disks are real ones
    "MSEDGE_TEST_AARCH64 names no folder",  # qemu-user and an arm64 Python: tests/lite/prepare_aarch64.sh
    "MSEDGE_TEST_LITE_PYTHON names no interpreter",  # CPython 3.7 with mindspore_lite
    "MSEDGE_LITE_WHEEL names no wheel",  # a download of the wheel
    "the served wheel is named for x86-64",
)


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item, call):
    """Turn a skip for any other reason into a failure, so that nothing goes untested unseen."""
    outcome = yield
    report = outcome.get_result()
    if report.skipped and not hasattr(report, "wasxfail"):
        reason = report.longrepr[2].removeprefix("Skipped: ")
        if not any(reason.startswith(allowed) for allowed in ALLOWED_SKIPS):
            report.outcome = "failed"
            report.longrepr = f"{item.nodeid} skips for a reason that tests/conftest.py does not list: {reason}"
