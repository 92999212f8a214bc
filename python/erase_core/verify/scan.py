"""Searches files for texts and vectors, in all encodings that a file is likely to use."""

from __future__ import annotations

import base64
import json
import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from erase_core.errors import ParameterError
from erase_core.fs import handles
from erase_core.store.schema import FILE

__all__ = ["PIECE", "SHORTEST", "Finding", "forms_of_text", "forms_of_vector", "pieces", "search"]

# A database splits long values, so they are searched in pieces of this many bytes.
PIECE = 128
SHORTEST = 4
# Bytes to read at a time.
PART = 2**20
# The value 1.0 in the fixed point of a model of unit vectors (docs/algorithm.md, section 3).
UNIT = 2**14


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


def forms_of_text(text: str) -> dict[str, bytes]:
    """Return the encodings of a text, by their names.

    Raises
    ------
    ParameterError
        The text is too short to be searched for: it would be found everywhere.
    """
    plain = text.encode("utf-8", "surrogatepass")
    if len(plain) < SHORTEST:
        raise ParameterError(f"absent must have only texts of at least {SHORTEST} bytes, got {text!r}")
    wide = {order: text.encode(order, "surrogatepass") for order in ("utf-16-le", "utf-16-be")}
    json_forms = {
        "JSON": json.dumps(text)[1:-1].encode(),
        "JSON in UTF-8": json.dumps(text, ensure_ascii=False)[1:-1].encode("utf-8", "surrogatepass"),
    }
    json_forms = {name: form for name, form in json_forms.items() if form != plain}
    return {"UTF-8": plain, **json_forms, "hex": plain.hex().encode(), **wide, **_in_base64(plain)}


def forms_of_vector(vector: NDArray[np.floating]) -> dict[str, bytes]:
    """Return the encodings of a vector, as given and as float32, by their names.

    Raises
    ------
    ParameterError
        The vector is all zeros, which would be found everywhere.
    """
    single = np.ascontiguousarray(vector, dtype=np.float32)
    if not single.any():
        raise ParameterError("absent must not have a vector of zeros, which would be found everywhere")
    fixed = np.rint(single.astype(np.float64) * UNIT).clip(-(2**15), 2**15 - 1)
    plain = single.astype("<f4").tobytes()
    forms = {
        "float32": plain,
        "float32, big-endian": single.astype(">f4").tobytes(),
        "float16": single.clip(-65504, 65504).astype("<f2").tobytes(),
        "int16": fixed.astype("<i2").tobytes(),
        **_in_base64(plain),
    }
    exact = {} if (single == vector).all() else {" as given": vector}
    for end, values in {"": single, **exact}.items():
        numbers = [repr(number) for number in values.tolist()]
        forms[f"float64{end}"] = values.astype("<f8").tobytes()
        forms[f"JSON{end}"] = ", ".join(numbers).encode()
        forms[f"compact JSON{end}"] = ",".join(numbers).encode()
    return forms


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
        The first place of each encoding in each file, or in the values.

    Raises
    ------
    OSError
        A file cannot be read.

    Notes
    -----
    SQLite's index of its log (``examples.sqlite-shm``) is skipped. It contains only page numbers and locks, and closing
    it after reading would end the locks.
    """
    needles = [(number, form, content) for number, forms in enumerate(wanted) for form, content in forms.items()]
    findings = [finding for file in files if file.name != f"{FILE}-shm" for finding in _in_file(file, needles)]
    found = {(finding.number, finding.form) for finding in findings}
    missing = [(number, form, needle) for number, form, needle in needles if (number, form) not in found]
    return findings + list(_in_values(values, missing)) if missing else findings


def _in_file(file: Path, needles: list[tuple[int, str, bytes]]) -> Iterator[Finding]:
    places: dict[tuple[int, str], tuple[int, bool]] = {}
    for start, end, content in _parts(file):
        for number, form, needle in needles:
            if (number, form) not in places:
                offset = _find(needle, content, end)
                if offset >= 0:
                    places[number, form] = (start + offset, content.startswith(needle, offset, end))
    for (number, form), (offset, whole) in places.items():
        yield Finding(number, form, str(file), offset, whole)


def _in_values(values: Iterable[tuple[str, bytes]], needles: list[tuple[int, str, bytes]]) -> Iterator[Finding]:
    for batch in _batches(values):
        # Search the joined values first: if they do not contain it, no single value does.
        joined = b"".join(value for _, value in batch)
        for number, form, needle in [each for each in needles if _find(each[2], joined, len(joined)) >= 0]:
            for place, value in batch:
                offset = _find(needle, value, len(value))
                if offset >= 0:
                    needles = [each for each in needles if each[:2] != (number, form)]
                    yield Finding(number, form, place, offset, value.startswith(needle, offset))
                    break


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


def _find(needle: bytes, content: bytes | bytearray, end: int) -> int:
    """Return the first offset of a piece of a needle; -1 if there is none."""
    return min((at for piece in pieces(needle) if (at := content.find(piece, 0, end)) >= 0), default=-1)


def _parts(file: Path) -> Iterator[tuple[int, int, bytearray]]:
    """Yield a file in parts, each with its offset and length. A part begins with the last bytes of the previous one."""
    buffer = bytearray(PART)
    start, kept = 0, 0
    try:
        # Another process may have just replaced or deleted the file.
        with suppress(FileNotFoundError), handles.reading(file) as descriptor:
            while count := os.preadv(descriptor, [memoryview(buffer)[kept:]], start + kept):
                end = kept + count
                yield start, end, buffer
                kept = min(2 * PIECE, end)
                start += end - kept
                buffer[:kept] = buffer[end - kept : end]
    finally:
        buffer[:] = bytes(PART)


def pieces(needle: bytes) -> list[bytes]:
    """Return pieces of `PIECE` bytes that cover a needle. A short needle is a single piece."""
    starts = [*range(0, len(needle) - PIECE, PIECE), max(0, len(needle) - PIECE)]
    pieces = [needle[start : start + PIECE] for start in starts]
    # A run of a single byte value, such as zeros, is found everywhere. It counts only if there is no other piece.
    return [piece for piece in pieces if len(set(piece)) > 1] or pieces[:1]


def _in_base64(content: bytes) -> dict[str, bytes]:
    """Return the base64 encodings that do not depend on the surrounding bytes: one for each of three alignments."""
    forms = {}
    for before in range(3):
        whole = base64.b64encode(bytes(before) + content)
        first = (0, 2, 3)[before]
        last = (before + len(content)) * 8 // 6
        forms[f"base64, shifted by {before}"] = whole[first:last]
    return forms
