"""Worker processes seen from msedge: started, spoken to under a time limit, never able to take msedge down."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import re
import select
import signal
import subprocess
import tempfile
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from msedge.errors import ToolError, ToolFailed, ToolMissing, ToolTimeout
from msedge.lite.logs import useful_lines

START_TIMEOUT = 60.0
LOG_LIMIT = 32 << 20
_POLL_SECONDS = 0.5
_WORKER = Path(__file__).with_name("worker.py")


class Refused(ToolFailed):
    """The worker lives and answered that the request failed."""


def memory_file(name: str) -> int:
    """A file descriptor of an unnamed file in memory (or in the temporary folder where the kernel has none)."""
    try:
        return os.memfd_create(name, os.MFD_CLOEXEC)
    except (AttributeError, OSError):
        with tempfile.TemporaryFile() as f:
            return os.dup(f.fileno())


def describe_exit(code: int) -> str:
    """A process's return code in words: "was killed by SIGSEGV" or "ended with code 3"."""
    if code >= 0:
        return f"ended with code {code}"
    try:
        return f"was killed by {signal.Signals(-code).name}"
    except ValueError:
        return f"was killed by signal {-code}"


class Process:
    """A program in its own process group and an empty working folder, with what it prints kept as its log.

    Being in its own group it does not see the terminal's Ctrl-C; whoever waits here does, and ends it. Should msedge be
    killed, the lifeline (a pipe that only msedge's end keeps open) closes, and the kernel ends the group with SIGIO.
    """

    def __init__(self, command: Sequence[str], what: str, environment: Mapping[str, str], inherit: Sequence[int] = ()):
        self.what = what
        self._log = memory_file("msedge-log")
        self._folder = tempfile.TemporaryDirectory(prefix="msedge-lite-")
        watched, self._lifeline = os.pipe()
        try:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=self._log,
                stderr=self._log,
                env=dict(environment),
                cwd=self._folder.name,
                pass_fds=(*inherit, watched),
                start_new_session=True,
            )
            fcntl.fcntl(watched, fcntl.F_SETOWN, -self._process.pid)
            fcntl.fcntl(watched, fcntl.F_SETFL, fcntl.fcntl(watched, fcntl.F_GETFL) | os.O_ASYNC)
        except OSError as e:
            self._release()
            raise ToolMissing(f"{what} cannot be started: {command[0]}: {e.strerror}") from e
        finally:
            os.close(watched)

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def returncode(self) -> int | None:
        return self._process.poll()

    def log(self) -> str:
        size = min(os.fstat(self._log).st_size, LOG_LIMIT)
        return os.pread(self._log, size, 0).decode(errors="replace")

    def check_log_size(self) -> None:
        """Raises ToolFailed when the program prints without end."""
        if os.fstat(self._log).st_size > LOG_LIMIT:
            self.kill()
            raise self.failure(f"printed more than {LOG_LIMIT >> 20} MB and was ended")

    def failure(self, happened: str, error: type[ToolError] = ToolFailed, details: str = "") -> ToolError:
        """An error that says what happened and the useful lines of the log, and carries the whole log and `details`."""
        log = self.log()
        why = useful_lines(log)
        return error(f"{self.what} {happened}" + (f": {why}" if why else ""), log=log + details)

    def wait(self, timeout: float) -> int:
        """Wait for the end; returns the return code. Raises ToolTimeout (the group is killed), ToolFailed (huge log)."""
        deadline = time.monotonic() + timeout
        try:
            while True:
                with contextlib.suppress(subprocess.TimeoutExpired):
                    return self._process.wait(max(0.0, min(_POLL_SECONDS, deadline - time.monotonic())))
                self.check_log_size()
                if time.monotonic() >= deadline:
                    self.kill()
                    raise self.failure(f"gave no answer within {timeout:g} s and was ended", ToolTimeout)
        except BaseException:
            self.kill()
            raise

    def kill(self) -> None:
        """End the whole group now; harmless when it has ended."""
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()

    def close(self) -> None:
        self.kill()
        self._release()

    def _release(self) -> None:
        for descriptor in {self._log, self._lifeline} - {-1}:
            os.close(descriptor)
        self._log = self._lifeline = -1
        self._folder.cleanup()


