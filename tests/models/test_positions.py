from __future__ import annotations

import numpy as np
import pytest

from msedge.models.positions import resize_positions


def lines(side: int) -> np.ndarray:
    """[side * side, 2] values that are linear in the place."""
    y, x = np.mgrid[: side - 1 : side * 1j, : side - 1 : side * 1j] / (side - 1)
    return np.stack([3 * y - x + 1, x], -1).reshape(-1, 2)


@pytest.mark.parametrize("kind", ["relative_position_bias_table", "attention_biases"])
@pytest.mark.parametrize(("old", "new"), [(7, 13), (13, 7), (5, 5)])
def test_relative_positions_keep_ends_and_straight_lines(kind, old, new):
    before, after = (lines(old).T, lines(new).T) if kind == "attention_biases" else (lines(old), lines(new))
    assert resize_positions(f"a.{kind}", before, after.shape) == pytest.approx(after)


def embedding(side: int, channels: int = 4, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((1, 1 + side * side, channels)).astype(np.float32)


# The ends and the middle of the first channel, from torch 2.13: F.interpolate(mode="bicubic", antialias=True), which timm uses
TORCH = {
    (14, 16): (-0.53295, 1.57425, -0.20387),
    (14, 9): (-0.4559, -0.24123, 0.336),
}


@pytest.mark.parametrize("sides", TORCH)
def test_embeddings_are_resampled_as_timm_does(sides):
    old, new = sides
    table = embedding(old)
    resized = resize_positions("pos_embed", table, (1, 1 + new * new, 4))
    assert resized.dtype == np.float32
    assert (resized[:, 0] == table[:, 0]).all()
    assert resized[0, [1, 1 + new * new // 2, new * new], 0] == pytest.approx(TORCH[sides], abs=1e-5)


@pytest.mark.parametrize(("old", "new"), [(8, 16), (16, 8)])
def test_straight_lines_stay_straight_away_from_the_border(old, new):
    table = np.concatenate([np.zeros((1, 2)), lines(old)])[None]
    resized = resize_positions("pos_embed", table, (1, 1 + new * new, 2))[0, 1:].reshape(new, new, 2)
    steps = np.diff(resized[4:-4, 4:-4], axis=0) if new > 8 else np.diff(resized[2:-2, 2:-2], axis=0)
    assert steps[..., 0] == pytest.approx(3 * old / new / (old - 1))
    assert steps[..., 1] == pytest.approx(0, abs=1e-9)


def test_the_same_size_stays_as_it_is():
    table = embedding(6)
    assert resize_positions("pos_embed", table, table.shape) == pytest.approx(table, abs=1e-6)


@pytest.mark.parametrize(
    ("name", "shape", "wanted"),
    [
        ("a.relative_position_bias_table", (25, 2), (25, 3)),
        ("a.relative_position_bias_table", (24, 2), (25, 2)),
        ("a.relative_position_bias_table", (25,), (9,)),
        ("a.attention_biases", (2, 25), (1, 25)),
        ("a.attention_biases", (2, 25), (2, 10)),
        ("pos_embed", (1, 17, 4), (1, 10, 8)),
        ("pos_embed", (1, 16, 4), (1, 10, 4)),
        ("pos_embed", (17, 4), (10, 4)),
        ("pos_embed", (1, 1, 4), (1, 10, 4)),
        ("head.weight", (1, 17, 4), (1, 10, 4)),
    ],
)
def test_what_is_no_table_of_the_same_kind_is_not_resized(name, shape, wanted):
    assert resize_positions(name, np.zeros(shape, np.float32), wanted) is None
