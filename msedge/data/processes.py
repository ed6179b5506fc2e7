"""A function called in helper processes: parallel without the interpreter's lock, and a crash in it is an answer.

`multiprocessing` is not used: its spawn runs the caller's script again, its fork copies MindSpore's threads.
"""

from __future__ import annotations

import contextlib
import importlib
import os
import pickle
import queue
import signal
import struct
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator
from typing import Any, BinaryIO

from msedge.data.prefetch import prefetch
from msedge.errors import ToolFailed

_LENGTH = struct.Struct("<Q")


class WorkerDied(ToolFailed):
    """The helper process ended in the middle of a call."""


def call_in_processes(
    function: Callable[[Any], Any], items: Iterable[Any], workers: int | None = None
) -> Iterator[tuple[Any, Any]]:
    """Yield (item, function(item) or WorkerDied) in the order of `items`.

    `function` is found again by module and name; items and results are pickled. An exception of the function is raised
    here. `workers` is by default the number of CPUs; no process is left behind however the iteration ends.
    """
    workers = workers or os.cpu_count() or 1
    idle: queue.SimpleQueue[_Worker] = queue.SimpleQueue()
    team = [_Worker(f"{function.__module__}:{function.__qualname__}") for _ in range(workers)]
    for worker in team:
        idle.put(worker)

    def call(item: Any) -> tuple[Any, Any]:
        worker = idle.get()
        try:
            return item, worker.call(item)
        except WorkerDied as death:
            return item, death
        finally:
            idle.put(worker)

    try:
        yield from prefetch(call, items, workers)
    finally:
        for worker in team:
            worker.close()


class _Worker:
    def __init__(self, function: str):
        self.function = function
        self.process: subprocess.Popen | None = None

    def call(self, item: Any) -> Any:
        if self.process is None:
            code = f"import sys; sys.path[:] = {sys.path!r}; from msedge.data.processes import serve; serve()"
            self.process = subprocess.Popen(
                [sys.executable, "-c", code, self.function], stdin=subprocess.PIPE, stdout=subprocess.PIPE
            )
        assert self.process.stdin and self.process.stdout
        try:
            _send(self.process.stdin, item)
            done, result = _receive(self.process.stdout)
        except (EOFError, BrokenPipeError):
            self.close()
            raise WorkerDied(f"the helper process for {self.function} died") from None
        if done:
            return result
        raise result

    def close(self) -> None:
        if self.process is None:
            return
        for pipe in (self.process.stdin, self.process.stdout):
            assert pipe
            with contextlib.suppress(BrokenPipeError):
                pipe.close()
        try:
            self.process.wait(5)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.process = None


def serve() -> None:
    """The helper's side: answer calls from stdin on stdout until stdin ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the parent closes the pipe
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # whatever prints must not get between the answers
    module, name = sys.argv[1].split(":")
    function = getattr(importlib.import_module(module), name)
    while True:
        try:
            item = _receive(sys.stdin.buffer)
        except EOFError:
            return
        try:
            answer = (True, function(item))
        except Exception as e:
            answer = (False, e)
        try:
            _send(answers, answer)
        except BrokenPipeError:
            os._exit(0)


def _send(pipe: BinaryIO, value: Any) -> None:
    data = pickle.dumps(value)
    pipe.write(_LENGTH.pack(len(data)) + data)
    pipe.flush()


def _receive(pipe: BinaryIO) -> Any:
    head = pipe.read(_LENGTH.size)
    if len(head) < _LENGTH.size:
        raise EOFError
    (length,) = _LENGTH.unpack(head)
    data = pipe.read(length)
    if len(data) < length:
        raise EOFError
    return pickle.loads(data)
