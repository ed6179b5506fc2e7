import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from msedge.data.duplicates import near_groups


def slow_groups(hashes: list[int], distance: int) -> set[frozenset[int]]:
    groups = [{i} for i in range(len(hashes))]
    for i, a in enumerate(hashes):
        for j, b in enumerate(hashes[:i]):
            if bin(a ^ b).count("1") <= distance:
                (one,) = (g for g in groups if i in g)
                (two,) = (g for g in groups if j in g)
                if one is not two:
                    groups.remove(two)
                    one |= two
    return {frozenset(g) for g in groups if len(g) > 1}


def flipped(value: int, bits: list[int]) -> int:
    for bit in bits:
        value ^= 1 << bit
    return value


near_hashes = st.lists(
    st.builds(
        flipped,
        st.sampled_from([0, 2**64 - 1, 0x0123456789ABCDEF, 0x5555555555555555]),
        st.lists(st.integers(0, 63), max_size=9),
    ),
    max_size=24,
)


@given(near_hashes, st.integers(0, 8))
def test_groups_are_those_of_comparing_all_with_all(hashes, distance):
    assert {frozenset(g) for g in near_groups(hashes, distance)} == slow_groups(hashes, distance)


def test_many_hashes_in_short_time():
    rng = np.random.default_rng(0)
    hashes = rng.integers(0, 2**64, 20_000, dtype=np.uint64).tolist()
    hashes[5] = flipped(hashes[77], [0, 9, 18, 27, 36, 63])
    hashes[9] = hashes[10]
    assert sorted(near_groups(hashes, 6)) == [[5, 77], [9, 10]]


def test_nothing():
    assert near_groups([], 6) == []
    assert near_groups([4], 6) == []
