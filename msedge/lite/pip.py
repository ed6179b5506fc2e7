"""A wheel for another Python: found in the package index of pip's settings, or downloaded by pip itself."""

from __future__ import annotations

import contextlib
import http.client
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import urldefrag, urljoin, urlsplit

from msedge.errors import DownloadError
from msedge.lite.process import Process
from msedge.network import open_url

_LONGEST_PAGE = 16 << 20  # bytes
_NETWORK = re.compile(r"Connection|resolve|timed out|ProxyError|SSLError")


class PipFailed(Exception):
    """`reason` in one line."""

    def __init__(self, log: str, code: int | None, stall: float):
        self.reason = _reason(log, code, stall)
        self.no_space = "No space left on device" in log
        super().__init__(self.reason)


def find(project: str, file: str, sha256: str) -> str:
    """The address of a project's file in the package index that pip is set to; empty where it is not to be had like that.

    pip itself cannot be asked: even `pip install --dry-run --report` downloads the wheel first, unless index and pip are new.
    """
    index = _index_url()
    if not re.match("https?://", index) or os.environ.get("PIP_NO_INDEX"):
        return ""
    with contextlib.suppress(DownloadError, OSError, http.client.HTTPException):
        page = f"{index.rstrip('/')}/{project}/"
        with open_url(page, {"Accept": "text/html"}, plain_http=True) as response:
            links, base = _Links(), response.url
            links.feed(response.read(_LONGEST_PAGE).decode(errors="replace"))
        for link in links.found:
            address, fragment = urldefrag(urljoin(base, link))
            told = fragment.removeprefix("sha256=") if fragment.startswith("sha256=") else sha256
            if urlsplit(address).path.rpartition("/")[2] == file and told == sha256:
                return address
    return ""


class _Links(HTMLParser):
    """The links of a page of a package index (PEP 503)."""

    def __init__(self):
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag, attrs):
        if tag == "a":
            self.found += [value for name, value in attrs if name == "href" and value]


def _index_url() -> str:
    """The package index of pip's settings, which its help text names; passwords in it are hidden there (and useless)."""
    command = [sys.executable, "-m", "pip", "download", "--help"]
    environment = {**os.environ, "COLUMNS": "10000", "PYTHONWARNINGS": "ignore"}
    run = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    found = re.search(r"--index-url .*\(default (\S+)\)", run.stdout)
    return found[1] if found else ""


def fetch(requirement: str, options: Sequence[str], folder: Path, stall: float, watch: Callable[[int], None]) -> Path:
    """Let pip download a wheel into `folder`; `options` are its words for another Python, `watch` is told how many bytes
    lie there. Raises PipFailed, also when nothing comes for `stall` seconds."""
    command = [sys.executable, "-m", "pip", "download", requirement, "--no-deps", "--only-binary=:all:", *options]
    command += ["--dest", str(folder), "--no-input", "--disable-pip-version-check", *_resume_options()]
    # pip writes into TMPDIR while it downloads: there its progress can be seen, and it is on the cache's disk
    environment = {"PIP_RETRIES": "2", **os.environ, "TMPDIR": str(folder), "PYTHONWARNINGS": "ignore"}
    process = Process(command, "pip", environment)
    done, grown = 0, time.monotonic()
    try:
        while process.returncode is None and time.monotonic() - grown < stall:
            if (size := _bytes_below(folder)) != done:
                done, grown = size, time.monotonic()
            watch(done)
            time.sleep(0.1)
        code, log = process.returncode, process.log()
    finally:
        process.close()
    found = sorted(folder.glob("*.whl"))
    if code == 0 and found:
        return found[0]
    raise PipFailed(log, code, stall)


def _reason(log: str, code: int | None, stall: float) -> str:
    if code is None:
        return f"nothing came for {stall:g} s"
    if "No module named pip" in log:
        return "this Python has no pip (python -m ensurepip installs it)"
    lines = [line.strip() for line in log.splitlines() if line.strip()]
    errors = [line.removeprefix("ERROR: ") for line in lines if line.startswith("ERROR")]
    network = [line for line in lines if _NETWORK.search(line)]
    chosen = (network[:1] + errors[:1]) or lines[-1:] or [f"pip ended with code {code}"]
    return " | ".join(text[:300] for text in chosen)


def _resume_options() -> list[str]:
    """pip resumes broken connections from 25.1 on."""
    run = subprocess.run([sys.executable, "-m", "pip", "--version"], capture_output=True, text=True, check=False)
    version = re.match(r"pip (\d+)\.(\d+)", run.stdout)
    new = version and (int(version[1]), int(version[2])) >= (25, 1)
    return ["--resume-retries", "5"] if new else []


def _bytes_below(folder: Path) -> int:
    total = 0
    for path in folder.rglob("*"):
        with contextlib.suppress(OSError):
            total += path.stat().st_size if path.is_file() else 0
    return total
