"""The file formats of examples: the list of formats, a reader for JSON and JSON lines, and a writer.

CSV is left to `delimited`, Parquet to `tables`, and the checks of examples to `example`.
"""

from __future__ import annotations

import codecs
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import BinaryIO

from erase_core.errors import SourceError, first_line
from erase_core.examples.bigbench import read_task
from erase_core.examples.chat import CHAT
from erase_core.examples.content import Content
from erase_core.examples.delimited import Dialect, read_delimited
from erase_core.examples.example import Example, RowFault
from erase_core.examples.rows import Rows
from erase_core.examples.tables import read_parquet

__all__ = ["FORMATS", "SUFFIXES", "json_lines", "read_content", "write_jsonl"]

FORMATS = ("jsonl", "json", "csv", "tsv", "parquet", CHAT)
TINY = Decimal("1E-999999")
SUFFIXES = {".jsonl": "jsonl", ".ndjson": "jsonl", ".json": "json", ".csv": "csv", ".tsv": "tsv", ".parquet": "parquet"}


def read_content(
    content: Content, kind: str, columns: Mapping[str, str], wanted: Sequence[str], dialect: Dialect | None
) -> Rows:
    """Read the rows of a file or a stream.

    Parameters
    ----------
    content : Content
    kind : str
        One of `FORMATS`.
    columns : mapping of str to str
        The column of each field.
    wanted : sequence of str
        All columns to read.
    dialect : Dialect or None
        For CSV and TSV; otherwise None.

    Raises
    ------
    SourceError
        The content does not have the given format.
    MissingPackageError
        The content is Parquet, and pyarrow is not installed.
    """
    if dialect is not None:
        return read_delimited(content, columns, dialect)
    if kind == "parquet":
        return read_parquet(content, wanted)
    if kind == "json":
        return _json(content, columns)
    return Rows(content.name, _json_lines(content), "line")


# ---- JSON ----
def _json_lines(content: Content) -> Iterator[tuple[int, object]]:
    with content.opened() as file:
        for line, raw in enumerate(file, 1):
            text = (raw.removeprefix(codecs.BOM_UTF8) if line == 1 else raw).rstrip()
            if text:
                yield line, _parsed(text)


def _json(source: Content, columns: Mapping[str, str]) -> Rows:
    name = source.name
    raw = source.read().removeprefix(codecs.BOM_UTF8)
    content = _parsed(raw) if raw.strip() else []
    if isinstance(content, RowFault):
        hint = ". If each line holds one object, give format='jsonl'." if "Extra data" in content.reason else ""
        raise SourceError(f"{name} {content.reason}{hint}")
    if isinstance(content, list):
        return Rows(name, enumerate(content, 1))
    examples = content.get("examples") if isinstance(content, dict) else None
    if not isinstance(content, dict) or not isinstance(examples, list):
        raise SourceError(f"{name} must be a list of objects, or a BIG-bench task, which has a list 'examples'")
    task = read_task(content, examples, columns, name)
    return Rows(name, enumerate(task.rows, 1), options=task.options, template=task.template)


def _parsed(content: bytes) -> object:
    """Return the value of a JSON text, or a fault. Of repeated keys the last one counts, as in `json.loads`."""
    try:
        return json.loads(content.decode(), parse_float=_number)
    except UnicodeDecodeError as error:
        return RowFault(None, f"is not UTF-8{_in_line(content, error.start)}")
    except json.JSONDecodeError as error:
        place = _in_line(content, len(error.doc[: error.pos].encode()))
        return RowFault(None, f"is not JSON{place}: {error.msg}, character {error.colno}")
    except (ValueError, RecursionError) as error:  # a number with thousands of digits, or lists nested too deeply
        return RowFault(None, f"cannot be read as JSON: {first_line(error)}")


def _number(text: str) -> float | Decimal:
    """Return a number with a decimal point or an exponent: a Decimal if a float would round it to an integer."""
    number = float(text)
    if number.is_integer() and abs(number) < 2**53:
        try:
            exact = Decimal(text)
        except InvalidOperation:  # an exponent beyond the limits of Decimal: nearly 0
            return TINY
        return number if exact == number else exact
    return number


def _in_line(content: bytes, place: int) -> str:
    """Return a phrase with the line of a byte; empty if there is only one line."""
    line = content.count(b"\n", 0, place) + 1
    return f" in line {line}" if b"\n" in content.rstrip() else ""


# ---- writing ----
def json_lines(examples: Iterable[Example]) -> Iterator[bytes]:
    """Yield examples as lines of JSON in UTF-8. Fields that are None are left out."""
    for example in examples:
        row = {name: value for name, value in asdict(example).items() if value is not None}
        yield json.dumps(row, ensure_ascii=False).encode() + b"\n"


def write_jsonl(target: Path | BinaryIO, examples: Iterable[Example]) -> None:
    """Write examples as JSON lines to a new file or to an open stream.

    Raises
    ------
    OSError
        The file exists or cannot be written. A partly written file is deleted.
    """
    if not isinstance(target, Path):
        target.writelines(json_lines(examples))
        target.flush()
        return
    try:
        with target.open("xb") as file:
            file.writelines(json_lines(examples))
    except OSError as error:
        if not isinstance(error, FileExistsError):
            with suppress(OSError):
                target.unlink()  # this call created it
        raise
