"""Finds float32 vectors that have the direction of a wanted vector, whatever their length.

Libraries for cosine similarity store a vector divided by its norm, and each rounds in its own way. Ratios of adjacent
components do not depend on the norm. So for pieces of each vector, two such ratios are looked up in a table at every
place of the content and at every alignment, and candidates are compared in full.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from erase_core.verify.needles import Place, hashed, table_bits

__all__ = ["TOLERANCE", "Directions"]

# Components of a piece. A database may split a vector.
PIECE = 32
# A shorter vector is found by chance, with a tolerance.
SHORTEST = 8
# Largest difference of a component, as a part of the piece's largest component.
TOLERANCE = 1e-4
# Ratios count as equal if they differ in these last bits of a float32, or by one step more.
COARSE = np.uint32(12)
RATIO_BITS = 20
# Ratios nearer to 1 or -1 than this are frequent: in runs of one value.
NEAR_ONE = 0.01
# Candidates to compare at a time.
AT_ONCE = 2**15


class _Piece(NamedTuple):
    which: int
    start: int
    mark: int
    values: NDArray[np.float64]


class Directions:
    """Vectors to search for by their direction.

    Parameters
    ----------
    vectors : sequence of ndarray
        Those with fewer than `SHORTEST` components, or with only zeros and equal values, are not searched for.
    """

    def __init__(self, vectors: Sequence[NDArray[np.floating]]) -> None:
        self._vectors = [np.asarray(vector, dtype=np.float64) for vector in vectors]
        self._pieces = [piece for index, vector in enumerate(self._vectors) for piece in _pieces(index, vector)]
        self.longest = 4 * max((len(vector) for vector in self._vectors), default=0)
        # All pieces as rows of one matrix; a short one is filled up with zeros.
        self._values = np.zeros((len(self._pieces), PIECE))
        self._lengths = np.array([len(piece.values) for piece in self._pieces], dtype=np.int64)
        self._marks = np.array([piece.mark for piece in self._pieces], dtype=np.int64)
        for row, piece in enumerate(self._pieces):
            self._values[row, : len(piece.values)] = piece.values
        keys = [_neighbours(piece.values[piece.mark : piece.mark + 3]) for piece in self._pieces]
        words = np.concatenate(keys) if keys else np.zeros(0, dtype=np.uint64)
        order = np.argsort(words, kind="stable")
        self._words, self._owners = words[order], np.repeat(np.arange(len(keys)), 9)[order]
        self._bits = table_bits(len(words))
        self._table = np.zeros(2**self._bits, dtype=np.bool_)
        self._table[hashed(self._words, self._bits)] = True

    def find(self, content: bytes | bytearray, end: int) -> Iterator[Place]:
        """Yield the first place of each vector in the first `end` bytes of a content."""
        found: dict[int, tuple[int, bool]] = {}
        for shift in range(4 if self._pieces else 0):
            numbers = np.frombuffer(content, "<f4", offset=min(shift, end), count=max(0, end - shift) // 4)
            if len(numbers) < SHORTEST:
                continue
            with np.errstate(all="ignore"):
                for row, first in self._matches(numbers):
                    piece = self._pieces[row]
                    start, whole = self._whole(piece, numbers, first)
                    place = (shift + 4 * start, whole)
                    before = found.get(piece.which, place)
                    found[piece.which] = min(before, place, key=lambda each: (not each[1], each[0]))
        for index, (offset, whole) in sorted(found.items()):
            yield Place(index, offset, whole)

    def _matches(self, numbers: NDArray[np.float32]) -> Iterator[tuple[int, int]]:
        """Yield the row of each piece that is found, with the index of its first component."""
        words = _keys(numbers)
        places = np.flatnonzero(self._table[hashed(words, self._bits)])
        firsts = np.searchsorted(self._words, words[places], side="left")
        counts = np.searchsorted(self._words, words[places], side="right") - firsts
        places, firsts, counts = (each[counts > 0] for each in (places, firsts, counts))
        # One candidate for each piece that has this word.
        within = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)
        rows = self._owners[np.repeat(firsts, counts) + within]
        starts = np.repeat(places, counts) - self._marks[rows]
        inside = (starts >= 0) & (starts + self._lengths[rows] <= len(numbers))
        rows, starts = rows[inside], starts[inside]
        for at in range(0, len(rows), AT_ONCE):
            some, first = rows[at : at + AT_ONCE], starts[at : at + AT_ONCE]
            is_same = self._are_same(numbers, some, first)
            yield from zip(some[is_same].tolist(), first[is_same].tolist(), strict=True)

    def _are_same(
        self, numbers: NDArray[np.float32], rows: NDArray[np.int64], starts: NDArray[np.int64]
    ) -> NDArray[np.bool_]:
        columns = np.arange(PIECE)
        used = columns < self._lengths[rows][:, None]
        places = np.minimum(starts[:, None] + columns, len(numbers) - 1)
        there = np.where(used, numbers[places].astype(np.float64), 0.0)
        return _same(there, self._values[rows])

    def _whole(self, piece: _Piece, numbers: NDArray[np.float32], first: int) -> tuple[int, bool]:
        """Return where the vector begins and whether all of it is there; otherwise the piece's place and False."""
        vector, start = self._vectors[piece.which], first - piece.start
        if start < 0 or start + len(vector) > len(numbers):
            return first, False
        there = numbers[start : start + len(vector)].astype(np.float64)
        whole = bool(_same(there[None], vector[None])[0])
        return (start, True) if whole else (first, False)


