"""Examples and their checks: the type of each field, and ids that are consistent with one another.

Reading rows from files and tables is left to `reading`; numbering examples without ids is left to the store.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from numbers import Integral, Real

import numpy as np

from erase_core.checks import MAX_ID, MIN_ID

__all__ = ["AnyExample", "BadRow", "Example", "NewExample", "Reading"]

FIELDS = ("id", "input", "output", "rationale", "subject")
# An id that is an integer, as text.
INTEGER = r"0|-?[1-9][0-9]{0,18}"


@dataclass(frozen=True, slots=True, kw_only=True)
class NewExample:
    """A question with its answer, without an id: a store numbers it when it is ingested. Fields are given by name.

    Parameters
    ----------
    input, output, rationale, subject
        As for `Example`.
    """

    input: str
    output: str
    rationale: str | None = None
    subject: str | None = None

    @property
    def id(self) -> None:
        """There is no id yet."""
        return None

    def numbered(self, id_: int | str) -> Example:
        """Return the example with an id."""
        return Example(id_, self.input, self.output, self.rationale, self.subject)


@dataclass(frozen=True, slots=True)
class Example:
    """A question with its answer.

    Parameters
    ----------
    id : int or str
        Unique. Integers must fit in 64 bits, signed.
    input : str
        The question.
    output : str
        The answer.
    rationale : str or None, default=None
        Why the answer is right.
    subject : str or None, default=None
        The person or customer that the example is about. One subject may have many examples.
    """

    id: int | str
    input: str
    output: str
    rationale: str | None = None
    subject: str | None = None


AnyExample = Example | NewExample


@dataclass(frozen=True, slots=True)
class BadRow:
    """A row that is not a valid example.

    Parameters
    ----------
    source : str
        The file name as given, or the type of another source.
    line : int
        Where the row begins, counted from 1: the line in JSONL and CSV, the row in other sources.
    field : str or None
        The invalid column, by its name in the source. None if the whole row is invalid.
    reason : str
        What is wrong; completes a sentence that begins with the field.
    unit : str, default="line"
        What `line` counts: "line" or "row".
    """

    source: str
    line: int
    field: str | None
    reason: str
    unit: str = "line"

    def __str__(self) -> str:
        place = f"{self.source}, {self.unit} {self.line}"
        return f"{place}: {self.reason}" if self.field is None else f"{place}, field {self.field!r}: {self.reason}"


@dataclass(frozen=True)
class Reading:
    """The result of `read_examples`.

    Parameters
    ----------
    examples : list of Example or of NewExample
        In the order of the source: all of them with ids, or all without.
    skipped : list of BadRow
        Bad rows that were left out, in the order of the source.
    options : tuple of str
        The answers to choose from, sorted, if all examples of a BIG-bench task share them; otherwise empty.
    template : dict of str to str
        The prompt template of a BIG-bench task, or of the system message of chats, for `Template.from_dict`; otherwise
        empty.
    notes : tuple of str
        Hints for the caller as sentences: for example, columns that look like a field but are not read.
    """

    examples: Sequence[AnyExample]
    skipped: list[BadRow]
    options: tuple[str, ...] = ()
    template: dict[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


class RowFault(Exception):  # noqa: N818 -- never leaves the package: it becomes a BadRow
    """A row is not a valid example: the invalid column (None: the whole row) and the reason."""

    def __init__(self, column: str | None, reason: str) -> None:
        super().__init__(column, reason)
        self.column, self.reason = column, reason


def example_of(row: object, columns: Mapping[str, str]) -> AnyExample:
    """Return a row as a checked example.

    Parameters
    ----------
    row : mapping, Example or NewExample
    columns : mapping of str to str
        The column of each field. Ignored for an Example or a NewExample.

    Raises
    ------
    RowFault
        The row is not a valid example.
    """
    if isinstance(row, AnyExample):
        columns = {name: name for name in FIELDS}
        row = {name: getattr(row, name) for name in FIELDS}
    if not isinstance(row, Mapping):
        raise RowFault(None, f"must be an object with named fields, got {type(row).__name__}")
    id_ = _id(row, columns.get("id"))
    new = NewExample(
        input=_required(row, columns["input"]),
        output=_required(row, columns["output"]),
        rationale=_text(row, columns.get("rationale")),
        subject=_subject(row, columns.get("subject")),
    )
    return new if id_ is None else new.numbered(id_)


def id_faults(rows: Sequence[tuple[int, AnyExample]], unit: str) -> dict[int, str]:
    """Return the lines with inconsistent ids, each with the reason.

    Either all rows have an id or none; all ids have the type of the first; all ids are unique.

    Parameters
    ----------
    rows : sequence of (int, Example or NewExample)
        Lines and their examples.
    unit : str
        What messages call a line: "line" or "row".
    """
    first = next(((line, example.id) for line, example in rows if example.id is not None), None)
    if first is None:
        return {}
    faults: dict[int, str] = {}
    seen: dict[int | str, int] = {}
    for line, example in rows:
        if example.id is None:
            faults[line] = f"is missing, but {unit} {first[0]} has one"
        elif type(example.id) is not type(first[1]):
            faults[line] = f"is {_kind(example.id)}, but the one of {unit} {first[0]} is {_kind(first[1])}"
        elif example.id in seen:
            faults[line] = f"must be unique, but {unit} {seen[example.id]} has the same"
        else:
            seen[example.id] = line
    return faults


def integer_in(text: str) -> int | None:
    """Return a text that an integer id is written as, as that integer; None if it is another text."""
    integer = int(text) if re.fullmatch(INTEGER, text) else None
    return integer if integer is not None and MIN_ID <= integer <= MAX_ID else None


def counted(n: int, noun: str) -> str:
    """Return a number with its noun in the right form: ``"1 example"``, ``"2 keys"``, ``"2 queries"``."""
    if n == 1:
        return f"1 {noun}"
    changes = noun.endswith("y") and noun[-2] not in "aeiou"
    return f"{n} {noun[:-1]}ies" if changes else f"{n} {noun}s"


def unstorable(text: str) -> str | None:
    """Return why a text can be neither stored nor tokenised; None if it can."""
    if "\0" in text:
        return "contains a NUL character"
    try:
        text.encode()
    except UnicodeEncodeError as error:
        return f"contains half of a surrogate pair at character {error.start + 1}"
    return None


def _value(row: Mapping[str, object], column: str | None) -> object:
    """Return the value of a column; None for missing values such as NaN and pandas' NA and NaT."""
    value = None if column is None else row.get(column)
    if type(value) is str or value is None:  # the ordinary case first: the checks below take longer than all else
        return value
    if isinstance(value, Decimal) and value.is_nan():
        return None
    if isinstance(value, Real) and value != value:
        return None
    return None if type(value).__name__ in {"NAType", "NaTType"} else value