class Worker:
    """One worker process (`worker.py`): `call` sends a request and waits for its answer.

    `command` is the interpreter and its options; `backend`, `role`, `folder` are the worker's arguments. Raises
    ToolMissing, ToolFailed or ToolTimeout where it does not start.
    """

    def __init__(
        self,
        command: Sequence[str],
        backend: str,
        role: str,
        folder: Path,
        what: str,
        environment: Mapping[str, str],
    ):
        self._lock = threading.Lock()
        self._tensors = memory_file("msedge-tensors")
        self._buffer = b""
        self.start_seconds = 0.0
        self._peak_rss_mb = 0.0
        requests_out, self._requests = os.pipe()
        self._replies, replies_in = os.pipe()
        theirs = (requests_out, replies_in, self._tensors)
        self._ours = [self._requests, self._replies, self._tensors]
        arguments = [*command, str(_WORKER), backend, role, str(folder), *map(str, theirs)]
        started = time.perf_counter()
        try:
            self._process = Process(arguments, what, environment, theirs)
        except BaseException:
            self._close_descriptors()
            raise
        finally:
            os.close(requests_out)
            os.close(replies_in)
        try:
            self.hello = self._answer(START_TIMEOUT)
        except BaseException:
            self.close()
            raise
        self.start_seconds = time.perf_counter() - started

    @property
    def pid(self) -> int:
        return self._process.pid

    def log(self) -> str:
        return self._process.log()

    def call(self, op: str, timeout: float, **fields: Any) -> dict[str, Any]:
        """Send a request and return the answer. Raises ToolFailed, ToolTimeout; the worker is then at its end, except
        where it answered that the request failed."""
        with self._lock:
            if not self._ours:
                raise ToolFailed(f"{self._process.what} has ended", "load the model again")
            try:
                self._send(json.dumps({"op": op, **fields}).encode() + b"\n")
                return self._answer(timeout)
            except Refused:
                raise
            except BaseException:
                self.close()
                raise

    def put(self, arrays: Sequence[np.ndarray]) -> list[tuple[int, int]]:
        """Write arrays for the next request; returns their places."""
        places, offset = [], 0
        for array in arrays:
            view = memoryview(np.ascontiguousarray(array)).cast("B")
            places.append((offset, len(view)))
            while view:
                written = os.pwrite(self._tensors, view, offset)
                offset, view = offset + written, view[written:]
        return places

    def get(self, description: Mapping[str, Any]) -> np.ndarray:
        """Read an array out of an answer. Raises ToolFailed where the description makes no sense."""
        try:
            data = bytearray()
            while len(data) < description["bytes"]:
                block = os.pread(self._tensors, description["bytes"] - len(data), description["offset"] + len(data))
                if not block:
                    break
                data += block
            return np.frombuffer(data, np.dtype(description["dtype"])).reshape(description["shape"])
        except (KeyError, TypeError, ValueError) as e:
            raise self._process.failure(f"described a tensor wrongly ({e})") from None

    def close(self) -> None:
        """End the worker (it has nothing to save); harmless when repeated."""
        if not self._ours:
            return
        self._peak_rss_mb = self._read_peak_rss()
        self._process.close()
        self._close_descriptors()

    @property
    def peak_rss_mb(self) -> float:
        """Peak resident memory in MB (of the last look where the worker has ended)."""
        if self._ours:
            self._peak_rss_mb = self._read_peak_rss()
        return self._peak_rss_mb

    def _read_peak_rss(self) -> float:
        try:
            status = Path(f"/proc/{self.pid}/status").read_text()
        except OSError:
            return self._peak_rss_mb
        found = re.search(r"^VmHWM:\s*(\d+) kB", status, re.MULTILINE)
        return int(found[1]) / 1024 if found else self._peak_rss_mb

    def _close_descriptors(self) -> None:
        for descriptor in self._ours:
            os.close(descriptor)
        self._ours = []

    def _send(self, data: bytes) -> None:
        try:
            while data:
                data = data[os.write(self._requests, data) :]
        except BrokenPipeError:
            raise self._death() from None

    def _death(self) -> ToolError:
        deadline = time.monotonic() + 2
        while (code := self._process.returncode) is None and time.monotonic() < deadline:
            time.sleep(0.005)
        return self._process.failure(describe_exit(code) if code is not None else "closed its connection")

    def _answer(self, timeout: float) -> dict[str, Any]:
        deadline = time.monotonic() + timeout
        poll = select.poll()
        poll.register(self._replies, select.POLLIN)
        while b"\n" not in self._buffer:
            left = deadline - time.monotonic()
            if left <= 0:
                self._process.kill()
                raise self._process.failure(f"gave no answer within {timeout:g} s and was ended", ToolTimeout)
            if not poll.poll(1000 * min(left, _POLL_SECONDS)):
                self._process.check_log_size()
                continue
            block = os.read(self._replies, 1 << 16)
            if not block:
                raise self._death()
            self._buffer += block
        line, _, self._buffer = self._buffer.partition(b"\n")
        return self._checked(line)

    def _checked(self, line: bytes) -> dict[str, Any]:
        try:
            answer = json.loads(line)
            ok = answer.pop("ok")
        except (ValueError, AttributeError, KeyError, TypeError):
            raise self._process.failure(f"spoke garbage: {line[:80]!r}") from None
        if not ok:
            error = str(answer.get("error")).strip()
            raise self._process.failure(f"failed: {error.partition(chr(10))[0]}", Refused, error + "\n")
        return answer
