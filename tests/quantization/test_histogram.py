"""Histograms that grow: no count is lost or moved to a wrong place, whatever the order of the numbers."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from msedge.quantization.histogram import Histogram

batches = st.lists(
    st.tuples(st.floats(-1e4, 1e4, width=32), st.sampled_from([1e-6, 1e-2, 1.0, 50.0, 1e4])), min_size=1, max_size=8
)


@given(batches, st.integers(0, 2**31))
@settings(max_examples=150, deadline=None)
def test_counts_equal_those_of_all_numbers_at_once(parts, seed):
    rng, histogram, seen = np.random.default_rng(seed), Histogram(64), []
    for centre, spread in parts:
        x = (centre + spread * rng.normal(size=(2, 50))).astype(np.float32)
        histogram.add(x)
        seen.append(x)
    x = np.concatenate(seen, 1).astype(np.float64)
    centres, counts = histogram.points()
    assert counts.shape == (2, 64) and (counts.sum(1) == x.shape[1]).all()
    np.testing.assert_array_equal(histogram.low, x.min(1))
    np.testing.assert_array_equal(histogram.high, x.max(1))
    for row in range(2):
        width = 2.0 ** histogram._exponent[row]
        index = np.floor(x[row] / width).astype(np.int64) - histogram._start[row]
        np.testing.assert_array_equal(counts[row], np.bincount(index, minlength=64))
        assert (np.diff(centres[row]) >= 0).all()
        assert centres[row].min() >= x[row].min() and centres[row].max() <= x[row].max()


def test_bins_stay_fine_enough():
    histogram = Histogram(1024)
    rng = np.random.default_rng(0)
    for scale in (0.1, 1, 3, 2):
        histogram.add(scale * rng.normal(size=(1, 1000)))
    width = 2.0 ** histogram._exponent[0]
    assert (histogram.high - histogram.low)[0] / width > 1024 * 0.3


def test_constants_and_zeros():
    for value in (0.0, 3.5, -1e-20, 1e20):
        histogram = Histogram(32)
        for _ in range(3):
            histogram.add(np.full((1, 10), value))
        centres, counts = histogram.points()
        assert counts.sum() == 30 and (centres[counts > 0] == value).all()
    histogram = Histogram(32)
    histogram.add(np.zeros((1, 5)))
    histogram.add(np.full((1, 5), 1000.0))
    centres, counts = histogram.points()
    assert counts.sum() == 10 and counts[0, centres[0] < 100].sum() == 5


def test_memory_does_not_grow():
    histogram = Histogram(128)
    for i in range(200):
        histogram.add(np.full((4, 7), float(i)))
    assert histogram.counts.shape == (4, 128) and histogram.counts.sum() == 200 * 28
