"""CSV, TSV and similar formats: cells between delimiters, with or without quotes.

A quoted cell may contain line breaks. But a stray quote has the same form, and would join the rows of two people. The
two cases cannot be distinguished with certainty. So a likely stray quote is refused, and the caller can say what quotes
mean.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import BinaryIO

from erase_core.checks import MAX_ID, MIN_ID
from erase_core.errors import ParameterError, SourceError
from erase_core.examples.content import Content
from erase_core.examples.example import INTEGER, RowFault, unstorable
from erase_core.examples.rows import Rows, unique_labels

__all__ = ["DELIMITED", "Dialect", "dialect_of", "read_delimited"]

DELIMITED = {"csv": ",", "tsv": "\t"}
QUOTE = '"'
FLOAT = r"(0|-?[1-9][0-9]*)\.0"
# The form in which pandas and spreadsheets write large floats, and Java: 1.5E10.
SCIENTIFIC = r"-?[0-9](?:(?:[.,][0-9]+)?[eE]\+|[.,][0-9]+[eE])[0-9]+"
ROUNDED = "is written as a float, which may have been rounded; write it as an integer or as text"
# Excel may name the delimiter in the first line.
NAMED_DELIMITER = re.compile(r"sep=([,;\t|])\r?\n?")


@dataclass(frozen=True, slots=True)
class Dialect:
    """The characters that separate and enclose cells.

    Parameters
    ----------
    delimiter : str
        One character.
    quotechar : str
        One character; empty if quotes are part of the text.
    is_named : bool
        Whether the caller gave the quotechar, so that the meaning of quotes is certain.
    """

    delimiter: str
    quotechar: str
    is_named: bool

    @property
    def options(self) -> dict[str, object]:
        """The arguments for `csv.reader`."""
        if not self.quotechar:
            return {"delimiter": self.delimiter, "quoting": csv.QUOTE_NONE}
        return {"delimiter": self.delimiter, "quotechar": self.quotechar, "strict": True}


def dialect_of(kind: str | None, delimiter: object, quotechar: object) -> Dialect | None:
    """Return the dialect of a format; None if the format has no delimiters.

    Raises
    ------
    ParameterError
        `delimiter` or `quotechar` is not one character, or is given for a format without delimiters.
    """
    for name, value in (("delimiter", delimiter), ("quotechar", quotechar)):
        if value is None:
            continue
        if kind not in DELIMITED:
            raise ParameterError(
                f"{name} is only for CSV and TSV, got {value!r} for {kind or 'another source'}. Leave it out."
            )
        empty = "empty for no quoting, or " if name == "quotechar" else ""
        is_one = isinstance(value, str) and (len(value) == 1 or (bool(empty) and not value))
        if not isinstance(value, str) or not is_one or value in {"\r", "\n"} or unstorable(value):
            raise ParameterError(f"{name} must be one character, {empty}None for the format's own, got {value!r}")
    if kind not in DELIMITED:
        return None
    chosen = str(delimiter or DELIMITED[kind])
    # TSV has no quoting: IANA, text/tab-separated-values.
    quotes = ("" if kind == "tsv" else QUOTE) if quotechar is None else str(quotechar)
    if chosen == quotes:
        raise ParameterError(f"delimiter and quotechar must differ, got {chosen!r} for both")
    dialect = Dialect(chosen, quotes, quotechar is not None)
    try:
        csv.reader([], **dialect.options)  # type: ignore[arg-type]
    except (TypeError, ValueError) as error:
        raise ParameterError(
            f"delimiter {chosen!r} and quotechar {quotes!r} cannot be used together: {error}"
        ) from None
    return dialect


def _likely_delimiter(label: str, delimiter: str) -> str | None:
    """Return the likely delimiter of a header that was read as a single column."""
    counts = {each: label.count(each) for each in ",;\t|" if each != delimiter and each in label}
    return max(counts, key=lambda each: counts[each]) if counts else None


def _delimiter_of_columns(header: Sequence[str], columns: Mapping[str, str], delimiter: str) -> str | None:
    """Return the delimiter by which a header has the needed columns, if it does not have them by the given one."""
    needed = {columns["input"], columns["output"]}
    if needed <= set(header):
        return None
    whole = delimiter.join(header)
    return next((each for each in ",;\t|" if needed <= {cell.strip().strip(QUOTE) for cell in whole.split(each)}), None)


def read_delimited(content: Content, columns: Mapping[str, str], dialect: Dialect) -> Rows:
    """Read a table with a header.

    Parameters
    ----------
    content : Content
    columns : mapping of str to str
        The column of each field.
    dialect : Dialect

    Raises
    ------
    SourceError
        Quotes are unbalanced, or seem to join several rows.
    """
    with content.opened() as stream:
        records, dialect = _records(content.name, stream, dialect)
    if not records:
        return Rows(content.name, ())
    header = unique_labels(records[0].cells, content.name, columns.values())
    if len(header) == 1 and (likely := _likely_delimiter(header[0], dialect.delimiter)):
        raise SourceError(_other_delimiter(content.name, likely))
    if likely := _delimiter_of_columns(header, columns, dialect.delimiter):
        raise SourceError(_other_delimiter(content.name, likely))
    _check_quotes(content.name, records, columns, dialect)
    numbered = [(record.line, _row(record, header, columns, dialect)) for record in records[1:]]
    _make_ids_integers(numbered, columns.get("id", ""))
    _make_subjects_integers(numbered, columns.get("subject", ""))
    notes = [] if dialect.quotechar or dialect.is_named else _notes_of_quotes(numbered, columns)
    return Rows(content.name, numbered, "line", header, notes=notes)


# ---- records ----
@dataclass(frozen=True, slots=True)
class _Record:
    """A record: the number of its first line, its cells, and its raw lines."""

    line: int
    cells: list[str]
    lines: list[str]


def _records(name: str, stream: BinaryIO, dialect: Dialect) -> tuple[list[_Record], Dialect]:
    """Return the records that are not blank, and the dialect. Bytes that are not UTF-8 become surrogates."""
    records = []
    text = io.TextIOWrapper(stream, encoding="utf-8-sig", errors="surrogateescape", newline="")
    lines = _Remembered(text)
    line = 1
    with _cells_of_any_length():
        try:
            first = next(lines, "")
            if named := NAMED_DELIMITER.fullmatch(first):
                dialect = Dialect(named[1], dialect.quotechar, dialect.is_named)
                line, first = 2, next(lines, "")
            lines.taken()
            reader = csv.reader(lines.after(first), **dialect.options)  # type: ignore[arg-type]
            start = line - 1
            for cells in reader:
                taken = lines.taken()
                if len(cells) > 1 or "".join(cells).strip():
                    records.append(_Record(line, cells, taken))
                line = start + reader.line_num + 1
        except csv.Error as error:
            # Where a quote is wrong, so may be every row after it: no fault of one row.
            raise SourceError(_not_csv(name, line, lines.taken(), dialect, error)) from None
        finally:
            text.detach()
    return records, dialect


class _Remembered:
    """An iterator over lines that remembers them until `taken` is called."""

    def __init__(self, lines: Iterable[str]) -> None:
        self._lines, self._taken = iter(lines), list[str]()

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        line = next(self._lines)
        self._taken.append(line)
        return line

    def after(self, first: str) -> Iterator[str]:
        """Yield a line that was read already, and then all others."""
        if first:
            self._taken.append(first)
            yield first
        yield from self

    def taken(self) -> list[str]:
        """Return the lines read since the last call."""
        taken, self._taken = self._taken, []
        return taken


@contextmanager
def _cells_of_any_length() -> Iterator[None]:
    before = csv.field_size_limit(2**31 - 1)
    try:
        yield
    finally:
        csv.field_size_limit(before)


# ---- quotes ----
def _not_csv(name: str, line: int, lines: Sequence[str], dialect: Dialect, error: csv.Error) -> str:
    if line == 1 and lines:
        likely = _likely_delimiter(lines[0], dialect.delimiter)
        if likely and dialect.delimiter not in lines[0]:
            return _other_delimiter(name, likely)
    return (
        f"{name}, line {line} is not CSV: {error}. Write a quote within quotes twice, or give quotechar='' "
        "(--quotechar '') if quotes are part of the text."
    )


def _check_quotes(name: str, records: Sequence[_Record], columns: Mapping[str, str], dialect: Dialect) -> None:
    """Refuse a cell over several lines if a stray quote may have begun it.

    This is likely if each of the lines is a complete row by itself, or if another cell contains a quote but is not
    enclosed in quotes. A program that encloses cells in quotes does not write such cells.
    """
    over_lines = [record for record in records[1:] if len(record.lines) > 1]
    if not over_lines or dialect.is_named:
        return
    header = records[0].cells
    needed = [header.index(columns[field]) for field in ("id", "input", "output") if columns.get(field) in header]
    id_ = header.index(columns["id"]) if columns.get("id") in header else None
    joined = [record for record in over_lines if _are_rows(record.lines, len(header), needed, id_, dialect)]
    stray = _first_stray(records, dialect) if not joined else None
    if joined:
        reason = "but each of these lines is a row by itself"
    elif stray is not None:
        reason = f"but line {stray} has a stray quote: in a cell that is not enclosed in quotes"
    else:
        return
    first = (joined or over_lines)[0]
    last = first.line + len(first.lines) - 1
    raise SourceError(
        f"{name}, line {first.line}: a quoted cell extends to line {last}, {reason}. Remove the "
        f"stray quote, or give quotechar={dialect.quotechar!r} if the cell has several lines, quotechar='' if quotes "
        "are part of the text (--quotechar)."
    )


def _are_rows(lines: Sequence[str], width: int, needed: Sequence[int], id_: int | None, dialect: Dialect) -> bool:
    """Whether each line is a complete row if quotes are ignored: right number of cells, required cells not blank."""
    rows = [line.rstrip("\r\n").split(dialect.delimiter) for line in lines]
    if any(len(cells) != width for cells in rows):
        return False
    # Only the first and last row are checked: those between may be bad rows.
    if not all(cells[i].strip().strip(dialect.quotechar).strip() for cells in (rows[0], rows[-1]) for i in needed):
        return False
    return id_ is None or len({re.fullmatch(INTEGER, cells[id_]) is None for cells in (rows[0], rows[-1])}) == 1


def _first_stray(records: Iterable[_Record], dialect: Dialect) -> int | None:
    """Return the line of the first record with a quote in a cell that is not enclosed in quotes."""
    quote, delimiter = re.escape(dialect.quotechar), re.escape(dialect.delimiter)
    cell = f"(?:{quote}[^{quote}]*(?:{quote}{quote}[^{quote}]*)*{quote}|[^{quote}{delimiter}\r\n]*)"
    whole = re.compile(f"{cell}(?:{delimiter}{cell})*[\r\n]*")
    for record in records:
        raw = "".join(record.lines)
        if dialect.quotechar in raw and not whole.fullmatch(raw):
            return record.line
    return None


def _notes_of_quotes(numbered: Iterable[tuple[int, object]], columns: Mapping[str, str]) -> list[str]:
    enclosed = re.compile('"(?:[^"]|"")*"')
    cells = [str(row.get(column, "")) for _, row in numbered if isinstance(row, dict) for column in columns.values()]
    count = sum(enclosed.fullmatch(cell) is not None for cell in cells)
    if not count:
        return []
    cells_are = "1 cell is" if count == 1 else f"{count} cells are"
    return [
        f"{cells_are} in quotes, which are read as part of the text, since TSV has no quoting; if the quotes only "
        "enclose the text, give quotechar='\"' (--quotechar '\"')"
    ]


def _other_delimiter(name: str, likely: str) -> str:
    # repr makes a tab visible; the command line reads \t as a tab.
    return f"{name}: columns seem to be separated by {likely!r}. Give delimiter={likely!r} (--delimiter {likely!r})."


# ---- rows ----
def _row(record: _Record, header: list[str], columns: Mapping[str, str], dialect: Dialect) -> object:
    """Return the cells of the fields by their columns, or a fault."""
    cells = record.cells
    if re.search(r"[\udc80-\udcff]", "".join(cells)):
        return RowFault(None, "is not UTF-8")
    if len(cells) != len(header):
        last = record.line + len(record.lines) - 1
        hint = "" if len(record.lines) < 2 else f"; a quote extends it to line {last}"
        if not dialect.is_named and not dialect.quotechar and any(cell.startswith(QUOTE) for cell in cells):
            hint = "; if quotes enclose cells, give quotechar='\"' (--quotechar '\"')"
        return RowFault(None, f"has {len(cells)} cells where the header has {len(header)}{hint}")
    row = dict(zip(header, cells, strict=True))
    found = [(name, column) for name, column in columns.items() if column in row]
    taken = {column: row[column] for name, column in found if row[column] or name in {"input", "output"}}
    subject = columns.get("subject", "")
    return RowFault(subject, ROUNDED) if re.fullmatch(SCIENTIFIC, taken.get(subject, "")) else taken


def _make_ids_integers(numbered: list[tuple[int, object]], column: str) -> None:
    """Turn ids into integers if all are written as integers. Replace a row whose id may be rounded by a fault."""
    for row, id_ in _converted(numbered, column, _ids):
        row[column] = id_


def _make_subjects_integers(numbered: list[tuple[int, object]], column: str) -> None:
    """Remove the ".0" that pandas adds to customers' numbers if one is missing, as in a frame of floats."""
    for row, subject in _converted(numbered, column, lambda texts: _floats(texts) or texts):
        row[column] = str(subject)


