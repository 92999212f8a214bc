"""Where examples come from: finds the reader of a source, and makes examples of all its rows or says which are bad.

What stands in a file or a table is formats.py's business, what makes a row an example that of examples.py.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from erase_core.errors import ExampleError, ParameterError, SourceError
from erase_core.examples import FIELDS, BadRow, Example, Reading, RowFault, counted, example_of, id_faults
from erase_core.formats import READERS, SUFFIXES, Rows, first_line, read_frame

__all__ = ["read_examples"]


def read_examples(
    source: object,
    *,
    format: str | None = None,  # noqa: A002
    fields: Mapping[str, str] | None = None,
    skip_bad: bool = False,
) -> Reading:
    """Read and check examples.

    Parameters
    ----------
    source : path, pandas.DataFrame, datasets.Dataset or iterable of mappings or of Example
        A file is JSONL (``.jsonl``, ``.ndjson``), CSV or TSV with a header, Parquet, or JSON: a BIG-bench task or a
        list of objects.
    format : {"jsonl", "json", "csv", "tsv", "parquet"} or None, default=None
        Format of a file; None goes by its name.
    fields : mapping of str to str or None, default=None
        The column of a field where it has another name: ``{"input": "question", "output": "answer"}``. Columns that are
        no field are ignored.
    skip_bad : bool, default=False
        Leave bad rows out and list them, instead of refusing the source.

    Returns
    -------
    Reading

    Raises
    ------
    ExampleError
        A row is no example, or its id is missing, of another kind or taken.
    SourceError
        There is no such file, it is not of its format, or it has no rows.
    ParameterError
        `format` or `fields` is none of what is listed above.
    MissingPackageError
        Parquet is to be read, and pyarrow is not installed.

    Notes
    -----
    In CSV everything is text, an empty cell of `id`, `rationale` or `subject` is a missing one, and ids are integers if
    all of them are written as integers of 64 bits. Whole floats as ids are integers. A frame's index is not read.
    """
    columns = _columns(fields)
    needed = [column for name, column in columns.items() if name in {"input", "output", *(fields or ())}]
    if format is not None and format not in list(READERS):
        raise ParameterError(f"format must be None or one of {', '.join(READERS)}, got {format!r}")
    if not isinstance(source, (str, os.PathLike)):
        if format is not None:
            raise ParameterError(f"format is for files, got {format!r} for {type(source).__name__}; leave it out")
        return _gather(_of_object(source, columns), columns, needed, skip_bad)
    path = Path(os.fsdecode(source))
    try:
        return _gather(_of_file(path, format, columns), columns, needed, skip_bad)
    except OSError as error:
        raise SourceError(f"{path}: {first_line(error.strerror or error)}") from error


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
        found = ", ".join(repr(label) for label in list(labels)[:10])
        raise SourceError(f"{source.name} has no column {absent[0]!r}, only {found}; name its columns with `fields`")
    if not taken and not bad:
        raise SourceError(f"{source.name} has no rows")
    faults = id_faults(taken, source.unit)
    bad += [BadRow(source.name, line, columns.get("id", "id"), reason, source.unit) for line, reason in faults.items()]
    bad.sort(key=lambda row: row.line)
    if bad and not skip_bad:
        more = f" (and {counted(len(bad) - 1, 'more bad row')})" if len(bad) > 1 else ""
        raise ExampleError(f"{bad[0]}{more}; mend it, or leave bad rows out with skip_bad")
    return Reading([e for line, e in taken if line not in faults], bad, source.options, source.template)


def _of_object(source: object, columns: Mapping[str, str]) -> Rows:
    name = type(source).__name__
    if hasattr(source, "itertuples") and hasattr(source, "columns"):
        return read_frame(source, name, columns)
    if isinstance(source, (Mapping, bytes, bytearray)) or not isinstance(source, Iterable):
        hint = "give one split of it" if name == "DatasetDict" else "give a path, a table or an iterable of rows"
        raise SourceError(f"examples cannot be read from {name}; {hint}")
    return Rows(name, enumerate(source, 1))


def _of_file(path: Path, format: str | None, columns: Mapping[str, str]) -> Rows:  # noqa: A002
    if not path.exists():
        raise SourceError(f"{str(path)!r}: no such file")
    if path.is_dir():
        raise SourceError(f"{path} is a folder; give one file of it")
    kind = SUFFIXES.get(path.suffix.lower()) if format is None else format
    if kind is None:
        raise SourceError(f"{path}: its name does not tell its format; give `format`, one of {', '.join(READERS)}")
    return READERS[kind](path, columns)
