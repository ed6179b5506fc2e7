"""Worker processes (`worker.py`) seen from msedge: started, spoken to under a time limit, outlived."""

from __future__ import annotations

import json
import os
import re
import select
import time
import weakref
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from msedge.errors import ToolError, ToolFailed, ToolTimeout
from msedge.lite.process import POLL_SECONDS, Process, describe_exit, memory_file

START_TIMEOUT = 60.0
_WORKER = Path(__file__).with_name("worker.py")


class Refused(ToolFailed):
    """The worker lives and answered that the request failed."""


def _end(process: Process, descriptors: tuple[int, ...]) -> None:
    process.close()
    for descriptor in descriptors:
        os.close(descriptor)


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
        self._tensors = memory_file("msedge-tensors")
        self._buffer = b""
        self.start_seconds = 0.0
        self._peak_rss_mb = 0.0
        requests_out, self._requests = os.pipe()
        self._replies, replies_in = os.pipe()
        theirs = (requests_out, replies_in, self._tensors)
        ours = (self._requests, self._replies, self._tensors)
        arguments = [*command, str(_WORKER), backend, role, str(folder), *map(str, theirs)]
        started = time.perf_counter()
        try:
            self._process = Process(arguments, what, environment, theirs)
            self._end = weakref.finalize(self, _end, self._process, ours)  # also for workers that nobody closes
        except BaseException:
            for descriptor in ours:
                os.close(descriptor)
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
        self._check_open()
        try:
            self._send(json.dumps({"op": op, **fields}).encode() + b"\n")
            return self._answer(timeout)
        except Refused:
            raise
        except BaseException:
            self.close()
            raise

    def _check_open(self) -> None:
        if not self._end.alive:
            raise ToolFailed(f"{self._process.what} has ended", "load the model again")

    def put(self, arrays: Sequence[np.ndarray]) -> list[tuple[int, int]]:
        """Write arrays for the next request; returns their places."""
        self._check_open()
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

    def forget(self) -> None:
        """Give back the memory of the tensors that travelled."""
        os.ftruncate(self._tensors, 0)

    def close(self) -> None:
        """End the worker (it has nothing to save); harmless when repeated."""
        if self._end.alive:
            self._peak_rss_mb = self._read_peak_rss()
            self._end()

    @property
    def peak_rss_mb(self) -> float:
        """Peak resident memory in MB (of the last look where the worker has ended)."""
        if self._end.alive:
            self._peak_rss_mb = self._read_peak_rss()
        return self._peak_rss_mb

    def _read_peak_rss(self) -> float:
        try:
            status = Path(f"/proc/{self.pid}/status").read_text()
        except OSError:
            return self._peak_rss_mb
        found = re.search(r"^VmHWM:\s*(\d+) kB", status, re.MULTILINE)
        return int(found[1]) / 1024 if found else self._peak_rss_mb

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
            if not poll.poll(1000 * min(left, POLL_SECONDS)):
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
