"""One contender is one model, loaded in a process of its own, that can be asked to run."""

from __future__ import annotations

import json
import os
import select
import sys
import time
from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from msedge import errors
from msedge.benchmark.environment import worker_environment
from msedge.errors import ToolFailed, ToolTimeout
from msedge.lite.process import Process, describe_exit
from msedge.progress import Say, silent
from msedge.runtime import Located

if TYPE_CHECKING:
    from msedge.lite.protocol import Toolchain

_TIMEOUT = 600.0


class Contender(ABC):
    """`model` is the path as given, `located` what it means. A context manager."""

    def __init__(self, model: str, located: Located, runtime: str, threads: int):
        self.model, self.located, self.runtime, self.threads = model, located, runtime, threads

    @abstractmethod
    def run(self, times: int) -> list[float]:
        """Milliseconds of each of `times` runs of one batch."""

    @abstractmethod
    def deviation(self, golden: Path) -> dict[str, float]:
        """max_abs and scale: the largest difference from a `golden.npz`, and its largest logit."""

    @property
    @abstractmethod
    def pid(self) -> int:
        """The process that runs the model."""

    @abstractmethod
    def facts(self) -> dict[str, Any]:
        """size_bytes and peak_rss_mb."""

    @abstractmethod
    def close(self) -> None:
        """End the process; harmless when repeated."""

    def __enter__(self) -> Contender:
        return self

    def __exit__(self, *_) -> None:
        self.close()


class LiteContender(Contender):
    """A `.ms`: the Lite runtime has its own worker already."""

    def __init__(self, model: str, located: Located, threads: int, toolchain: Toolchain, image: str | None):
        super().__init__(model, located, "lite", threads)
        from msedge.benchmark.worker import sample_input
        from msedge.runtime.lite_runner import LiteRunner
        from msedge.runtime.spec import spec_of

        self._runner = LiteRunner(located.file, spec_of(located), threads, toolchain)
        try:
            self._x = sample_input(self._runner, image)
        except BaseException:
            self.close()
            raise

    def run(self, times: int) -> list[float]:
        return [self._runner.timed(self._x)[1] for _ in range(times)]

    def deviation(self, golden: Path) -> dict[str, float]:
        from msedge.benchmark.worker import deviation

        return deviation(self._runner, str(golden))

    @property
    def pid(self) -> int:
        return self._runner.session.pid

    def facts(self) -> dict[str, Any]:
        return {"size_bytes": self._runner.size_bytes, "peak_rss_mb": self._runner.peak_rss_mb}

    def close(self) -> None:
        self._runner.close()


class ProcessContender(Contender):
    """A model in onnxruntime, OpenVINO or MindSpore, in a new interpreter. `program` is what that runs.

    Raises what `open_runner` raises there, ToolFailed where the process dies, ToolTimeout where it hangs.
    """

    def __init__(
        self,
        model: str,
        located: Located,
        runtime: str,
        threads: int,
        image: str | None = None,
        program: Sequence[str] = ("-m", "msedge.benchmark.worker"),
    ):
        super().__init__(model, located, runtime, threads)
        incoming, self._requests = os.pipe()
        self._answers, outgoing = os.pipe()
        self._buffer = b""
        self._open = [self._requests, self._answers]
        command = [sys.executable, *program, str(incoming), str(outgoing)]
        try:
            self._process = Process(command, f"{runtime} with {model}", worker_environment(threads), (incoming, outgoing))
        except BaseException:
            self._close_pipes()
            raise
        finally:
            os.close(incoming)
            os.close(outgoing)
        try:
            path = str(located.file.resolve())
            image = image and str(Path(image).resolve())
            self._call(op="open", path=path, threads=threads, runtime=runtime, image=image)
        except BaseException:
            self.close()
            raise

    def run(self, times: int) -> list[float]:
        return self._call(op="run", times=times)["ms"]

    def deviation(self, golden: Path) -> dict[str, float]:
        return self._call(op="deviation", golden=str(golden.resolve()))

    @property
    def pid(self) -> int:
        return self._process.pid

    def facts(self) -> dict[str, Any]:
        return self._call(op="facts")

    def close(self) -> None:
        if self._open:
            self._process.close()
            self._close_pipes()

    def _close_pipes(self) -> None:
        for descriptor in self._open:
            os.close(descriptor)
        self._open = []

    def _call(self, **request: Any) -> dict[str, Any]:
        try:
            os.write(self._requests, json.dumps(request).encode() + b"\n")
        except BrokenPipeError:
            raise self._died() from None
        deadline = time.monotonic() + _TIMEOUT
        while b"\n" not in self._buffer:
            left = deadline - time.monotonic()
            if left <= 0:
                self._process.kill()
                raise self._process.failure(f"gave no answer within {_TIMEOUT:g} s", ToolTimeout)
            if not select.select([self._answers], [], [], min(left, 1.0))[0]:
                self._process.check_log_size()
                continue
            block = os.read(self._answers, 1 << 16)
            if not block:
                raise self._died()
            self._buffer += block
        line, _, self._buffer = self._buffer.partition(b"\n")
        answer = json.loads(line)
        if "error" in answer:
            raise getattr(errors, answer["error"], ToolFailed)(answer["message"], answer["hint"])
        return answer

    def _died(self) -> errors.ToolError:
        code = self._process.wait(5)
        return self._process.failure(describe_exit(code))


def make_contender(
    model: str,
    located: Located,
    runtime: str,
    threads: int,
    *,
    lite: str | Path | Toolchain | None = None,
    image: str | None = None,
    say: Say = silent,
) -> Contender:
    """Load a model for timing; raises what `open_runner` raises."""
    if located.kind != "lite":
        return ProcessContender(model, located, runtime, threads, image)
    from msedge.runtime.lite_runner import toolchain_for

    return LiteContender(model, located, threads, toolchain_for(lite, say), image)
