"""BLAKE3 in numpy, for the second implementation, which shares no code with the core: row keys and the digest.

Written from O'Connor, Aumasson, Neves and Wilcox-O'Hearn, "BLAKE3", 2020, section 2. Only the unkeyed hash; extendable
output only for messages of one block: reference.py needs no more. Each column of an array is one message: its shape is
(words, messages).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["extended_hashes", "first_eight_bytes", "hash_bytes"]

Words = NDArray[np.integer[Any]]  # always uint32; type checkers infer this for uint32 with a Python integer

BLOCK, CHUNK = 64, 1024
CHUNK_START, CHUNK_END, PARENT, ROOT = 1, 2, 4, 8
IV = np.array(
    [0x6A09E667, 0xBB67AE85, 0x3C6EF372, 0xA54FF53A, 0x510E527F, 0x9B05688C, 0x1F83D9AB, 0x5BE0CD19], dtype=np.uint32
)
PERMUTATION = [2, 6, 3, 10, 7, 0, 4, 13, 1, 11, 12, 5, 9, 14, 15, 8]
BATCH = 4096  # messages at a time, so that memory stays bounded


def first_eight_bytes(messages: Sequence[bytes]) -> NDArray[np.integer[Any]]:
    """Return the first 8 bytes of each message's hash, as a little-endian number.

    Parameters
    ----------
    messages : sequence of bytes

    Returns
    -------
    ndarray of uint64 of shape (len(messages),)
    """
    batches = [messages[start : start + BATCH] for start in range(0, len(messages), BATCH)]
    hashes = [_hashes(batch)[:2].astype(np.uint64) for batch in batches]
    words: Words = np.concatenate([np.empty((2, 0), dtype=np.uint64), *hashes], axis=1)
    result: Words = words[0] | words[1] << 32
    return result


def hash_bytes(message: bytes) -> bytes:
    """Return the 32 bytes of a message's hash."""
    return _hashes([message])[:, 0].astype("<u4").tobytes()


def extended_hashes(messages: Sequence[bytes], n_blocks: int) -> Words:
    """Return what the messages' hashes, as messages themselves, have as extendable output.

    Parameters
    ----------
    messages : sequence of bytes
    n_blocks : int
        Length of the output, in blocks of 64 bytes.

    Returns
    -------
    ndarray of uint32 of shape (n_blocks * 16, len(messages))
    """
    hashes = _hashes(messages)
    blocks: Words = np.concatenate([hashes, np.zeros_like(hashes)])
    values, n = np.repeat(IV[:, None], len(messages), axis=1), len(messages)
    flags = np.full(n, CHUNK_START + CHUNK_END + ROOT)
    length = np.full(n, BLOCK // 2)
    outputs = []
    for counter in range(n_blocks):
        low, high = _state(values, blocks, np.full(n, counter), length, flags)
        outputs += [low ^ high, high ^ values]
    return np.concatenate(outputs)


def _hashes(messages: Sequence[bytes]) -> Words:
    """The eight words of each message's hash."""
    chunks = [[m[at : at + CHUNK] for at in range(0, max(len(m), 1), CHUNK)] for m in messages]
    counters = [number for one in chunks for number in range(len(one))]
    alone = [len(one) == 1 for one in chunks for _ in one]
    values = _chunk_values([chunk for one in chunks for chunk in one], np.array(counters), np.array(alone))
    ends = np.cumsum([len(one) for one in chunks])
    return np.stack([_root(own) for own in np.split(values, ends[:-1], axis=1)], axis=1)


def _chunk_values(chunks: Sequence[bytes], counters: NDArray[np.int64], alone: NDArray[np.bool_]) -> Words:
    """The chaining value of each chunk; for a chunk that is a whole message, the hash."""
    lengths = np.array([len(chunk) for chunk in chunks])
    n_blocks = np.maximum(1, -(-lengths // BLOCK))
    width = int(n_blocks.max())
    padded = b"".join(chunk.ljust(width * BLOCK, b"\0") for chunk in chunks)
    words = np.frombuffer(padded, dtype="<u4").astype(np.uint32).reshape(len(chunks), width, 16)
    values = np.repeat(IV[:, None], len(chunks), axis=1)
    for b in range(width):
        here = np.flatnonzero(n_blocks > b)
        last = n_blocks[here] == b + 1
        flags = CHUNK_START * (b == 0) + CHUNK_END * last + ROOT * (last & alone[here])
        used = np.minimum(BLOCK, lengths[here] - b * BLOCK)
        values[:, here] = _compressed(values[:, here], words[here, b].T, counters[here], used, flags)
    return values


def _root(values: Words) -> Words:
    """The hash of the message with these chunks. Neighbours merge, level by level; an odd one moves up unchanged."""
    while (count := values.shape[1]) > 1:
        pairs = count // 2
        blocks = np.concatenate([values[:, 0 : 2 * pairs : 2], values[:, 1 : 2 * pairs : 2]])
        flags = PARENT + ROOT * (count == 2)
        constant = [np.full(pairs, value) for value in (0, BLOCK, flags)]
        parents = _compressed(np.repeat(IV[:, None], pairs, axis=1), blocks, *constant)
        values = np.concatenate([parents, values[:, 2 * pairs :]], axis=1)
    return values[:, 0]


def _compressed(
    values: Words, blocks: Words, counters: NDArray[np.int64], lengths: NDArray[np.int64], flags: NDArray[np.int64]
) -> Words:
    """The compression function, for all columns at once."""
    low, high = _state(values, blocks, counters, lengths, flags)
    result: Words = low ^ high
    return result


def _state(
    values: Words, blocks: Words, counters: NDArray[np.int64], lengths: NDArray[np.int64], flags: NDArray[np.int64]
) -> tuple[Words, Words]:
    """The two halves of the state after all rounds of the compression function."""
    a, b = values[:4], values[4:]
    c: Words = np.repeat(IV[:4, None], values.shape[1], axis=1)
    d: Words = np.stack([counters & 0xFFFFFFFF, counters >> 32, lengths, flags]).astype(np.uint32)
    for _ in range(7):
        a, b, c, d = _mixed(a, b, c, d, blocks[0:8:2], blocks[1:8:2])
        # Rotate row r by r positions, so that the diagonals become columns.
        b, c, d = np.roll(b, -1, axis=0), np.roll(c, -2, axis=0), np.roll(d, -3, axis=0)
        a, b, c, d = _mixed(a, b, c, d, blocks[8:16:2], blocks[9:16:2])
        b, c, d = np.roll(b, 1, axis=0), np.roll(c, 2, axis=0), np.roll(d, 3, axis=0)
        blocks = blocks[PERMUTATION]
    return np.concatenate([a, b]), np.concatenate([c, d])


def _mixed(a: Words, b: Words, c: Words, d: Words, x: Words, y: Words) -> tuple[Words, Words, Words, Words]:
    """The function G, for four columns at once. Sums are modulo 2^32."""
    for word, first, second in ((x, 16, 12), (y, 8, 7)):
        a = a + b + word
        d = _turned(d ^ a, first)
        c = c + d
        b = _turned(b ^ c, second)
    return a, b, c, d


def _turned(x: Words, by: int) -> Words:
    """Rotate right."""
    return x >> by | x << (32 - by)
