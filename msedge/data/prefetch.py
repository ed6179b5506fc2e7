"""Build things ahead of their use in threads, in order, and leave no thread behind."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

T = TypeVar("T")


def prefetch(build: Callable[[int], T], steps: Iterable[int], workers: int) -> Iterator[T]:
    """Yield build(step) for each step in order, while `workers` threads build the next ones (0: no threads).

    An exception in `build` is raised here, at its step. However the iteration ends (exhausted, closed, an exception
    or Ctrl-C in the consumer), the threads have ended when the generator has.
    """
    if workers <= 0:
        yield from map(build, steps)
        return
    waiting: deque[Future[T]] = deque()
    pool = ThreadPoolExecutor(workers, thread_name_prefix="msedge-data")
    try:
        for step in steps:
            waiting.append(pool.submit(build, step))
            if len(waiting) > workers + 1:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
