"""Finite state entropy: how Lite stores a constant in about as many bits as its values carry, decoded while loading.

A constant of compress type FSE is, little-endian: number of symbols n (u16), log2 of the table's size N (u16), number of
64-bit words that hold the code plus 1 (u32), n frequencies that sum to N (u32), n float32 centroids, the words (u64), and the
number of bits used of the last one (u8); frequencies and centroids are padded to 8 bytes. Bits fill a word from its high end.
The coder is tANS (Duda 2013, "Asymmetric numeral systems"): symbols are pushed first to last and popped last to first.
"""

from __future__ import annotations

import struct
from typing import NamedTuple

import numpy as np

MAX_SYMBOLS = 1 << 15
_HEADER = struct.Struct("<HHI")
_MIN_LOG, _MAX_LOG, _SPARE_LOG = 10, 16, 4
_BLOCK = 256
_MEMORY = 12  # times log2(N) / entropy: after so many symbols a coder has forgotten the state that it began with


class _Tables(NamedTuple):
    """`push[s] + state >> 16` bits are written before symbol s; then `states[(state >> bits) + skip[s]]` follows."""

    log: int
    push: np.ndarray
    skip: np.ndarray
    states: np.ndarray


def encode(symbols: np.ndarray, centroids: np.ndarray) -> bytes:
    """The stream of `symbols` (integers, any shape) that Lite decodes to `centroids[symbols]` (float32).

    Raises ValueError where there is nothing to encode, a symbol has no centroid, or there are more than `MAX_SYMBOLS`.
    """
    symbols, centroids = np.ravel(symbols), np.asarray(centroids, "<f4")
    if not symbols.size or not 0 < len(centroids) <= MAX_SYMBOLS:
        raise ValueError(f"{symbols.size} values of {len(centroids)} symbols cannot be encoded")
    if symbols.min() < 0 or symbols.max() >= len(centroids):
        raise ValueError(f"symbols reach from {symbols.min()} to {symbols.max()}; there are {len(centroids)} centroids")
    frequencies = _frequencies(np.bincount(symbols, minlength=len(centroids)))
    tables = _tables(frequencies)
    words, last = _code(symbols, tables, _entropy(frequencies))
    head = _HEADER.pack(len(centroids), tables.log, len(words))
    return b"".join(
        (
            _padded(head + frequencies.astype("<u4").tobytes()),
            _padded(centroids.tobytes()),
            words.astype("<u8").tobytes(),
            bytes([last]),
        )
    )


def encoded_size(counts: np.ndarray) -> float:
    """Bytes that `encode` needs for symbols that occur so often (all at least once), within a percent, without encoding."""
    counts = np.asarray(counts, np.float64)
    bits = float(np.sum(counts * np.log2(counts.sum() / counts)))
    return _HEADER.size + 8 * len(counts) + bits / 8 + 16


def decode(data: bytes, count: int) -> tuple[np.ndarray, np.ndarray]:
    """`(symbols, centroids)` of a stream of `count` values. Raises ValueError where it is damaged or of another length."""
    frequencies, centroids, words, last, log = _parse(data)
    size = 1 << log
    if len(frequencies) == 0 or not 4 <= log <= _MAX_LOG or frequencies.min() < 1 or frequencies.sum() != size:
        raise ValueError("its table of frequencies is impossible")
    symbol = _spread(frequencies)
    order = np.argsort(symbol, kind="stable")
    x = np.empty(size, np.int64)  # the k-th state of a symbol stands for k + its frequency
    x[order] = np.arange(size) - np.repeat(np.cumsum(frequencies) - frequencies, frequencies) + frequencies[symbol[order]]
    width = log - _floor_log2(x)
    base = ((x << width) - size).tolist()
    end = 64 * (len(words) - 1) + last
    windows, widths = _windows(words, end, log).tolist(), width.tolist()
    at, masks = end - log, [(1 << k) - 1 for k in range(log + 1)]
    state, states = windows[end] if at >= 0 else 0, [0] * count
    for i in range(count - 1, -1, -1):
        if at < widths[state]:
            raise ValueError(f"it ends before its {count} values do")
        states[i] = state
        state, at = base[state] + (windows[at] & masks[widths[state]]), at - widths[state]
    if at:
        raise ValueError(f"it holds more than {count} values")
    return symbol[states], centroids


def _frequencies(counts: np.ndarray) -> np.ndarray:
    """Counts scaled to a power of two, at least 1 each, so that the code becomes as short as it can."""
    log = min(_MAX_LOG, max(_MIN_LOG, (len(counts) - 1).bit_length() + _SPARE_LOG))
    size, counts = 1 << log, np.asarray(counts, np.float64)
    found = np.maximum(1, np.rint(counts * (size / counts.sum()))).astype(np.int64)
    while (excess := int(found.sum()) - size) > 0:
        cost = np.where(found > 1, counts * np.log(found / np.maximum(found - 1, 0.5)), np.inf)
        found[np.argsort(cost, kind="stable")[: min(excess, np.isfinite(cost).sum())]] -= 1
    while (missing := size - int(found.sum())) > 0:
        gain = counts * np.log((found + 1) / found)
        found[np.argsort(-gain, kind="stable")[:missing]] += 1
    return found


