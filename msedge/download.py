"""Files from the network: resumed where they broke off, checked, and whole before they get their name."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import http.client
import json
import os
import re
import shutil
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO

from msedge.artifact import writing
from msedge.errors import ArtifactError, DownloadError
from msedge.network import check_url, host_of, open_url, reason, wait_asked
from msedge.progress import Progress, Say, no_progress, silent

PAUSES = (1.0, 2.0, 4.0, 8.0)  # seconds before the attempts that follow a failure; from the start again when bytes came
LONGEST_WAIT = 120.0  # seconds that a server may ask to wait
_TRANSIENT = (408, 425, 429, 500, 502, 503, 504)
_BLOCK = 1 << 18


def download(
    url: str,
    target: Path,
    *,
    sha256: str | None = None,
    size: int | None = None,
    headers: Mapping[str, str] | None = None,
    plain_http: bool = False,
    label: str = "",
    say: Say = silent,
    progress: Progress = no_progress,
) -> Path:
    """Fetch `url` to `target` and return `target`; where it exists already there is nothing to do.

    `sha256` is a whole sum in hexadecimal digits, or its first digits; `size` is in bytes. Both are checked; what is not
    the file is removed. What came before a break, or Ctrl-C, stays as `target.part` and the next call goes on from there,
    if the server still has that version of the file. Two processes that want the same target do not both fetch it.
    `plain_http` allows http:// for other hosts than this one. `progress` counts bytes.

    Raises DownloadError (no network, refused, cut off, another sum or size) and ArtifactError (the disk refuses).
    """
    target, label = Path(target), label or Path(target).name
    if target.exists():
        return target
    check_url(url, plain_http)
    with _on_disk(target):
        target.parent.mkdir(parents=True, exist_ok=True)
    with _locked(target.with_name(f"{target.name}.part"), target, label, say) as f:
        if f is None:
            return target
        part = _Part(f, target, url)
        fetch = _Fetch(url, part, sha256, size, dict(headers or {}), plain_http, label, say)
        try:
            with contextlib.ExitStack() as bar:
                fetch.all(lambda total: bar.enter_context(progress(label, total)))
            part.publish()
        except KeyboardInterrupt:
            say(f"{label}: {_mb(part.offset)} are kept, the next call goes on from there")
            raise
        except DownloadError as e:
            e.message = f"{label}: {e.message}"
            raise
        except ArtifactError:
            part.remove()  # above all a full disk
            raise
        finally:
            if not part.offset:
                part.remove()
    return target


def pause_after(error: DownloadError, failures: int, most: int) -> float | None:
    """Seconds until another attempt is sensible after `failures` earlier ones of `most`; None where it is not."""
    if failures >= most or (error.status is not None and error.status not in _TRANSIENT):
        return None
    wait = wait_asked(error.headers)
    if wait is None:
        return PAUSES[failures]
    if wait > LONGEST_WAIT:
        error.hint = f"it asks to wait {wait:.0f} s"
        return None
    return wait


class _Part:
    """The unfinished file: its bytes, their sha256 so far, and what the server called this version (in `.part.json`)."""

    def __init__(self, f: IO[bytes], target: Path, url: str):
        self.file, self.target, self.url = f, target, url
        self.note = target.with_name(f"{target.name}.part.json")
        self.version = ""
        self.digest = hashlib.sha256()
        self.offset = 0
        with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
            note = json.loads(self.note.read_text())
            if note["url"] == url and isinstance(note["version"], str):
                self.version = note["version"]
        f.seek(0)
        while block := f.read(_BLOCK):
            self.digest.update(block)
            self.offset += len(block)
        self.grown = self.offset > 0  # by an earlier connection: the bytes may be of two versions of the file

    def restart(self) -> None:
        with _on_disk(self.target):
            self.file.seek(0)
            self.file.truncate()
        self.offset, self.digest, self.grown = 0, hashlib.sha256(), False

    def begin(self, version: str) -> None:
        """Note the version of the file that is about to be appended."""
        self.version = version
        with _on_disk(self.target):
            self.note.write_text(json.dumps({"url": self.url, "version": version}))

    def append(self, block: bytes) -> None:
        rest = memoryview(block)
        with _on_disk(self.target):
            while rest:
                rest = rest[self.file.write(rest) :]
        self.digest.update(block)
        self.offset += len(block)

    def publish(self) -> None:
        with _on_disk(self.target):
            self.file.flush()
            os.fsync(self.file.fileno())
            Path(self.file.name).replace(self.target)
        self.note.unlink(missing_ok=True)

    def remove(self) -> None:
        Path(self.file.name).unlink(missing_ok=True)
        self.note.unlink(missing_ok=True)


class _Fetch:
    """All attempts to get one file."""

    def __init__(self, url, part: _Part, sha256, size, headers, plain_http, label, say: Say):
        self.url, self.part, self.sha256, self.size = url, part, (sha256 or "").lower(), size
        self.headers, self.plain_http, self.label, self.say = headers, plain_http, label, say
        self.host = host_of(url)
        self.report = None
        self.furthest = part.offset

    def all(self, start_progress) -> None:
        """Until the whole file is there and right."""
        self._body(start_progress)
        while not self._is_right():
            self._body(start_progress)

    def _body(self, start_progress) -> None:
        failures = 0
        while True:
            try:
                if self.part.offset != self.size or not self.sha256:  # else only the end of the last call was missing
                    self._attempt(start_progress)
                return
            except DownloadError as e:
                if self.part.offset >= self.furthest + _BLOCK:
                    failures = 0
                self.furthest = max(self.furthest, self.part.offset)
                untouched = self.report is None and e.status is None  # nothing was ever reached: most likely offline
                pause = pause_after(e, failures, 1 if untouched else len(PAUSES))
                if pause is None:
                    self._tell_what_is_kept(e)
                    raise
                failures += 1
                self.say(f"{self.label}: {e.message}; trying again in {pause:.0f} s")
                time.sleep(pause)

    def _attempt(self, start_progress) -> None:
        part = self.part
        if part.offset and not (part.version or len(self.sha256) == 64):
            part.restart()  # nothing could tell whether the rest belongs to it
        ask = dict(self.headers)
        if part.offset:
            ask["Range"] = f"bytes={part.offset}-"
            if part.version and not part.version.startswith("W/"):
                ask["If-Range"] = part.version
        try:
            response = open_url(self.url, ask, plain_http=self.plain_http)
        except DownloadError as e:
            if e.status == 416 and part.offset:
                part.restart()
                return self._attempt(start_progress)
            raise
        with response:
            version = response.headers.get("ETag") or response.headers.get("Last-Modified") or ""
            if response.status == 206 and part.offset:
                start, total = _content_range(response.headers.get("Content-Range", ""))
                if start != part.offset or (part.version and version and version != part.version):
                    response.close()
                    part.restart()
                    return self._attempt(start_progress)
                version = version or part.version
                part.grown = True
            else:
                part.restart()
                total = 0
            total = total or (part.offset + response.length if response.length else 0)
            self._check_total(total)
            part.begin(version)
            if self.report is None:
                self.report = start_progress(total or self.size or 0)
            self._receive(response, total)
        return None

    def _check_total(self, total: int) -> None:
        if self.size is not None and total and total != self.size:
            self.part.restart()
            raise DownloadError(f"{self.host} has {total:,} bytes, not {self.size:,}", "it is another file", status=200)
        free = shutil.disk_usage(self.part.target.parent).free
        if total - self.part.offset > free:
            raise ArtifactError(
                f"not enough space for {self.label} in {self.part.target.parent}: {_mb(total - self.part.offset)} are "
                f"needed, {_mb(free)} are free",
                "free some space or set MSEDGE_CACHE to a folder on another disk",
            )

    def _receive(self, response: http.client.HTTPResponse, total: int) -> None:
        part = self.part
        self.report(part.offset)
        try:
            while block := response.read1(_BLOCK):
                part.append(block)
                self.report(part.offset)
        except (OSError, http.client.HTTPException) as e:
            raise self._broken(reason(e), total) from None
        if total and part.offset < total:
            raise self._broken("the connection broke", total)

    def _broken(self, why: str, total: int) -> DownloadError:
        of = f" of {_mb(total)}" if total else ""
        return DownloadError(f"{why} after {_mb(self.part.offset)}{of} from {self.host}")

    def _is_right(self) -> bool:
        """Whether the file is what it should be; False for a new attempt from its first byte."""
        part, found = self.part, self.part.digest.hexdigest()
        if found.startswith(self.sha256) and self.size in (None, part.offset):
            return True
        if part.grown:
            self.say(f"{self.label}: the parts do not belong together; fetching it anew")
            part.restart()
            part.begin("")
            return False
        part.remove()
        if self.size not in (None, part.offset):
            raise DownloadError(f"{part.offset:,} bytes came from {self.host}, not {self.size:,}", "they are removed")
        wrong = found[: len(self.sha256)]
        raise DownloadError(
            f"what came from {self.host} has the sha256 {wrong} and should have {self.sha256}",
            "it is removed; a proxy or a mirror may have changed it",
        )

    def _tell_what_is_kept(self, error: DownloadError) -> None:
        if self.part.offset:
            kept = f"{_mb(self.part.offset)} are kept and the next call goes on from there"
            error.hint = f"{kept}; {error.hint}" if error.hint else kept


@contextlib.contextmanager
def _locked(path: Path, target: Path, label: str, say: Say) -> Iterator[IO[bytes] | None]:
    """Open `path` for appending with its lock held, waiting for another process; None if that one finished `target`."""
    waiting = False
    while True:
        with _on_disk(target):
            f = path.open("a+b", buffering=0)
        with f:
            try:
                fcntl.flock(f, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if not waiting:
                    say(f"{label}: another process fetches it, waiting")
                waiting = True
                time.sleep(0.2)
                continue
            if target.exists():
                if _is_file_at(f, path):
                    path.unlink()
                yield None
                return
            if _is_file_at(f, path):  # else it was removed, or published and removed, while we waited
                yield f
                return


def _is_file_at(f: IO[bytes], path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(f.fileno()), path.stat())
    except FileNotFoundError:
        return False


@contextlib.contextmanager
def _on_disk(target: Path) -> Iterator[None]:
    try:
        with writing(target):
            yield
    except ArtifactError as e:
        e.hint = "free some space, or set MSEDGE_CACHE to a folder where msedge may write"
        raise


def _content_range(text: str) -> tuple[int, int]:
    """First byte and whole size that `bytes 5-9/10` tells; -1 and 0 where it tells nothing."""
    found = re.fullmatch(r"bytes (\d+)-\d+/(\d+|\*)", text.strip())
    if not found:
        return -1, 0
    return int(found[1]), 0 if found[2] == "*" else int(found[2])


def _mb(n: int) -> str:
    return f"{n / 1e6:.1f} MB"