def _text(row: Mapping[str, object], column: str | None) -> str | None:
    """Return the text of a column. An integer becomes its text in CSV."""
    value = _value(row, column)
    if value is None:
        return None
    if isinstance(value, Integral) and not isinstance(value, bool):
        try:
            return str(int(value))
        except ValueError:  # Python limits the digits of such a conversion
            raise RowFault(column, "has too many digits") from None
    if not isinstance(value, str):
        raise RowFault(column, f"must be text or an integer, got {type(value).__name__}")
    reason = unstorable(value) if value.strip() else "is empty"
    if reason:
        raise RowFault(column, reason)
    return str.__str__(value)  # turns numpy.str_ and other subclasses into plain str


def _required(row: Mapping[str, object], column: str) -> str:
    text = _text(row, column)
    if text is None:
        raise RowFault(column, "is missing")
    return text


def _subject(row: Mapping[str, object], column: str | None) -> str | None:
    """Return the subject as text. Whole floats are accepted: a table may hold customer numbers as floats."""
    value = _value(row, column)
    if isinstance(value, (float, np.floating, Decimal)):
        return str(_whole(value, column, "text or an integer"))
    return _text(row, column)


def _id(row: Mapping[str, object], column: str | None) -> int | str | None:
    value = _value(row, column)
    if value is None:
        return None
    if isinstance(value, str):
        reason = unstorable(value) if value else "is empty"
        if reason:
            raise RowFault(column, reason)
        return str.__str__(value)
    whole = _whole(value, column, "an integer or text")
    if not MIN_ID <= whole <= MAX_ID:
        raise RowFault(column, "must be an integer from -2**63 to 2**63 - 1")
    return whole


def _whole(value: object, column: str | None, wanted: str) -> int:
    """Return a number as an integer. Refuse a float that may be a rounded integer.

    Tables turn a column of integers into floats if one value is missing. From 2**53 on (2**24 for 32 bits), several
    integers share one float.
    """
    kind = type(value).__name__
    if isinstance(value, Integral) and not isinstance(value, bool):
        return int(value)
    if isinstance(value, Decimal) and value.is_finite() and value.copy_abs() < 2**64 and value == int(value):
        return int(value)
    if isinstance(value, (float, np.floating)) and value.is_integer():
        bits = np.finfo(type(value)).nmant + 1 if isinstance(value, np.floating) else 53
        if abs(value) < 2**bits:
            return int(value)
        raise RowFault(column, f"must be {wanted}, got {kind}, which is exact only below 2**{bits}")
    raise RowFault(column, f"must be {wanted}, got {kind}")


def _kind(id_: int | str | None) -> str:
    return "text" if isinstance(id_, str) else "an integer"