def _entropy(frequencies: np.ndarray) -> float:
    share = frequencies / frequencies.sum()
    return float(-np.sum(share * np.log2(share)))


def _spread(frequencies: np.ndarray) -> np.ndarray:
    """The symbol of every state: each symbol's states lie a fixed step apart, around and around the table."""
    size = int(frequencies.sum())
    step = (size >> 1) + (size >> 3) + 3
    table = np.empty(size, np.int64)
    table[np.arange(size) * step % size] = np.repeat(np.arange(len(frequencies)), frequencies)
    return table


def _floor_log2(x: np.ndarray) -> np.ndarray:
    return np.frexp(x)[1].astype(np.int64) - 1


def _tables(frequencies: np.ndarray) -> _Tables:
    size = int(frequencies.sum())
    log = size.bit_length() - 1
    states = size + np.argsort(_spread(frequencies), kind="stable")
    bits = np.where(frequencies > 1, log - _floor_log2(np.maximum(frequencies - 1, 1)), log)
    push = (bits << 16) - (frequencies << bits)
    return _Tables(log, push, np.cumsum(frequencies) - 2 * frequencies, states)


def _code(symbols: np.ndarray, tables: _Tables, entropy: float) -> tuple[np.ndarray, int]:
    """The words of the code, and the bits used of the last."""
    size = 1 << tables.log
    before, end = _states(symbols, tables, entropy)
    widths = np.append((before + tables.push[symbols]) >> 16, tables.log)
    values = np.append(before, end - size) & ((1 << widths) - 1)
    return _pack(values.astype(np.uint64), widths)


def _states(symbols: np.ndarray, tables: _Tables, entropy: float) -> tuple[np.ndarray, int]:
    """The coder's state before each symbol, and after the last.

    A coder soon forgets the state that it began with. So all blocks are coded side by side from a guess, and again from
    where their predecessors ended, until each begins there: two rounds as a rule.
    """
    length = max(_BLOCK, int(_MEMORY * tables.log / max(entropy, 1e-3)))
    blocks = max(1, len(symbols) // length)
    length = -(-len(symbols) // blocks)
    table = np.pad(symbols, (0, blocks * length - len(symbols))).reshape(blocks, length).T
    states = np.empty((length + 1, blocks), np.int64)
    starts, wrong = np.full(blocks, 1 << tables.log), np.arange(blocks)
    while wrong.size:
        part = table[:, wrong]
        push, skip = tables.push[part], tables.skip[part]
        state = starts[wrong]
        for i in range(length):
            states[i, wrong] = state
            state = tables.states[(state >> ((state + push[i]) >> 16)) + skip[i]]
        states[length, wrong] = state
        ends = np.append(1 << tables.log, states[length, :-1])
        wrong, starts = np.flatnonzero(ends != starts), ends
    flat = states[:length].T.ravel()
    return flat[: len(symbols)], int(np.append(flat, states[length, -1])[len(symbols)])


def _pack(values: np.ndarray, widths: np.ndarray) -> tuple[np.ndarray, int]:
    """Numbers of these widths (below 64 bits) one after another in 64-bit words, high bits first."""
    ends = np.cumsum(widths)
    starts = ends - widths
    word, over = starts >> 6, (widths > 0) & (starts >> 6 != (ends - 1) >> 6)
    spill = np.where(over, ends & 63, 0).astype(np.uint64)
    room = np.where(over, 0, 64 - (ends - (word << 6))).astype(np.uint64)
    words = np.zeros(-(-int(ends[-1]) // 64) + 1, np.uint64)
    firsts = np.flatnonzero(np.diff(word, prepend=-1))
    words[word[firsts]] = np.bitwise_or.reduceat((values >> spill) << room, firsts)
    words[word[over] + 1] |= values[over] << (np.uint64(64) - spill[over])
    used = -(-int(ends[-1]) // 64)
    return words[:used], int(ends[-1]) - 64 * (used - 1)


def _windows(words: np.ndarray, end: int, log: int) -> np.ndarray:
    """For each position up to `end`, the `log` bits before it as a number."""
    bits = np.unpackbits(words.astype(">u8").view(np.uint8))[:end]
    padded = np.concatenate((np.zeros(log, np.uint8), bits)).astype(np.uint32)
    found = np.zeros(end + 1, np.uint32)
    for k in range(log):
        found |= padded[log - 1 - k : log + end - k] << np.uint32(k)
    return found


def _padded(data: bytes) -> bytes:
    return data + bytes(-len(data) % 8)


def _parse(data: bytes) -> tuple[np.ndarray, np.ndarray, np.ndarray, int, int]:
    try:
        symbols, log, words = _HEADER.unpack_from(data)
        at = _HEADER.size
        frequencies = np.frombuffer(data, "<u4", symbols, at).astype(np.int64)
        at = -(-(at + 4 * symbols) // 8) * 8
        centroids = np.frombuffer(data, "<f4", symbols, at)
        at = -(-(at + 4 * symbols) // 8) * 8
        code = np.frombuffer(data, "<u8", words, at)
        last = data[at + 8 * words]
    except (struct.error, ValueError, IndexError):
        raise ValueError("it is cut short") from None
    if not words or not 1 <= last <= 64:
        raise ValueError(f"{last} bits of its last word are used, of {words} words")
    return frequencies, centroids, code, last, log
