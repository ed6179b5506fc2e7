"""Lite's entropy coder: back and forth here, and decoded by the real runtime."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from quant_weights import IMAGES, kinds_onnx

from msedge.lite import ConvertRequest
from msedge.lite.ms_writer import MsEditor, inputs
from msedge.quantization import fse

CODED = 3


def drawn(count: int, symbols: int, spread: float, seed: int = 0) -> np.ndarray:
    """Bell-shaped symbols; a small spread makes a few of them very frequent."""
    values = np.random.default_rng(seed).normal(symbols / 2, max(spread * symbols, 1e-9), count)
    return np.clip(np.rint(values), 0, symbols - 1).astype(np.int64)


@settings(max_examples=150, deadline=None)
@given(st.integers(1, 3000), st.integers(1, 700), st.sampled_from((1e-6, 0.01, 0.1, 0.3, 3.0)), st.integers(0, 9))
def test_what_is_decoded_was_encoded(count, symbols, spread, seed):
    given_symbols = drawn(count, symbols, spread, seed)
    centroids = np.random.default_rng(seed).normal(size=symbols).astype(np.float32)
    found, values = fse.decode(fse.encode(given_symbols, centroids), count)
    np.testing.assert_array_equal(found, given_symbols)
    np.testing.assert_array_equal(values, centroids)


@pytest.mark.parametrize(("count", "symbols", "spread"), [(200_000, 15, 0.2), (200_000, 2, 1e-6), (100_000, 3000, 0.1)])
def test_long_streams_are_coded_in_blocks_that_join(count, symbols, spread):
    given_symbols = drawn(count, symbols, spread)
    given_symbols[1234] = 0  # one rare symbol in an otherwise constant stream
    found, _ = fse.decode(fse.encode(given_symbols, np.arange(symbols, dtype=np.float32)), count)
    np.testing.assert_array_equal(found, given_symbols)


@pytest.mark.parametrize(("symbols", "spread"), [(15, 0.2), (255, 0.1), (1000, 0.3)])
def test_the_code_is_nearly_as_short_as_can_be(symbols, spread):
    given_symbols = drawn(50_000, symbols, spread)
    counts = np.bincount(given_symbols, minlength=symbols)
    counts = counts[counts > 0]
    shortest = float(np.sum(counts * np.log2(counts.sum() / counts))) / 8
    values, present = np.unique(given_symbols.astype(np.float32), return_inverse=True)
    length = len(fse.encode(present, values))
    assert length - 8 * len(counts) < 1.01 * shortest + 64
    assert fse.encoded_size(counts) == pytest.approx(length, rel=0.01)


@pytest.mark.parametrize("cut", [0, 3, 20, 200, 900, -1])
def test_a_damaged_stream_is_noticed(cut):
    whole = fse.encode(drawn(3000, 40, 0.2), np.arange(40, dtype=np.float32))
    with pytest.raises(ValueError):
        fse.decode(whole[:cut], 3000)


def test_a_stream_of_another_length_is_noticed():
    whole = fse.encode(drawn(3000, 40, 0.2), np.arange(40, dtype=np.float32))
    with pytest.raises(ValueError, match="ends before"):
        fse.decode(whole, 3001)
    with pytest.raises(ValueError, match="more than 2999"):
        fse.decode(whole, 2999)


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=300))
def test_any_bytes_are_refused_or_decoded(data):
    try:
        symbols, centroids = fse.decode(data, 5)
    except ValueError:
        return
    assert symbols.shape == (5,)
    assert symbols.max() < len(centroids)


@pytest.mark.parametrize(
    ("symbols", "centroids"), [([], [1.0]), ([0], []), ([0, 2], [1.0, 2.0]), ([-1], [1.0]), ([0], np.zeros(40_000))]
)
def test_what_cannot_be_encoded_is_refused(symbols, centroids):
    with pytest.raises(ValueError):
        fse.encode(np.array(symbols, np.int64), np.array(centroids))


@pytest.fixture(scope="module")
def ms(toolchain, tmp_path_factory) -> bytes:
    folder = tmp_path_factory.mktemp("kinds")
    toolchain.convert(ConvertRequest(kinds_onnx(folder / "kinds.onnx"), folder / "kinds.ms", "ONNX"))
    return (folder / "kinds.ms").read_bytes()


def logits(toolchain, file, ms: bytes) -> np.ndarray:
    file.write_bytes(ms)
    with toolchain.load(file) as session:
        return session.predict(IMAGES[:1])


@pytest.mark.parametrize(("symbols", "spread"), [(1, 1.0), (2, 1e-6), (15, 0.2), (255, 0.1), (6000, 0.3)])
def test_the_runtime_decodes_what_was_encoded(toolchain, ms, tmp_path, symbols, spread):
    codes, plain = MsEditor(ms), MsEditor(ms)
    weight = inputs(plain.find("deep"))[1]
    given_symbols = drawn(plain.constant(weight).size, symbols, spread)
    given_symbols[77] = 0
    centroids = np.random.default_rng(1).normal(size=symbols).astype(np.float32) * 0.05
    plain.set_constant(weight, centroids[given_symbols].reshape(plain.constant(weight).shape))
    data = np.frombuffer(fse.encode(given_symbols, centroids), np.uint8)
    codes.tensors[weight] |= {"data": data, "weightQuantCompressType": CODED}
    expected = logits(toolchain, tmp_path / "plain.ms", plain.to_bytes())
    np.testing.assert_array_equal(logits(toolchain, tmp_path / "coded.ms", codes.to_bytes()), expected)
