"""Looks for texts and vectors in files, in every encoding in which they may stand there."""

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

__all__ = ["Finding", "forms_of_text", "forms_of_vector", "search"]

# A database splits what is long, so that it is looked for piece by piece.
PIECE = 128
SHORTEST = 4
# Read at a time.
PART = 2**20
# One in the fixed point of a model of unit vectors (docs/algorithm.md, section 3).
UNIT = 2**14


@dataclass(frozen=True)
class Finding:
    """A place where something was found.

    Parameters
    ----------
    number : int
        Which of those that were looked for, counted from 0.
    form : str
        Its encoding.
    place : str
        File, or table and column of a database.
    offset : int
        In bytes, from the place's beginning.
    whole : bool
        Whether all of it was found in one place, and not only pieces of it, which others may have too.
    """

    number: int
    form: str
    place: str
    offset: int
    whole: bool

    def __str__(self) -> str:
        part = "" if self.whole else f"{PIECE} bytes of "
        what = f"{part}number {self.number + 1} of what should be absent"
        return f"{self.place} holds {what}, as {self.form}, at {self.offset}"


def forms_of_text(text: str) -> dict[str, bytes]:
    """Return the ways in which a text may be written.

    Raises
    ------
    ParameterError
        It is so short that it is found everywhere.
    """
    plain = text.encode("utf-8", "surrogatepass")
    if len(plain) < SHORTEST:
        raise ParameterError(f"a text to look for must have at least {SHORTEST} bytes, got {text!r}")
    wide = {order: text.encode(order, "surrogatepass") for order in ("utf-16-le", "utf-16-be")}
    json_forms = {
        "JSON": json.dumps(text)[1:-1].encode(),
        "JSON in UTF-8": json.dumps(text, ensure_ascii=False)[1:-1].encode("utf-8", "surrogatepass"),
    }
    json_forms = {name: form for name, form in json_forms.items() if form != plain}
    return {"UTF-8": plain, **json_forms, "hex": plain.hex().encode(), **wide, **_in_base64(plain)}


def forms_of_vector(vector: NDArray[np.floating]) -> dict[str, bytes]:
    """Return the ways in which a vector may be written: as it is given, and as float32.

    Raises
    ------
    ParameterError
        It is all zeros, which are found everywhere.
    """
    single = np.ascontiguousarray(vector, dtype=np.float32)
    if not single.any():
        raise ParameterError("a vector to look for must not be all zeros")
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
    """Look for things, each in several forms: the first place of each form in each file, or else in some values.

    Parameters
    ----------
    files : iterable of Path
    wanted : iterable of mapping from str to bytes
        Forms of each thing.
    values : iterable of (str, bytes)
        Contents of a database, each with its place: in the file they may be split.

    SQLite's index of its log (``examples.sqlite-shm``) is left out: it holds numbers of pages alone, and locks, which
    whoever reads it would end.

    Raises
    ------
    OSError
        A file cannot be read.
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
        # Where not even all of them together have it, no single one has.
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
    """Return where the first of a needle's pieces is; -1 if none is there."""
    return min((at for piece in _pieces(needle) if (at := content.find(piece, 0, end)) >= 0), default=-1)


def _parts(file: Path) -> Iterator[tuple[int, int, bytearray]]:
    """Yield a file in parts, each with its offset and length; a part begins with the last bytes of the one before."""
    buffer = bytearray(PART)
    start, kept = 0, 0
    try:
        # One that another process has just replaced or deleted holds nothing.
        with suppress(FileNotFoundError), handles.reading(file) as descriptor:
            while count := os.preadv(descriptor, [memoryview(buffer)[kept:]], start + kept):
                end = kept + count
                yield start, end, buffer
                kept = min(2 * PIECE, end)
                start += end - kept
                buffer[:kept] = buffer[end - kept : end]
    finally:
        buffer[:] = bytes(PART)


def _pieces(needle: bytes) -> list[bytes]:
    """Return pieces of `PIECE` bytes that cover a needle; the needle itself if it is short."""
    starts = [*range(0, len(needle) - PIECE, PIECE), max(0, len(needle) - PIECE)]
    pieces = [needle[start : start + PIECE] for start in starts]
    # A run of one byte, of zeros above all, is found everywhere: it counts only where there is nothing else.
    return [piece for piece in pieces if len(set(piece)) > 1] or pieces[:1]


def _in_base64(content: bytes) -> dict[str, bytes]:
    """Return what is the same in base64 whatever stands before and after: one for each of three alignments."""
    forms = {}
    for before in range(3):
        whole = base64.b64encode(bytes(before) + content)
        first = (0, 2, 3)[before]
        last = (before + len(content)) * 8 // 6
        forms[f"base64, shifted by {before}"] = whole[first:last]
    return forms
