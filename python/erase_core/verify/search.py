"""Searches the files and values of a store for texts and vectors, in all encodings that a file is likely to use."""

from __future__ import annotations

import os
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path

from erase_core.fs import handles
from erase_core.store.schema import FILE
from erase_core.verify.needles import PIECE, Needles

__all__ = ["Finding", "search"]

# Bytes to read at a time.
PART = 2**20


@dataclass(frozen=True)
class Finding:
    """A text or vector found in a file.

    Parameters
    ----------
    number : int
        Index of the text or vector among those searched for, counted from 0.
    form : str
        The encoding in which it was found.
    place : str
        The file, or table and column of a database.
    offset : int
        Offset in bytes from the beginning of the place.
    whole : bool
        Whether all of it was found there, not only a piece, which other values may contain, too.
    """

    number: int
    form: str
    place: str
    offset: int
    whole: bool

    def __str__(self) -> str:
        part = "" if self.whole else f"{PIECE} bytes of "
        what = f"{part}number {self.number + 1} of the texts and vectors that should be absent"
        return f"{self.place} contains {what}, as {self.form}, at byte {self.offset}"


def search(
    files: Iterable[Path], wanted: Iterable[Mapping[str, bytes]], values: Iterable[tuple[str, bytes]] = ()
) -> list[Finding]:
    """Search files for texts and vectors, each in several encodings.

    Parameters
    ----------
    files : iterable of Path
    wanted : iterable of mapping from str to bytes
        The encodings of each text or vector by their names.
    values : iterable of (str, bytes)
        Values of a database with their places. Encodings that are in no file are searched in them, since the database
        may split a value in its file.

    Returns
    -------
    list of Finding
        The first place of each encoding in each file, or in the values: where all of it is, or else a piece.

    Raises
    ------
    OSError
        A file cannot be read.

    Notes
    -----
    SQLite's index of its log (``examples.sqlite-shm``) is skipped. It contains only page numbers and locks, and closing
    it after reading would end the locks.
    """
    encodings = [(number, form, content) for number, forms in enumerate(wanted) for form, content in forms.items()]
    needles = Needles([content for _, _, content in encodings])
    findings = [
        Finding(*encodings[which][:2], str(file), offset, whole)
        for file in files
        if file.name != f"{FILE}-shm"
        for which, (offset, whole) in _in_file(file, needles).items()
    ]
    found = {(finding.number, finding.form) for finding in findings}
    encodings = [each for each in encodings if each[:2] not in found]
    if encodings:
        places = _in_values(values, Needles([content for _, _, content in encodings]))
        findings += [
            Finding(*encodings[which][:2], place, offset, whole) for which, (place, offset, whole) in places.items()
        ]
    return findings


def _in_file(file: Path, needles: Needles) -> dict[int, tuple[int, bool]]:
    """Return where each needle is that is in a file: the offset, and whether it is whole."""
    places: dict[int, tuple[int, bool]] = {}
    for start, end, content in _parts(file, needles.longest):
        for found in needles.find(content, end):
            if found.which not in places or (found.whole and not places[found.which][1]):
                places[found.which] = start + found.offset, found.whole
    return places


def _in_values(values: Iterable[tuple[str, bytes]], needles: Needles) -> dict[int, tuple[str, int, bool]]:
    """Return where each needle is that is in a value: the value's place, the offset, and whether it is whole."""
    places: dict[int, tuple[str, int, bool]] = {}
    # Between values that are searched at once: nothing is found across it.
    separator = os.urandom(16)
    for batch in _batches(values):
        joined = separator.join(value for _, value in batch)
        starts = [0, *accumulate(len(value) + len(separator) for _, value in batch)]
        for found in needles.find(joined, len(joined)):
            if found.which not in places or (found.whole and not places[found.which][2]):
                value = bisect_right(starts, found.offset) - 1
                places[found.which] = batch[value][0], found.offset - starts[value], found.whole
    return places


def _batches(values: Iterable[tuple[str, bytes]]) -> Iterator[list[tuple[str, bytes]]]:
    """Yield values in lists of about `PART` bytes."""
    batch: list[tuple[str, bytes]] = []
    size = 0
    for place, value in values:
        batch.append((place, value))
        size += len(value)
        if size >= PART:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch


def _parts(file: Path, overlap: int) -> Iterator[tuple[int, int, bytearray]]:
    """Yield a file in parts, each with its offset and length. A part begins with the last `overlap` bytes before it."""
    buffer = bytearray(overlap + PART)
    start, kept = 0, 0
    try:
        # Another process may have just replaced or deleted the file.
        with suppress(FileNotFoundError), handles.reading(file) as descriptor:
            while count := os.preadv(descriptor, [memoryview(buffer)[kept : kept + PART]], start + kept):
                end = kept + count
                yield start, end, buffer
                kept = min(overlap, end)
                start += end - kept
                buffer[:kept] = buffer[end - kept : end]
    finally:
        buffer[:] = bytes(len(buffer))
