"""The formats of examples: one small reader for each, from a file or a table to rows by their lines; and a writer.

What makes a row an example is examples.py's business. A fault of one row is handed on in its place, so that a caller
can go on behind it; what makes the whole file unreadable is raised.
"""

from __future__ import annotations

import codecs
import csv
import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any

from erase_core.bigbench import read_task
from erase_core.errors import MissingPackageError, SourceError
from erase_core.examples import Example, RowFault

__all__ = ["READERS", "SUFFIXES", "Rows", "first_line", "read_frame", "write_jsonl"]


@dataclass
class Rows:
    """What a reader hands over: rows by their lines. A row is a mapping, an Example, a fault, or is refused."""

    name: str
    numbered: Iterable[tuple[int, object]]
    unit: str = "row"
    labels: Sequence[object] = ()  # the columns, where the source knows them before its rows
    options: tuple[str, ...] = ()
    template: dict[str, str] = field(default_factory=dict)


# ---- JSON ----
def _jsonl(path: Path, columns: Mapping[str, str]) -> Rows:
    return Rows(str(path), _json_lines(path), "line")


def _json_lines(path: Path) -> Iterator[tuple[int, object]]:
    with path.open("rb") as file:
        for line, raw in enumerate(file, 1):
            content = (raw.removeprefix(codecs.BOM_UTF8) if line == 1 else raw).rstrip()
            if content:
                yield line, _parsed(content)


def _json(path: Path, columns: Mapping[str, str]) -> Rows:
    name = str(path)
    raw = path.read_bytes().removeprefix(codecs.BOM_UTF8)
    content = _parsed(raw) if raw.strip() else []
    if isinstance(content, RowFault):
        hint = "; a file of one object a line is format='jsonl'" if "Extra data" in content.reason else ""
        raise SourceError(f"{name} {content.reason}{hint}")
    if isinstance(content, list):
        return Rows(name, enumerate(content, 1))
    examples = content.get("examples") if isinstance(content, dict) else None
    if not isinstance(content, dict) or not isinstance(examples, list):
        raise SourceError(f"{name} is neither a list of objects nor a BIG-bench task, which has a list 'examples'")
    task = read_task(content, examples, columns, name)
    return Rows(name, enumerate(task.rows, 1), options=task.options, template=task.template)


def _parsed(content: bytes) -> object:
    """Return the JSON, or what is wrong with it; of repeated keys the last counts, as everywhere in Python."""
    try:
        return json.loads(content.decode())
    except UnicodeDecodeError as error:
        return RowFault(None, f"is not UTF-8{_in_line(content, error.start)}")
    except json.JSONDecodeError as error:
        place = _in_line(content, len(error.doc[: error.pos].encode()))
        return RowFault(None, f"is not JSON{place}: {error.msg}, character {error.colno}")
    except (ValueError, RecursionError) as error:  # a number of thousands of digits, a list in a list in a list ...
        return RowFault(None, f"is not JSON that can be read: {first_line(error)}")


def _in_line(content: bytes, place: int) -> str:
    """Name the line of a byte, where there is more than one."""
    line = content.count(b"\n", 0, place) + 1
    return f" in line {line}" if b"\n" in content.rstrip() else ""


# ---- CSV ----
def _csv(path: Path, columns: Mapping[str, str], delimiter: str = ",") -> Rows:
    name = str(path)
    records = _records(path, delimiter)
    if not records:
        return Rows(name, ())
    header = _unique(records[0][1], name, columns)
    numbered = [(line, _cells(cells, header, columns)) for line, cells in records[1:]]
    ids = columns.get("id")
    rows = [row for _, row in numbered if isinstance(row, dict) and row.get(ids)]
    for row, id_ in zip(rows, _integers([row[ids] for row in rows]), strict=True):
        row[ids] = id_
    return Rows(name, numbered, "line", header)


def _records(path: Path, delimiter: str) -> list[tuple[int, list[str]]]:
    """Return the records that are not blank, each with its first line; bytes that are not UTF-8 become surrogates."""
    records = []
    line = 1
    with path.open(encoding="utf-8-sig", errors="surrogateescape", newline="") as file, _cells_of_any_length():
        reader = csv.reader(file, delimiter=delimiter, strict=True)
        try:
            for cells in reader:
                if len(cells) > 1 or "".join(cells).strip():
                    records.append((line, cells))
                line = reader.line_num + 1
        except csv.Error as error:
            # Where a quote is wrong, so may be every row after it: no fault of one row.
            raise SourceError(f"{path}, line {line} is not CSV: {error}; write a quote within quotes twice") from None
    return records


