from __future__ import annotations

import numpy as np
import pytest
from families import FAMILIES, SMALL, images, small, taps

from msedge.mindspore_setup import load_mindspore

load_mindspore()

from mindspore import Tensor  # noqa: E402

from msedge.models.attention import from_windows, received, to_map, to_tokens, to_windows  # noqa: E402
from msedge.models.mobilevit import fold, unfold  # noqa: E402
from msedge.models.mobilevit import received as received_by_pixels  # noqa: E402
from msedge.models.swin import SwinBlock, relative_index, rolled, shift_masks, window_kinds  # noqa: E402
from msedge.models.tinyvit import AttentionBlock, BiasedAttention  # noqa: E402
from msedge.models.vit import received as received_by_patches  # noqa: E402
from msedge.models.vit import tapped_blocks  # noqa: E402

SIDES = {
    "mobilevit_xxs": ([32, 16, 8, 4, 2], [8, 4, 2]),
    "swin_nano": ([8, 4], [8, 4]),
    "tiny_vit_5m": ([16, 8, 4, 2], [8, 4, 2]),
    "vit_tiny": ([4, 4, 4], [4, 4, 4]),
    "poolformer_s12": ([16, 8, 4, 2], []),
    "efficientformer_l1": ([16, 8, 4, 2], [2]),
}


def channels(name: str) -> list[int]:
    widths = SMALL[name][1]
    return [widths["dim"]] * 3 if name == "vit_tiny" else widths["out" if name == "mobilevit_xxs" else "dim"]


@FAMILIES
def test_taps_give_logits_stages_and_maps_that_sum_to_one(ms, name):
    model = small(name)
    x = images(model, 3)
    logits, features, attention = taps(model, x)
    ms.set_context(mode=ms.PYNATIVE_MODE)
    assert logits == pytest.approx(model(Tensor(x)).asnumpy(), abs=1e-4)
    ms.set_context(mode=ms.GRAPH_MODE)
    sides, maps = SIDES[name]
    assert [f.shape for f in features] == [(3, c, s, s) for c, s in zip(channels(name), sides, strict=True)]
    assert [a.shape for a in attention] == [(3, s, s) for s in maps]
    for a in attention:
        assert a.min() > 0
        assert a.sum((1, 2)) == pytest.approx(1, abs=1e-5)


@FAMILIES
def test_each_image_of_a_batch_stands_alone(pynative, name):
    model = small(name)
    x = images(model, 3)
    together = taps(model, x)
    alone = taps(model, x[1:2])
    assert together[0][1] == pytest.approx(alone[0][0], abs=1e-4)
    for a, b in zip(together[1] + together[2], alone[1] + alone[2], strict=True):
        assert a[1] == pytest.approx(b[0], abs=1e-4)


def grid(side: int) -> np.ndarray:
    """Rows of a 1-channel raster with the number of each place."""
    return np.arange(side * side, dtype=np.float32)[:, None]


def test_windows_are_cut_row_by_row_and_put_back():
    rows = Tensor(np.concatenate([grid(6), 100 + grid(6)]))
    cut = to_windows(rows, 6, 3).asnumpy().reshape(2, 4, 3, 3)
    assert (cut[0, 1] == [[3, 4, 5], [9, 10, 11], [15, 16, 17]]).all()
    assert (cut[1, 2] == [[118, 119, 120], [124, 125, 126], [130, 131, 132]]).all()
    assert (from_windows(to_windows(rows, 6, 3), 6, 3).asnumpy() == rows.asnumpy()).all()


def test_tokens_are_the_pixels_in_raster_order():
    x = np.random.default_rng(0).standard_normal((2, 3, 4, 4)).astype(np.float32)
    rows = to_tokens(Tensor(x))
    assert (rows.asnumpy()[16 + 5] == x[1, :, 1, 1]).all()
    assert (to_map(rows, 4).asnumpy() == x).all()


def test_unfolded_pixels_of_a_sequence_have_the_same_place_in_their_patch():
    pixels = grid(4).reshape(1, 1, 4, 4)
    sequences = unfold(Tensor(pixels)).asnumpy().reshape(4, 4)
    assert (sequences == [[0, 2, 8, 10], [1, 3, 9, 11], [4, 6, 12, 14], [5, 7, 13, 15]]).all()
    x = np.random.default_rng(0).standard_normal((2, 3, 4, 8)).astype(np.float32)
    assert (fold(unfold(Tensor(x)), 4, 8).asnumpy() == x).all()


