"""Section 4 of docs/algorithm.md in numpy: the keyed random draws of `reference`, many at a time.

Words of 32 bits are kept in uint64, so that the product of two words is exact. The draws do not depend on the rows.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from erase_core.verify.blake3 import first_eight_bytes

__all__ = ["phase", "places", "race_keys", "row_keys", "signs"]

UInt64s = NDArray[np.integer[Any]]  # always uint64; type checkers infer this for uint64 with a Python integer

MASK32 = 2**32 - 1
RACE, PHASE, SIGNS, PLACE = 1, 2, 3, 4
RACE_ROWS = 2**13  # rows at a time, so that they stay in the processor's cache


def _draws(seed: int, a: UInt64s, b: int | UInt64s, purpose: int) -> list[UInt64s]:
    """The four words of each draw: Philox4x32 with 10 rounds."""
    k0, k1 = seed % 2**32, seed // 2**32
    c0, c1, c2, c3 = a & MASK32, a >> 32, np.full_like(a, b), np.full_like(a, purpose)
    for _ in range(10):
        product0, product1 = c0 * 0xD2511F53, c2 * 0xCD9E8D57
        c0, c1 = (product1 >> 32) ^ c1 ^ k0, product1 & MASK32
        c2, c3 = (product0 >> 32) ^ c3 ^ k1, product0 & MASK32
        k0, k1 = (k0 + 0x9E3779B9) & MASK32, (k1 + 0xBB67AE85) & MASK32
    return [c0, c1, c2, c3]


def row_keys(names: Sequence[int | bytes]) -> UInt64s:
    """The rows' 64-bit keys."""
    if names and isinstance(names[0], bytes):
        return first_eight_bytes([name for name in names if isinstance(name, bytes)])
    return np.array(names, dtype=np.int64).view(np.uint64)  # modulo 2^64


def race_keys(seed: int, r: int, keys: UInt64s, n_trials: int) -> UInt64s:
    """`E_(r,l)` of all rows: shape (n_trials, n)."""
    result = np.empty((n_trials, len(keys)), dtype=np.uint64)
    for start in range(0, len(keys), RACE_ROWS):
        part = slice(start, start + RACE_ROWS)
        for first in range(0, n_trials, 3):  # a draw is enough for three trials
            w = _draws(seed, keys[part], r + 2**17 * (first // 3), RACE)
            low, high = w[0] | w[1] << 32, w[2] | w[3] << 32
            for trial, bits in enumerate([low, low >> 42 | high << 22, high >> 20][: n_trials - first], first):
                result[trial, part] = 64 * 2**48 - _log2((bits % 2**42) * 2**22 + 2**21)
    return result


def places(seed: int, keys: UInt64s) -> UInt64s:
    """The rows' places."""
    w = _draws(seed, keys, 0, PLACE)
    result: UInt64s = w[0] | w[1] << 32
    return result


def _log2(u: UInt64s) -> UInt64s:
    """L(u): the base-2 logarithm in units of 2^-48."""
    v, g = u, np.full_like(u, 63)
    for width in (32, 16, 8, 4, 2, 1):  # shift the highest set bit to position 63
        low = v < 2 ** (64 - width)
        v, g = np.where(low, v << width, v), np.where(low, g - width, g)
    for _ in range(48):
        # floor(v v / 2^63) = 2 top + (bottom >> 63) may need 65 bits. Then it is halved, which gives top.
        top, bottom = _squared(v)
        over = top >> 63
        v = np.where(over == 1, top, top << 1 | bottom >> 63)
        g = g << 1 | over
    return g


def _squared(v: UInt64s) -> tuple[UInt64s, UInt64s]:
    """The halves of v v = 2^64 top + bottom. With v = 2^32 h + l it is 2^64 h h + 2^33 h l + l l."""
    h, low = v >> 32, v & MASK32
    cross, square = h * low, low * low
    bottom = (cross << 33) + square  # modulo 2^64: smaller than a summand if it overflowed
    return h * h + (cross >> 31) + (bottom < square), bottom


def phase(seed: int, t: int, e: int, dim: int) -> NDArray[np.int64]:
    """The phase of update t, one entry in [0, e) per coordinate."""
    words = _draws(seed, np.arange(-(-dim // 4), dtype=np.uint64), t, PHASE)
    return (np.stack(words, axis=1).ravel()[:dim] * e >> 32).astype(np.int64)


def signs(seed: int, m: int, d: int) -> NDArray[np.float64]:
    """P of shape (m, d): word by word, bit by bit."""
    i, block = np.indices((m, -(-d // 128)), dtype=np.uint64)
    words = np.stack(_draws(seed, i, block, SIGNS), axis=2)
    bits = words[..., None] >> np.arange(32, dtype=np.uint64) & 1
    return np.where(bits.reshape(m, -1)[:, :d] == 1, -1.0, 1.0)
