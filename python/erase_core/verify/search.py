"""Searches the files and values of a store for texts and vectors, in all encodings that a file is likely to use."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from erase_core.fs import handles
from erase_core.store.schema import FILE
from erase_core.verify.needles import PIECE, Joined, Needles

__all__ = ["Finding", "search"]

# Bytes to read at a time.
PART = 2**20


class Where(NamedTuple):
    """Where something was found: the file or value, the offset in it, and whether it is there whole."""

    place: str
    offset: int
    whole: bool


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
        Finding(*encodings[which][:2], where.place, where.offset, where.whole)
        for file in files
        if file.name != f"{FILE}-shm"
        for which, where in _first(_in_file(file, needles)).items()
    ]
    found = {(finding.number, finding.form) for finding in findings}
    encodings = [each for each in encodings if each[:2] not in found]
    if encodings:
        places = _first(_in_values(values, Needles([content for _, _, content in encodings])))
        findings += [
            Finding(*encodings[which][:2], where.place, where.offset, where.whole) for which, where in places.items()
        ]
    return findings


def _first(found: Iterable[tuple[int, Where]]) -> dict[int, Where]:
    """Return the first place of each needle: the first where it is whole, if there is one."""
    places: dict[int, Where] = {}
    for which, where in found:
        if which not in places or (where.whole and not places[which].whole):
            places[which] = where
    return places


def _in_file(file: Path, needles: Needles) -> Iterator[tuple[int, Where]]:
    for start, end, content in _parts(file, needles.longest):
        for found in needles.find(content, end):
            yield found.which, Where(str(file), start + found.offset, found.whole)


def _in_values(values: Iterable[tuple[str, bytes]], needles: Needles) -> Iterator[tuple[int, Where]]:
    for batch in _batches(values):
        joined = Joined([value for _, value in batch])
        for found in needles.find(joined.content, len(joined.content)):
            index, offset = joined.locate(found.offset)
            yield found.which, Where(batch[index][0], offset, found.whole)


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