def test_attention_is_reported_where_the_key_is():
    attention = np.zeros((2 * 4, 2, 9, 9), np.float32)  # 2 images of 6 x 6 in windows of 3, 2 heads
    attention[:, :, :, 4] = 1  # everybody looks at the middle of the window
    seen = received(Tensor(attention), 6, 3).asnumpy()
    expected = np.zeros((6, 6))
    expected[1::3, 1::3] = 0.25
    assert seen == pytest.approx(np.stack([expected] * 2))
    attention = np.full((4, 1, 4, 4), 0.25, np.float32)  # 1 image of 4 x 4 pixels, 4 places in a patch
    attention[2] = 0
    attention[2, :, :, 1] = 1  # lower left pixels look at the patch at the upper right
    seen = received_by_pixels(Tensor(attention), 4, 4).asnumpy()[0]
    assert seen[1, 2] == pytest.approx(0.25)
    assert seen[1, 0] == seen[3, 0] == seen[3, 2] == 0
    assert seen[0, 0] == pytest.approx(1 / 16)


def attentive(block, channel: int) -> None:
    """Make every query look for tokens that are strong in `channel`."""
    attn = block.attn
    weight, bias = np.zeros(attn.qkv.weight.shape, np.float32), np.zeros(attn.qkv.bias.shape, np.float32)
    bias[0] = 20  # q: the first channel, whatever the token
    weight[attn.head_dim, channel] = 1  # k: the first channel is the token's own
    attn.qkv.weight.set_data(Tensor(weight))
    attn.qkv.bias.set_data(Tensor(bias))


@pytest.mark.parametrize("place", [(0, 0), (3, 5), (7, 7), (1, 6)])
@pytest.mark.parametrize("kind", ["swin", "shifted", "tinyvit"])
def test_a_striking_token_receives_the_attention_at_its_own_place(pynative, kind, place):
    widths = (4, 1, 4, 8, 0.0, 8, 4)
    block = AttentionBlock(*widths) if kind == "tinyvit" else SwinBlock(*widths, 2 if kind == "shifted" else 0)
    attentive(block, 2)
    x = np.zeros((8, 8, 4), np.float32)
    x[..., 0] = 1
    x[place] = (0, 0, 1, 0)
    seen = block.set_train(False)(Tensor(x.reshape(64, 4)), 1)[1].asnumpy()[0]
    assert np.unravel_index(seen.argmax(), seen.shape) == place
    assert seen.max() > 2 * np.median(seen)


def test_rolling_is_numpys():
    x = np.random.default_rng(0).standard_normal((2, 5, 6, 1)).astype(np.float32)
    assert (rolled(Tensor(x), 1, 2).asnumpy() == np.roll(x, -2, 1)).all()
    assert (rolled(Tensor(x), 2, 4).asnumpy() == np.roll(x, -4, 2)).all()


@pytest.mark.parametrize(("count", "window", "shift"), [(2, 4, 2), (3, 5, 2), (4, 3, 1)])
def test_shifted_windows_join_only_what_was_near_before_the_shift(count, window, shift):
    side, windows = count * window, count * count
    mask = shift_masks(window, shift)[window_kinds(count)]
    assert mask.shape == (windows, 1, window**2, window**2)
    y, x = (np.roll(v, (-shift, -shift), (0, 1)) for v in np.mgrid[:side, :side])
    cut = [v.reshape(count, window, count, window).transpose(0, 2, 1, 3).reshape(windows, -1) for v in (y, x)]
    far = [abs(v[:, :, None] - v[:, None]) >= window for v in cut]
    assert ((mask[:, 0] < 0) == (far[0] | far[1])).all()


def test_position_indices_name_the_offset():
    index = relative_index(3).reshape(9, 9)
    assert index[0, 0] == index[4, 4] == 2 * 5 + 2
    assert index[0, 8] == 0
    assert index[8, 0] == 24


@pytest.mark.parametrize("window", [1, 3, 4])
def test_tinyvits_biases_are_those_of_the_absolute_offsets(pynative, window):
    attention = BiasedAttention(8, 2, 4, window)
    table = np.random.default_rng(0).standard_normal((2, window * window)).astype(np.float32)
    attention.attention_biases.set_data(Tensor(table))
    y, x = np.divmod(np.arange(window * window), window)
    offsets = abs(y[:, None] - y) * window + abs(x[:, None] - x)
    assert (attention.bias().asnumpy() == table[:, offsets]).all()


def test_the_class_tokens_share_is_left_out_of_the_map():
    attention = np.zeros((2, 3, 5, 5), np.float32)  # a class token and 2 x 2 patches
    attention[:, :, :, 0] = 0.6
    attention[:, :, :, 3] = 0.3
    attention[:, :, :, 4] = 0.1
    seen = received_by_patches(Tensor(attention), 2).asnumpy()
    assert seen == pytest.approx(np.array([[[0, 0], [0.75, 0.25]]] * 2), abs=1e-6)


@pytest.mark.parametrize(
    ("depth", "blocks"), [(12, (2, 5, 8, 11)), (4, (0, 1, 2, 3)), (2, (0, 1)), (1, (0,)), (7, (1, 3, 4, 6))]
)
def test_quarters_of_the_depth_are_tapped(depth, blocks):
    assert tapped_blocks(depth) == blocks