def _same(there: NDArray[np.float64], wanted: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Return for each row whether it is a positive multiple of the wanted row, within the tolerance."""
    scale = (there * wanted).sum(axis=1) / (wanted * wanted).sum(axis=1)
    error = np.abs(there - scale[:, None] * wanted).max(axis=1)
    same: NDArray[np.bool_] = (scale > 0) & (error <= TOLERANCE * scale * np.abs(wanted).max(axis=1))
    return same


def _pieces(index: int, vector: NDArray[np.float64]) -> Iterator[_Piece]:
    if len(vector) < SHORTEST:
        return
    length = min(PIECE, len(vector))
    for start in dict.fromkeys((*range(0, len(vector) - length, length), len(vector) - length)):
        values = vector[start : start + length]
        if (mark := _mark(values)) is not None:
            yield _Piece(index, start, mark, values)


def _mark(values: NDArray[np.float64]) -> int | None:
    """Return the place of three components that are large and differ; None if there are none."""
    size = np.abs(values)
    with np.errstate(all="ignore"):
        steps = np.abs(size[1:] / size[:-1] - 1) > NEAR_ONE
    worth = np.minimum(np.minimum(size[:-2], size[1:-1]), size[2:]) * (steps[:-1] & steps[1:])
    best = int(worth.argmax())
    return best if worth[best] > 0 else None


def _keys(numbers: NDArray[np.float32]) -> NDArray[np.uint64]:
    """Return a word for each three adjacent numbers: the two ratios, rounded."""
    ratios = (numbers[1:] / numbers[:-1]).view(np.uint32) >> COARSE
    return (ratios[:-1].astype(np.uint64) << np.uint64(RATIO_BITS)) | ratios[1:]


def _neighbours(three: NDArray[np.float64]) -> NDArray[np.uint64]:
    """Return the words of three numbers, and of ratios one step above and below."""
    ratios = (three[1:] / three[:-1]).astype(np.float32).view(np.uint32) >> COARSE
    steps = np.array([-1, 0, 1])
    first, second = (int(ratio) + steps for ratio in ratios)
    words: NDArray[np.uint64] = ((first[:, None] << RATIO_BITS) | second[None]).ravel().astype(np.uint64)
    return words
