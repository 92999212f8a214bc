"""Where examples come from: finds the reader of a source, and makes examples of all its rows or says which are bad.

How files and tables are read is left to formats.py and tables.py, what makes a row an example to examples.py.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence

from erase_core.checks import is_unordered
from erase_core.errors import ExampleError, ParameterError, SourceError, first_line, os_reason
from erase_core.examples import chat
from erase_core.examples.content import content_of, is_stream
from erase_core.examples.delimited import dialect_of
from erase_core.examples.example import FIELDS, BadRow, Example, Reading, RowFault, counted, example_of, id_faults
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
    source : path, open file, table or iterable of mappings or of Example
        A file, or an open one, is JSONL (``.jsonl``, ``.ndjson``), CSV or TSV with a header, Parquet, or JSON: a
        BIG-bench task or a list of objects. It may be compressed with gzip; its name then ends in ``.gz``. A table is
        what narwhals knows (pandas, polars, Arrow, DuckDB and others; lazy frames are collected) or a
        ``datasets.Dataset``. An iterable must have an order, so it may not be a set.
    format : {"jsonl", "json", "csv", "tsv", "parquet", "openai-chat"} or None, default=None
        Format of a file; None goes by its name. ``"openai-chat"`` is JSON lines with `messages`, as OpenAI takes them
        for fine-tuning, or any rows with such a column.
    fields : mapping of str to str or None, default=None
        The column of a field where it has another name: ``{"input": "question", "output": "answer"}``. Columns that are
        no field are ignored.
    skip_bad : bool, default=False
        Leave bad rows out and list them, instead of refusing the source.
    delimiter : str or None, default=None
        The character between the cells of CSV or TSV; None for a comma or a tab.
    quotechar : str or None, default=None
        The character around cells of CSV or TSV that hold delimiters or ends of lines. ``""``: quotes are part of the
        text. None: for TSV as ``""``, for CSV as ``'"'``, but a quoted cell over several lines is refused if a stray
        quote may have begun it.

    Returns
    -------
    Reading

    Raises
    ------
    ExampleError
        A row is not an example, its id is missing, a duplicate, or of another type than the first; or all rows are bad.
    SourceError
        The file does not exist, is not in its format, or has no rows.
    ParameterError
        `format`, `fields`, `delimiter` or `quotechar` is invalid.
    MissingPackageError
        pyarrow is needed for the source, and is not installed.

    Notes
    -----
    Integers are taken as the texts that they would be in CSV. In CSV everything is text, an empty cell of `id`,
    `rationale` or `subject` is a missing one, and ids are integers if all of them are written as integers of 64 bits.
    Whole floats as ids are integers if their type holds all integers up to them: below 2**53, in 32 bits below 2**24. A
    larger one may have been another id before it was rounded, and is refused. A pandas index is read if it has the
    name of a column that is read. Rows without ids are numbered in their order: sort a query that has none.

    A chat's answer is its last message, its question what was said before: the user's message alone, or all of them
    under ``User:`` and ``Assistant:``. System messages are left out; one that all rows share is in the `template`.
    """
    columns = _columns(fields)
    needed = [column for name, column in columns.items() if name in {"input", "output", *(fields or ())}]
    if format is not None and format not in list(FORMATS):
        raise ParameterError(f"format must be None or one of {', '.join(FORMATS)}, got {format!r}")
    is_file = isinstance(source, (str, os.PathLike)) or is_stream(source)
    if not is_file and format not in {None, chat.CHAT}:
        raise ParameterError(f"format is for files, got {format!r} for {type(source).__name__}; leave it out")
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
                f"{content.name}: its name does not tell its format; give format (--format): {', '.join(FORMATS)}"
            )
        rows = read_content(content, kind, columns, wanted, dialect_of(kind, delimiter, quotechar))
        return _gather(chat.as_examples(rows, columns) if kind == chat.CHAT else rows, columns, needed, skip_bad)
    except OSError as error:
        raise SourceError(f"{source}: {first_line(os_reason(error))}") from error


def _columns(fields: Mapping[str, str] | None) -> dict[str, str]:
    """Return the column of each field that is to be read.

    A column that is given to one field is not read for another whose name it happens to have.
    """
    given = {} if fields is None else fields
    if not isinstance(given, Mapping):
        raise ParameterError(f"fields must map fields to columns, got {type(fields).__name__}")
    for name, column in given.items():
        if name not in FIELDS:
            raise ParameterError(f"fields has {name!r}, which must be one of {', '.join(FIELDS)}")
        if not isinstance(column, str):
            raise ParameterError(f"fields must map {name!r} to the name of a column, got {column!r}")
    taken = list(given.values())
    columns = {name: given.get(name, name) for name in FIELDS if name in given or name not in taken}
    if len(set(taken)) < len(taken) or not {"input", "output"} <= columns.keys():
        raise ParameterError(
            f"fields must give each field a column of its own, input and output too, got {dict(given)}"
        )
    return columns


def _gather(source: Rows, columns: Mapping[str, str], needed: Sequence[str], skip_bad: bool) -> Reading:
    """Check every row, then the ids together."""
    labels = dict.fromkeys(source.labels)
    taken: list[tuple[int, Example]] = []
    bad: list[BadRow] = []
    for line, row in source.numbered:
        if not source.labels and isinstance(row, (Mapping, Example)):
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
            "all rows are bad; correct them"
            if skip_bad
            else "correct it, or leave bad rows out with skip_bad (--skip-bad)"
        )
        raise ExampleError(f"{bad[0]}{more}; {what}")
    notes = (*source.notes, *notes_of_unread(labels, columns))
    return Reading(examples, bad, source.options, source.template, notes)


def _no_column(name: str, column: str, labels: Sequence[object]) -> str:
    found = ", ".join(repr(label) for label in labels[:10])
    hint = f", or give format={chat.CHAT!r} (--format {chat.CHAT})" if chat.MESSAGES in labels else ""
    return f"{name} has no column {column!r}, only {found}; name its columns with fields (--field){hint}"


def _of_object(source: object, wanted: Sequence[str], id_column: str | None) -> Rows:
    name = type(source).__name__
    if is_unordered(source):
        raise SourceError(f"examples must be in an order, got a {name}, which has none; give a list")
    table = read_table(source, wanted, id_column)
    if table is not None:
        return table
    if isinstance(source, (Mapping, bytes, bytearray)) or not isinstance(source, Iterable):
        hint = "give one split of it" if name.endswith("DatasetDict") else "give a path, a table or an iterable of rows"
        raise SourceError(f"examples cannot be read from {name}; {hint}")
    return Rows(name, enumerate(source, 1))
