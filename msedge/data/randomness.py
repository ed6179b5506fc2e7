"""Random numbers that are a pure function of their place: (seed, what for, epoch, image)."""

from __future__ import annotations

import zlib

import numpy as np


def generator(seed: int, purpose: str, *place: int) -> np.random.Generator:
    """A generator that depends on nothing but its arguments; different purposes give unrelated numbers."""
    return np.random.Generator(np.random.Philox(np.random.SeedSequence((seed, zlib.crc32(purpose.encode()), *place))))