def _converted(
    numbered: list[tuple[int, object]], column: str, convert: Callable[[list[str]], Sequence[int | str | None]]
) -> Iterator[tuple[dict[str, object], int | str]]:
    """Yield each row that has the column, with its converted value. Replace a row whose value is None by a fault."""
    places = [i for i, (_, row) in enumerate(numbered) if isinstance(row, dict) and column in row]
    texts = [str(numbered[i][1][column]) for i in places]  # type: ignore[index]
    for i, value in zip(places, convert(texts), strict=True):
        line, row = numbered[i]
        if value is None:
            numbered[i] = (line, RowFault(column, ROUNDED))
        elif isinstance(row, dict):
            yield row, value


def _ids(texts: list[str]) -> Sequence[int | str | None]:
    """Return texts as integers if all are 64-bit integers. None for an id that is a float and may be rounded."""
    if all(re.fullmatch(INTEGER, text) for text in texts):
        integers = [int(text) for text in texts]
        return integers if all(MIN_ID <= integer <= MAX_ID for integer in integers) else texts
    # Pandas adds ".0" to all ids of a column if one is missing.
    return _floats(texts) or [None if re.fullmatch(SCIENTIFIC, text) else text for text in texts]


def _floats(texts: list[str]) -> Sequence[int | None]:
    """Return texts as integers, None for a rounded one, if all are written as whole floats; otherwise nothing."""
    if not all(re.fullmatch(f"{SCIENTIFIC}|{FLOAT}", text) for text in texts):
        return []
    return [None if re.fullmatch(SCIENTIFIC, text) else _exact(text[:-2]) for text in texts]


def _exact(digits: str) -> int | None:
    """Return the integer, or None if another integer has the same float."""
    return int(digits) if len(digits) <= 17 and abs(int(digits)) < 2**53 else None
