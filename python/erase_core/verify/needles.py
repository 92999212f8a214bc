"""Finds many byte strings at once, or pieces of them, in a time that hardly depends on how many they are.

Each piece has a word of 8 bytes as its mark. All words of the content, at every alignment, are looked up in a table of
marks, and only pieces whose mark is present are searched for.
"""

from __future__ import annotations

import os
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from itertools import accumulate
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

__all__ = ["PIECE", "Joined", "Needles", "Place", "hashed", "table_bits"]

# A database splits long values, so they are searched in pieces of this many bytes.
PIECE = 128
WORD = 8
# A multiplier that spreads the bits of a word (Fibonacci hashing).
SPREAD = np.uint64(0x9E3779B97F4A7C15)
# A mark with so many distinct bytes is good enough.
DISTINCT = 7


class Place(NamedTuple):
    """Where a needle was found: which one, the offset, and whether it is there whole."""

    which: int
    offset: int
    whole: bool


def hashed(words: NDArray[np.uint64], bits: int) -> NDArray[np.uint64]:
    """Return the place of each word in a table of ``2**bits`` entries."""
    return (words * SPREAD) >> np.uint64(64 - bits)


def table_bits(n_entries: int) -> int:
    """Return the size of a table in bits, so that few words are found in it by chance."""
    return min(24, max(16, n_entries.bit_length() + 8))


class Joined:
    """Byte strings that are searched at once. Between them are random bytes, so that nothing is found across two.

    Parameters
    ----------
    contents : sequence of bytes

    Attributes
    ----------
    content : bytes
        All of them.
    """

    def __init__(self, contents: Sequence[bytes]) -> None:
        separator = os.urandom(16)
        self.content = separator.join(contents)
        self._starts = [0, *accumulate(len(each) + len(separator) for each in contents)]

    def locate(self, offset: int) -> tuple[int, int]:
        """Return the index of the string at an offset of the whole, and the offset in it."""
        index = bisect_right(self._starts, offset) - 1
        return index, offset - self._starts[index]


class Needles:
    """Byte strings to search for.

    Parameters
    ----------
    contents : sequence of bytes
        Not empty. A string that is longer than `PIECE` is also found by a piece of it.
    """

    def __init__(self, contents: Sequence[bytes]) -> None:
        self.longest = max(map(len, contents), default=0)
        self._contents = contents
        self._short = [index for index, content in enumerate(contents) if len(content) < WORD]
        marks = [(int.from_bytes(mark, "little"), index, piece) for mark, index, piece in _marks(contents)]
        marks.sort(key=lambda each: each[0])
        self._words = np.array([word for word, _, _ in marks], dtype=np.uint64)
        self._pieces = [(index, piece) for _, index, piece in marks]
        self._bits = table_bits(len(marks))
        self._table = np.zeros(2**self._bits, dtype=np.bool_)
        self._table[hashed(self._words, self._bits)] = True

    def find(self, content: bytes | bytearray, end: int) -> Iterator[Place]:
        """Yield the first place of each needle in the first `end` bytes of a content."""
        first: dict[int, int] = {}
        for index in self._short:
            if (offset := content.find(self._contents[index], 0, end)) >= 0:
                first[index] = offset
        for index, piece in self._present(content, end):
            if (offset := content.find(piece, 0, end)) >= 0:
                first[index] = min(offset, first.get(index, offset))
        for index, offset in sorted(first.items()):
            yield self._place(index, offset, content, end)

    def _place(self, index: int, offset: int, content: bytes | bytearray, end: int) -> Place:
        needle = self._contents[index]
        if len(needle) <= PIECE:
            return Place(index, offset, True)
        start = content.find(needle, 0, end)
        return Place(index, start if start >= 0 else offset, start >= 0)

    def _present(self, content: bytes | bytearray, end: int) -> Iterator[tuple[int, bytes]]:
        """Yield the pieces whose marks are in the content."""
        if not len(self._words):
            return
        found = []
        for shift in range(min(WORD, end)):
            words = np.frombuffer(content, "<u8", offset=shift, count=(end - shift) // WORD)
            found.append(words[self._table[hashed(words, self._bits)]])
        words = np.unique(np.concatenate(found)) if found else self._words[:0]
        firsts, lasts = (np.searchsorted(self._words, words, side=side) for side in ("left", "right"))
        for first, last in zip(firsts.tolist(), lasts.tolist(), strict=True):
            yield from self._pieces[first:last]


def _pieces(needle: bytes) -> list[bytes]:
    """Return pieces of `PIECE` bytes that cover a needle. A short needle is a single piece."""
    starts = [*range(0, len(needle) - PIECE, PIECE), max(0, len(needle) - PIECE)]
    parts = [needle[start : start + PIECE] for start in starts]
    # A run of a single byte value, such as zeros, is found everywhere. It counts only if there is no other piece.
    return [piece for piece in parts if len(set(piece)) > 1] or parts[:1]


def _marks(contents: Sequence[bytes]) -> Iterator[tuple[bytes, int, bytes]]:
    """Yield the mark of each piece with the index of its needle. The word with the most distinct bytes is the mark."""
    for index, content in enumerate(contents):
        for piece in _pieces(content) if len(content) >= WORD else ():
            best, most = piece[:WORD], 0
            for start in (*range(0, len(piece) - WORD, WORD), len(piece) - WORD):
                word = piece[start : start + WORD]
                if (distinct := len(set(word))) > most:
                    best, most = word, distinct
                if most >= DISTINCT:
                    break
            yield best, index, piece
