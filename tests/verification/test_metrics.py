"""Metrics against their definitions, and their corners."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from msedge.verification import compare_outputs
from msedge.verification.metrics import cosine, max_abs, sqnr_db

OUTPUTS = hnp.arrays(np.float32, st.tuples(st.integers(1, 6), st.integers(2, 5)), elements=st.floats(-1e3, 1e3, width=32))


def test_cosine_of_known_vectors():
    a = np.array([[1, 0], [1, 1], [3, 4], [1, 2]], np.float32)
    b = np.array([[0, 1], [2, 2], [4, 3], [-1, -2]], np.float32)
    np.testing.assert_allclose(cosine(a, b), [0, 1, 24 / 25, -1], atol=1e-12)


def test_cosine_of_zeros_and_of_what_is_not_finite():
    a = np.array([[0, 0], [0, 0], [1, np.nan], [np.inf, 1]], np.float32)
    b = np.array([[0, 0], [1, 0], [1, 1], [1, 1]], np.float32)
    assert cosine(a, b).tolist() == [1, 0, 0, 0]


def test_sqnr_of_a_known_ratio():
    a = np.full((2, 50), 10.0)
    assert sqnr_db(a, a + 1) == pytest.approx(20)
    assert sqnr_db(a, a + 0.1) == pytest.approx(40)
    assert sqnr_db(a, a) == 200
    assert sqnr_db(np.zeros((1, 2)), np.ones((1, 2))) == -200


def test_max_abs_leaves_out_what_is_not_finite():
    assert max_abs(np.array([[1.0, 2], [np.nan, 0]]), np.array([[1.5, 2], [9.0, 9]])) == 0.5


def test_decisions_and_the_paired_table():
    a = np.array([[2, 1], [2, 1], [1, 2], [1, 2], [1, 2]], np.float32)
    b = np.array([[2, 1], [1, 2], [2, 1], [1, 2], [1, 2]], np.float32)
    labels = np.array([0, 0, 0, 1, 0])
    c = compare_outputs(a, b, labels)
    assert (c.n, c.flips, c.agreement) == (5, 2, 0.6)
    assert (c.top1_a, c.top1_b) == (0.6, 0.6)
    assert c.paired.to_dict() == {"both_right": 2, "only_a_right": 1, "only_b_right": 1, "both_wrong": 1}
    assert compare_outputs(a, b).paired is None


def test_an_output_that_is_not_finite_counts_as_flipped_and_wrong():
    a = np.array([[1, 2], [1, 2]], np.float32)
    b = np.array([[1, 2], [np.nan, 2]], np.float32)
    c = compare_outputs(a, b, np.array([1, 1]))
    assert (c.nonfinite, c.flips, c.top1_a, c.top1_b, c.cosine_min) == (1, 1, 1.0, 0.5, 0.0)


@pytest.mark.parametrize("shapes", [((2, 3), (2, 4)), ((2, 3), (3, 3)), ((0, 3), (0, 3))])
def test_what_cannot_be_compared(shapes):
    with pytest.raises(ValueError, match="cannot be compared"):
        compare_outputs(np.zeros(shapes[0]), np.zeros(shapes[1]))


@given(OUTPUTS, st.integers(0, 2**32 - 1))
def test_any_outputs_give_plain_finite_json(a, seed):
    rng = np.random.default_rng(seed)
    b = np.where(rng.random(a.shape) < 0.1, np.float32(np.inf), a + rng.standard_normal(a.shape)).astype(np.float32)
    values = compare_outputs(a, b, np.zeros(len(a), int)).to_dict()
    assert json.loads(json.dumps(values, allow_nan=False)) == values
    assert -1 <= values["cosine_min"] <= values["cosine_mean"] + 1e-12 <= 1 + 2e-12
    assert values["flips"] == round((1 - values["agreement"]) * values["n"])


@given(OUTPUTS, st.floats(0.01, 100))
def test_a_positive_factor_changes_no_decision_and_no_cosine(a, factor):
    c = compare_outputs(a.astype(np.float64), a.astype(np.float64) * factor)
    assert (c.flips, c.agreement) == (0, 1.0)
    assert math.isclose(c.cosine_min, 1.0, abs_tol=1e-9)


def test_pooled_cosine_forgives_a_flip_of_small_outputs_and_no_other():
    a = np.array([[5.0, -5.0], [0.1, -0.1]])
    near, far = a.copy(), a.copy()
    near[1] *= -1
    far[0] *= -1
    assert abs(compare_outputs(a, near).cosine_mean) < 1e-9
    assert abs(compare_outputs(a, far).cosine_mean) < 1e-9
    assert compare_outputs(a, near).cosine_pooled > 0.999
    assert compare_outputs(a, far).cosine_pooled < -0.99
    assert compare_outputs(a, near).cosine_judged == ("pooled cosine", compare_outputs(a, near).cosine_pooled)
    assert compare_outputs(np.eye(4), np.eye(4)).cosine_judged == ("cosine", 1.0)


def test_pooled_cosine_leaves_out_what_is_not_finite():
    a, b = np.ones((2, 5)), np.ones((2, 5))
    b[0, 0] = np.nan
    assert math.isclose(compare_outputs(a, b).cosine_pooled, 1.0)
    assert compare_outputs(a[:1], b[:1]).cosine_pooled == 0.0