@contextmanager
def _cells_of_any_length() -> Iterator[None]:
    before = csv.field_size_limit(2**31 - 1)
    try:
        yield
    finally:
        csv.field_size_limit(before)


def _cells(cells: list[str], header: list[str], columns: Mapping[str, str]) -> object:
    """Return the cells that are fields by their columns, or the fault."""
    if re.search(r"[\udc80-\udcff]", "".join(cells)):
        return RowFault(None, "is not UTF-8")
    if len(cells) != len(header):
        return RowFault(None, f"has {len(cells)} cells where the header has {len(header)}")
    row = dict(zip(header, cells, strict=True))
    found = [(name, column) for name, column in columns.items() if column in row]
    return {column: row[column] for name, column in found if row[column] or name in {"input", "output"}}


def _integers(texts: list[str]) -> Sequence[int | str]:
    """Return texts as integers if all are ones of 64 bits, or all are with the ".0" that pandas may have added."""
    digits = [text[:-2] for text in texts] if all(text.endswith(".0") for text in texts) else texts
    if all(re.fullmatch(r"0|-?[1-9][0-9]{0,18}", text) for text in digits):
        integers = [int(text) for text in digits]
        if all(-(2**63) <= integer < 2**63 for integer in integers):
            return integers
    return texts


# ---- tables ----
def read_frame(frame: Any, name: str, columns: Mapping[str, str]) -> Rows:
    """Read a pandas frame, without its index."""
    labels = _unique(frame.columns, name, columns)
    wanted = [column for column in columns.values() if column in labels]
    rows = (dict(zip(wanted, values, strict=True)) for values in zip(*(frame[c] for c in wanted), strict=True))
    return Rows(name, enumerate(rows, 1), labels=labels)


def _parquet(path: Path, columns: Mapping[str, str]) -> Rows:
    try:
        pyarrow: Any = import_module("pyarrow")
        parquet: Any = import_module("pyarrow.parquet")
    except ImportError:
        raise MissingPackageError(f"{path}: reading Parquet needs pyarrow; pip install pyarrow") from None
    name = str(path)
    try:
        with path.open("rb") as file:
            content = parquet.ParquetFile(file)
            labels = _unique(content.schema_arrow.names, name, columns)
            wanted = [column for column in columns.values() if column in labels]
            rows = [row for batch in content.iter_batches(columns=wanted) for row in batch.to_pylist()]
    except (pyarrow.ArrowException, UnicodeDecodeError) as error:
        raise SourceError(f"{name} is not Parquet that can be read: {first_line(error)}") from None
    return Rows(name, enumerate(rows, 1), labels=labels)


def _unique(labels: Iterable[Any], name: str, columns: Mapping[str, str]) -> list[Any]:
    """Return a table's labels; one that a field is read from must not occur twice."""
    listed = list(labels)
    twice = [column for column in columns.values() if listed.count(column) > 1]
    if twice:
        raise SourceError(f"{name} has more than one column {twice[0]!r}; rename all but one")
    return listed


def first_line(error: object) -> str:
    """Return what an error says, on one line."""
    return (str(error).splitlines() or [type(error).__name__])[0]


Reader = Callable[[Path, Mapping[str, str]], Rows]
READERS: dict[str, Reader] = {
    "jsonl": _jsonl,
    "json": _json,
    "csv": _csv,
    "tsv": partial(_csv, delimiter="\t"),
    "parquet": _parquet,
}
SUFFIXES = {".ndjson": "jsonl", **{f".{kind}": kind for kind in READERS}}


def write_jsonl(path: Path, examples: Iterable[Example]) -> None:
    """Write examples to a new file as JSON lines; fields that are empty are left out.

    Raises
    ------
    OSError
        The file is there, or cannot be written; then it is not left half written.
    """
    rows = ({name: value for name, value in asdict(e).items() if value is not None} for e in examples)
    try:
        with path.open("x", encoding="utf-8") as file:
            file.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    except OSError as error:
        if not isinstance(error, FileExistsError):
            with suppress(OSError):
                path.unlink()  # it was not there before
        raise
