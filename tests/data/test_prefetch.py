import threading
import time

import pytest

from msedge.data.prefetch import prefetch


@pytest.mark.parametrize("workers", [0, 1, 3])
def test_order_is_kept_whatever_takes_longer(workers):
    def build(i: int) -> int:
        time.sleep(0.003 * ((7 * i) % 5))
        return i * i

    assert list(prefetch(build, range(20), workers)) == [i * i for i in range(20)]


def test_it_builds_ahead_but_not_far():
    built = []
    steps = prefetch(lambda i: built.append(i) or i, range(100), 2)
    assert next(steps) == 0
    time.sleep(0.05)
    assert 2 <= len(built) <= 5
    steps.close()
    ahead = len(built)
    time.sleep(0.02)
    assert len(built) == ahead


def test_errors_come_at_their_step():
    def build(i: int) -> int:
        if i == 3:
            raise ValueError("three")
        return i

    got = []
    with pytest.raises(ValueError, match="three"):
        for value in prefetch(build, range(9), 2):
            got.append(value)
    assert got == [0, 1, 2]


def test_nothing_starts_before_the_first_step():
    before = threading.active_count()
    prefetch(lambda i: i, range(5), 4)
    assert threading.active_count() == before
