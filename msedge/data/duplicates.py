"""Pairs of 64-bit hashes that differ in few bits, without comparing all with all."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence

import numpy as np

_BLOCK = 4096
_POPCOUNT = np.array([bin(i).count("1") for i in range(1 << 16)], np.uint8)


def hamming(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """How many bits of the uint64 arrays (or numbers) differ, element by element with broadcasting."""
    differ = a ^ b
    return sum(_POPCOUNT[(differ >> np.uint64(s)) & np.uint64(0xFFFF)] for s in (0, 16, 32, 48))


def near_groups(hashes: Sequence[int], distance: int) -> list[list[int]]:
    """Groups (of indices into `hashes`, each of two or more) whose members are linked by Hamming distances <= `distance`.

    Two hashes that differ in at most d bits agree on one of d + 1 bands of bits (multi-index hashing, Norouzi et al.
    2012), so only those that share a band are compared: seconds for 100,000 images.
    """
    values = np.asarray(hashes, np.uint64)
    unique, inverse = np.unique(values, return_inverse=True)
    parent = list(range(len(unique)))

    def root(i: int) -> int:
        while parent[i] != i:
            parent[i] = parent[parent[i]]
            i = parent[i]
        return i

    for a, b in _near_pairs(unique, distance):
        parent[root(a)] = root(b)
    groups: dict[int, list[int]] = {}
    for i, u in enumerate(inverse):
        groups.setdefault(root(int(u)), []).append(i)
    return [group for group in groups.values() if len(group) > 1]


def _near_pairs(unique: np.ndarray, distance: int) -> Iterator[tuple[int, int]]:
    edges = np.linspace(0, 64, distance + 2).round().astype(int)
    for low, high in itertools.pairwise(edges):
        band = (unique >> np.uint64(low)) & np.uint64((1 << int(high - low)) - 1)
        order = np.argsort(band, kind="stable")
        starts = np.flatnonzero(np.diff(band[order], prepend=band[order][:1] + np.uint64(1)))
        for members in np.split(order, starts[1:]):
            yield from _near_pairs_within(unique, members, distance)


def _near_pairs_within(unique: np.ndarray, members: np.ndarray, distance: int) -> Iterator[tuple[int, int]]:
    for first in range(0, len(members), _BLOCK):
        rows = members[first : first + _BLOCK]
        for second in range(first, len(members), _BLOCK):
            columns = members[second : second + _BLOCK]
            counts = hamming(unique[rows][:, None], unique[columns][None])
            for i, j in zip(*np.nonzero(counts <= distance), strict=True):
                if rows[i] != columns[j]:
                    yield int(rows[i]), int(columns[j])
