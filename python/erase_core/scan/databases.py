"""Reads the values of SQLite files, without changing anything in their folder.

A file is opened as immutable: no lock is taken, and no index of its log is written. If there is a log, file and log are
put together in memory.
"""

from __future__ import annotations

import sqlite3
import struct
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from urllib.parse import quote

from erase_core.fs import handles
from erase_core.scan.formats import CannotLookError

__all__ = ["values_of_bytes", "values_of_file"]

# Larger files are not put together with their logs in memory.
MOST_BYTES = 2**30
# sqlite.org/fileformat2.html, sections 1.3 and 4.1
LOG_MAGIC = (0x377F0682, 0x377F0683)
LOG_HEADER, FRAME_HEADER = 32, 24
VERSIONS, WITHOUT_LOG = slice(18, 20), b"\x01\x01"

# The message of an error may quote what is damaged, which is then not in UTF-8.
DAMAGE = (sqlite3.Error, UnicodeError, OverflowError)

Report = Callable[[str, str], None]


def values_of_file(file: Path, place: str, report: Report) -> Iterator[tuple[str, bytes]]:
    """Yield the texts and blobs of all tables of a file with their places, and those that its log changes.

    Parameters
    ----------
    file : Path
    place : str
    report : callable
        Called with a place and the reason if something cannot be read.
    """
    key = handles.hold(file)  # closing the file must not end locks that this process has on it
    try:
        try:
            uri = f"file:{quote(bytes(file.absolute()))}?mode=ro&immutable=1"
            with closing(sqlite3.connect(uri, uri=True, isolation_level=None)) as database:
                yield from _values(database, place, report)
        except DAMAGE as error:
            report(place, f"cannot be read by SQLite: {error}. Its pages were searched as raw bytes.")
        log = file.with_name(f"{file.name}-wal")
        if log.is_file() and log.stat().st_size > LOG_HEADER:
            yield from _with_log(file, log, f"{place} with its log", report)
    finally:
        handles.release(key)


def values_of_bytes(content: bytes | bytearray, place: str, report: Report) -> Iterator[tuple[str, bytes]]:
    """Yield the texts and blobs of all tables of a SQLite file in memory, with their places. See `values_of_file`."""
    patched = bytearray(content)
    patched[VERSIONS] = WITHOUT_LOG  # a file in memory cannot have a log
    try:
        with closing(sqlite3.connect(":memory:", isolation_level=None)) as database:
            database.deserialize(bytes(patched))
            yield from _values(database, place, report)
    except (*DAMAGE, AttributeError) as error:  # a SQLite without files in memory has no `deserialize`
        report(place, f"cannot be read by SQLite: {error}. Its pages were searched as raw bytes.")


def _values(database: sqlite3.Connection, place: str, report: Report) -> Iterator[tuple[str, bytes]]:
    database.executescript("PRAGMA trusted_schema = OFF; PRAGMA cell_size_check = ON;")
    database.text_factory = bytes
    # Virtual tables have no root page. What they store is in ordinary tables.
    tables = database.execute("SELECT name FROM sqlite_master WHERE type = 'table' AND rootpage > 0 ORDER BY name")
    for (table,) in tables.fetchall():
        name = table.decode("utf-8", "replace")
        try:
            yield from _of_table(database, name, place)
        except DAMAGE as error:
            report(f"{place} ({name})", f"cannot be read by SQLite: {error}. Its pages were searched as raw bytes.")


def _of_table(database: sqlite3.Connection, table: str, place: str) -> Iterator[tuple[str, bytes]]:
    # Not those that are computed: an expression of an unknown file may run for ever.
    rows = database.execute("SELECT name FROM pragma_table_xinfo(?) WHERE hidden = 0", (table,)).fetchall()
    columns = [column.decode("utf-8", "replace") for (column,) in rows]
    if not columns:
        return
    listed = ", ".join(_quoted(column) for column in columns)
    places = [f"{place} ({table}.{column})" for column in columns]
    for row in database.execute(f"SELECT {listed} FROM {_quoted(table)}"):
        for where, value in zip(places, row, strict=True):
            if isinstance(value, bytes):
                yield where, value


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def _with_log(file: Path, log: Path, place: str, report: Report) -> Iterator[tuple[str, bytes]]:
    if file.stat().st_size + log.stat().st_size > MOST_BYTES:
        report(place, "is too large to be read in memory. Its pages and the log were searched as raw bytes.")
        return
    try:
        yield from values_of_bytes(_merged(file.read_bytes(), log.read_bytes()), place, report)
    except (CannotLookError, struct.error) as error:
        report(place, f"{error}. Its pages and the log were searched as raw bytes.")


def _merged(content: bytes, log: bytes) -> bytearray:
    """Return a file with the committed pages of its log."""
    magic, _, size, _, *salts = struct.unpack_from(">6I", log)
    if magic not in LOG_MAGIC or not 512 <= size <= 65536:
        raise CannotLookError("the log is not a log of SQLite")
    merged, pending, pages = bytearray(content), {}, 0
    for at in range(LOG_HEADER, len(log) - FRAME_HEADER - size + 1, FRAME_HEADER + size):
        page, after, *own = struct.unpack_from(">4I", log, at)
        if own != salts:
            break  # of an earlier use of the log
        pending[page] = at + FRAME_HEADER
        if after:  # the last frame of a transaction has the size of the file after it, in pages
            pages = max(after, 1)
            if pages * size > MOST_BYTES:
                raise CannotLookError("the log is damaged")
            merged.extend(bytes(max(0, pages * size - len(merged))))
            for number, start in pending.items():
                if 1 <= number <= pages:
                    merged[(number - 1) * size : number * size] = log[start : start + size]
            pending = {}
    return merged[: pages * size] if pages else merged
