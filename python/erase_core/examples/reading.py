"""`read_examples`: chooses the reader for a source, turns its rows into examples, and lists the bad rows.

Reading files and tables is left to `formats` and `tables`, the checks of a single row to `example`.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence

from erase_core.checks import is_unordered
from erase_core.errors import ExampleError, ParameterError, SourceError, first_line, os_reason
from erase_core.examples import chat
from erase_core.examples.content import content_of, is_stream
from erase_core.examples.delimited import dialect_of
from erase_core.examples.example import FIELDS, AnyExample, BadRow, Reading, RowFault, counted, example_of, id_faults
from erase_core.examples.formats import FORMATS, SUFFIXES, read_content
from erase_core.examples.rows import Rows
from erase_core.examples.tables import read_table
from erase_core.examples.unread import notes_of_unread

__all__ = ["read_examples"]


def read_examples(
    source: object,
    *,
    format: str | None = None,  # noqa: A002
    fields: Mapping[str, str] | None = None,
    skip_bad: bool = False,
    delimiter: str | None = None,
    quotechar: str | None = None,
) -> Reading:
    """Read and check examples.

    Parameters
    ----------
    source : path, open file, table or iterable of mappings, Example or NewExample objects
        A path or an open file contains JSONL (``.jsonl``, ``.ndjson``), CSV or TSV with a header, Parquet, or JSON: a
        BIG-bench task or a list of objects. A file may be compressed with gzip if its name ends in ``.gz``. A table is
        any table that narwhals supports (pandas, polars, Arrow, DuckDB and others; lazy frames are collected) or a
        ``datasets.Dataset``. An iterable must have an order, so it must not be a set.
    format : {"jsonl", "json", "csv", "tsv", "parquet", "openai-chat"} or None, default=None
        Format of a file. None: by its name. ``"openai-chat"``: JSON lines with `messages`, in the format of OpenAI's
        fine-tuning, or any rows with such a column.
    fields : mapping of str to str or None, default=None
        Column names of fields, if they differ from the field names: ``{"input": "question", "output": "answer"}``.
        Other columns are ignored.
    skip_bad : bool, default=False
        Leave bad rows out and list them, instead of raising an error.
    delimiter : str or None, default=None
        The character between cells in CSV or TSV. None: a comma or a tab.
    quotechar : str or None, default=None
        The character around cells in CSV or TSV that contain delimiters or line breaks. ``""``: quotes are part of the
        text. None: ``""`` for TSV, ``'"'`` for CSV; but a quoted cell over several lines is refused if a stray quote
        may have begun it.

    Returns
    -------
    Reading

    Raises
    ------
    ExampleError
        A row is not a valid example; an id is missing, repeated or of another type than the first; or all rows are bad.
    SourceError
        The file does not exist, has another format, or has no rows.
    ParameterError
        `format`, `fields`, `delimiter` or `quotechar` is invalid.
    MissingPackageError
        The source needs pyarrow, which is not installed.

    Notes
    -----
    Integers in text fields become text, as in CSV. In CSV all cells are text; an empty cell of `id`, `rationale` or
    `subject` is a missing value; ids are integers if all of them are written as 64-bit integers. Whole floats are
    accepted as integer ids below 2**53 (float32: below 2**24). Larger ones are refused, since they may be rounded. A
    pandas index is read if it has the name of a column to read. Rows without ids are numbered in their order, so give
    the rows of a database query an order.

    The answer of a chat is its last message. Its question is the user's message before it; in longer chats, all
    messages before it, marked ``User:`` and ``Assistant:``. System messages are left out. If all rows share one, it is
    the instruction of the `template`.
    """
    columns = _columns(fields)
    needed = [column for name, column in columns.items() if name in {"input", "output", *(fields or ())}]
    if format is not None and format not in list(FORMATS):
        raise ParameterError(f"format must be None or one of {', '.join(FORMATS)}, got {format!r}")
    is_file = isinstance(source, (str, os.PathLike)) or is_stream(source)
    if not is_file and format not in {None, chat.CHAT}:
        raise ParameterError(f"format is only for files, got {format!r} for {type(source).__name__}. Leave it out.")
    wanted = list(columns.values())
    if format == chat.CHAT:
        chat.check_fields(fields or ())
        wanted.append(chat.MESSAGES)
    if not is_file:
        dialect_of(None, delimiter, quotechar)
        rows = _of_object(source, wanted, columns.get("id"))
        return _gather(chat.as_examples(rows, columns) if format == chat.CHAT else rows, columns, needed, skip_bad)
    try:
        content = content_of(source)  # type: ignore[arg-type]
        kind = SUFFIXES.get(content.suffix) if format is None else format
        if kind is None:
            raise SourceError(
                f"{content.name}: the name does not show the format. Give format (--format): {', '.join(FORMATS)}."
            )
        rows = read_content(content, kind, columns, wanted, dialect_of(kind, delimiter, quotechar))
        return _gather(chat.as_examples(rows, columns) if kind == chat.CHAT else rows, columns, needed, skip_bad)
    except OSError as error:
        raise SourceError(f"{source}: {first_line(os_reason(error))}") from error


def _columns(fields: Mapping[str, str] | None) -> dict[str, str]:
    """Return the column of each field to read.

    A column assigned to one field is not read for another field of the same name.
    """
    given = {} if fields is None else fields
    if not isinstance(given, Mapping):
        raise ParameterError(f"fields must map fields to columns, got {type(fields).__name__}")
    for name, column in given.items():
        if name not in FIELDS:
            raise ParameterError(f"fields must have only keys from {', '.join(FIELDS)}, got {name!r}")
        if not isinstance(column, str):
            raise ParameterError(f"fields must map {name!r} to the name of a column, got {column!r}")
    taken = list(given.values())
    columns = {name: given.get(name, name) for name in FIELDS if name in given or name not in taken}
    if len(set(taken)) < len(taken) or not {"input", "output"} <= columns.keys():
        raise ParameterError(
            f"fields must assign a different column to each field, including input and output, got {dict(given)}"
        )
    return columns


def _gather(source: Rows, columns: Mapping[str, str], needed: Sequence[str], skip_bad: bool) -> Reading:
    """Check every row, then the ids together."""
    labels = dict.fromkeys(source.labels)
    taken: list[tuple[int, AnyExample]] = []
    bad: list[BadRow] = []
    for line, row in source.numbered:
        if not source.labels and isinstance(row, (Mapping, AnyExample)):
            labels.update(dict.fromkeys(row if isinstance(row, Mapping) else needed))
        try:
            if isinstance(row, RowFault):
                raise row
            taken.append((line, example_of(row, columns)))
        except RowFault as fault:
            bad.append(BadRow(source.name, line, fault.column, fault.reason, source.unit))
    absent = [column for column in needed if column not in labels]
    if labels and absent:
        raise SourceError(_no_column(source.name, absent[0], list(labels)))
    if not taken and not bad:
        raise SourceError(f"{source.name} has no rows")
    faults = id_faults(taken, source.unit)
    bad += [BadRow(source.name, line, columns.get("id", "id"), reason, source.unit) for line, reason in faults.items()]
    bad.sort(key=lambda row: row.line)
    examples = [example for line, example in taken if line not in faults]
    if bad and not (skip_bad and examples):
        more = f" (and {counted(len(bad) - 1, 'more bad row')})" if len(bad) > 1 else ""
        what = (
            "All rows are bad. Correct them"
            if skip_bad
            else "Correct it, or leave bad rows out with skip_bad (--skip-bad)"
        )
        raise ExampleError(f"{bad[0]}{more}. {what}.")
    notes = (*source.notes, *notes_of_unread(labels, columns))
    return Reading(examples, bad, source.options, source.template, notes)


def _no_column(name: str, column: str, labels: Sequence[object]) -> str:
    found = ", ".join(repr(label) for label in labels[:10])
    hint = f", or give format={chat.CHAT!r} (--format {chat.CHAT})" if chat.MESSAGES in labels else ""
    return f"{name} has no column {column!r}, only {found}. Name its columns with fields (--field){hint}."


def _of_object(source: object, wanted: Sequence[str], id_column: str | None) -> Rows:
    name = type(source).__name__
    if is_unordered(source):
        raise SourceError(f"examples must have an order, got a {name}, which has none. Give a list.")
    table = read_table(source, wanted, id_column)
    if table is not None:
        return table
    if isinstance(source, (Mapping, bytes, bytearray)) or not isinstance(source, Iterable):
        hint = "one of its splits" if name.endswith("DatasetDict") else "a path, a table or an iterable of rows"
        raise SourceError(f"examples cannot be read from {name}. Give {hint}.")
    return Rows(name, enumerate(source, 1))
