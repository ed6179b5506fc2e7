"""A program run by msedge: its log kept, its time limited, its whole group ended with msedge, never the other way round."""

from __future__ import annotations

import contextlib
import fcntl
import os
import signal
import subprocess
import tempfile
import time
from collections.abc import Mapping, Sequence

from msedge.errors import ToolError, ToolFailed, ToolMissing, ToolTimeout
from msedge.lite.logs import useful_lines

LOG_LIMIT = 32 << 20
POLL_SECONDS = 0.1


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
                    return self._process.wait(max(0.0, min(POLL_SECONDS, deadline - time.monotonic())))
                self.check_log_size()
                if time.monotonic() >= deadline:
                    self.kill()
                    raise self.failure(f"gave no answer within {timeout:g} s and was ended", ToolTimeout)
        except BaseException:
            self.kill()
            raise

    def kill(self) -> None:
        """End the whole group now; harmless when it has ended."""
        if self._log < 0:
            return  # closed: the number may be another process's by now
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
