"""A real web server on this machine: files with ranges and versions, and whatever can go wrong with them."""

from __future__ import annotations

import contextlib
import http.server
import os
import re
import sys
import threading
import time
from dataclasses import dataclass, field
from email.message import Message

import pytest


@dataclass
class Step:
    """What happens at one request of a file instead of a plain answer."""

    status: int = 0  # answer this, without the file
    headers: dict = field(default_factory=dict)
    cut: int | None = None  # send so many bytes of the body, then break the connection
    hold: threading.Event | None = None  # send half of the body, then wait for this
    slow: bool = False  # send the body in small pieces, in three seconds


@dataclass
class Served:
    content: bytes
    version: str | None = '"v1"'  # the ETag; with None there is none, and If-Range is ignored
    ranges: bool = True
    honest: bool = True  # False: a Content-Range that is not what was asked for
    length: bool = True  # False: no Content-Length; the end of the connection is the end of the file
    headers: dict = field(default_factory=dict)
    steps: list[Step] = field(default_factory=list)  # for the requests to come; after them plain answers


@dataclass
class Seen:
    method: str
    path: str
    headers: Message

    @property
    def range(self) -> str | None:
        return self.headers["Range"]


class Site:
    """`files` by path; `seen` are the requests so far; `url` ends without a slash."""

    def __init__(self):
        self.files: dict[str, Served] = {}
        self.seen: list[Seen] = []
        site = self

        class Handler(_Handler):
            def __init__(self, *arguments):
                self.site = site
                super().__init__(*arguments)

        self.server = _Server(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}"

    def serve(self, path: str, content: bytes = b"", **how) -> str:
        self.files[path] = Served(content, **how)
        return self.url + path

    @property
    def ranges(self) -> list[str | None]:
        return [s.range for s in self.seen if s.method == "GET"]


class _Server(http.server.ThreadingHTTPServer):
    def handle_error(self, request, client_address):
        if not isinstance(sys.exc_info()[1], ConnectionError):  # clients that hang up are part of the tests
            super().handle_error(request, client_address)


class _Handler(http.server.BaseHTTPRequestHandler):
    site: Site

    def do_HEAD(self):
        self.do_GET()

    def do_GET(self):
        path = re.sub(r"^http://[^/]+", "", self.path)  # a proxy is asked for whole addresses
        self.site.seen.append(Seen(self.command, self.path, self.headers))
        served = self.site.files.get(path)
        if served is None:
            self.answer(404, {"Content-Length": "0"})
            return
        step = served.steps.pop(0) if served.steps else Step()
        if step.status:
            self.answer(step.status, {"Content-Length": "0", **step.headers})
            return
        status, headers, body = 200, dict(served.headers), served.content
        if served.version:
            headers["ETag"] = served.version
        asked = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
        same = served.version is None or self.headers.get("If-Range", served.version) == served.version
        if asked and served.ranges and same:
            start, size = int(asked[1]), len(body)
            if start >= size:
                self.answer(416, {"Content-Range": f"bytes */{size}", "Content-Length": "0"})
                return
            status, body = 206, body[start:]
            headers["Content-Range"] = f"bytes {start if served.honest else 0}-{size - 1}/{size}"
        if served.length:
            headers["Content-Length"] = str(len(body))
        self.answer(status, headers)
        if self.command == "HEAD":
            return
        if step.hold:
            self.wfile.write(body[: len(body) // 2])
            self.wfile.flush()
            step.hold.wait(30)
            return
        if step.slow:
            piece = len(body) // 60
            for start in range(0, len(body), piece):
                self.wfile.write(body[start : start + piece])
                time.sleep(0.05)
            return
        self.wfile.write(body if step.cut is None else body[: step.cut])

    def answer(self, status: int, headers: dict) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()

    def log_message(self, *arguments):
        pass


@contextlib.contextmanager
def running_site():
    site = Site()
    thread = threading.Thread(target=site.server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield site
    finally:
        site.server.shutdown()
        site.server.server_close()
        thread.join()


@pytest.fixture
def site(monkeypatch):
    """A fresh site; no proxy of this machine stands between."""
    for name in [n for n in os.environ if n.lower().endswith("_proxy")]:
        monkeypatch.delenv(name)
    with running_site() as site:
        yield site


@pytest.fixture
def no_pauses(monkeypatch):
    """Attempts that follow each other at once."""
    monkeypatch.setattr("msedge.download.PAUSES", (0.0, 0.0, 0.0, 0.0))
