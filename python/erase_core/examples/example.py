"""What an example is: its fields, what each may hold, and ids that agree with one another.

How rows are found in files and tables is sources.py's business; numbering examples without ids is the store's.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from numbers import Integral, Real

import numpy as np

from erase_core import checks

__all__ = ["BadRow", "Example", "Reading"]

FIELDS = ("id", "input", "output", "rationale", "subject")


@dataclass(frozen=True, slots=True)
class Example:
    """A question with its answer.

    Parameters
    ----------
    id : int, str or None
        Unique; integers are 64 bits, signed. None only until a store has numbered the example.
    input : str
        The question.
    output : str
        The answer.
    rationale : str or None, default=None
        Why the answer is right.
    subject : str or None, default=None
        The person or customer that the example is about. One subject may have many examples.
    """

    id: int | str | None
    input: str
    output: str
    rationale: str | None = None
    subject: str | None = None


@dataclass(frozen=True, slots=True)
class BadRow:
    """A row that is no example.

    Parameters
    ----------
    source : str
        The file as it was given, or the type of another source.
    line : int
        Where the row begins, counted from 1: a line of JSONL and CSV, a row of anything else.
    field : str or None
        The column at fault, by the source's name for it; None if it is the whole row.
    reason : str
        What is wrong, to be read after the field.
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
    """What was read from a source.

    Parameters
    ----------
    examples : list of Example
        In the order of the source.
    skipped : list of BadRow
        Rows that were left out, in the order of the source.
    options : tuple of str
        The answers to choose from, sorted, where all examples of a BIG-bench task share them; else empty.
    template : dict of str to str
        The prompt template that a BIG-bench task or the system message of chats brings, for `Template.from_dict`; else
        empty.
    notes : tuple of str
        What the caller should know, as sentences: columns that look like a field but are not read, an index of pandas
        that is not read, and the like.
    """

    examples: list[Example]
    skipped: list[BadRow]
    options: tuple[str, ...] = ()
    template: dict[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


class RowFault(Exception):  # noqa: N818 -- never leaves the package: it becomes a BadRow
    """A row is no example: the column at fault, None for the whole row, and the reason."""

    def __init__(self, column: str | None, reason: str) -> None:
        super().__init__(column, reason)
        self.column, self.reason = column, reason


def example_of(row: object, columns: Mapping[str, str]) -> Example:
    """Return a row as a checked example.

    Parameters
    ----------
    row : mapping or Example
    columns : mapping of str to str
        The column of each field that is to be read. An Example has its fields under their own names.

    Raises
    ------
    RowFault
        The row is no example.
    """
    if isinstance(row, Example):
        columns = {name: name for name in FIELDS}
        row = {name: getattr(row, name) for name in FIELDS}
    if not isinstance(row, Mapping):
        raise RowFault(None, f"must be an object with named fields, got {type(row).__name__}")
    return Example(
        id=_id(row, columns.get("id")),
        input=_required(row, columns["input"]),
        output=_required(row, columns["output"]),
        rationale=_text(row, columns.get("rationale")),
        subject=_subject(row, columns.get("subject")),
    )


def id_faults(rows: Sequence[tuple[int, Example]], unit: str) -> dict[int, str]:
    """Return the lines whose ids do not agree with those of the others, each with the reason.

    Either no row has an id or every row has; all are of the kind of the first; each occurs once.

    Parameters
    ----------
    rows : sequence of (int, Example)
        Examples and the lines they come from.
    unit : str
        What the lines are called.
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
            faults[line] = f"is {_kind(example.id)}, but that of {unit} {first[0]} is {_kind(first[1])}"
        elif example.id in seen:
            faults[line] = f"is that of {unit} {seen[example.id]} already"
        else:
            seen[example.id] = line
    return faults


def counted(n: int, noun: str) -> str:
    """Return a number with its noun: ``"1 example"``, ``"2 examples"``; "y" at its end becomes "ies"."""
    if n == 1:
        return f"1 {noun}"
    return f"{n} {noun[:-1]}ies" if noun.endswith("y") else f"{n} {noun}s"


def unstorable(text: str) -> str | None:
    """Return why a text can be neither stored nor tokenized, or None if it can."""
    if "\0" in text:
        return "holds a NUL character"
    try:
        text.encode()
    except UnicodeEncodeError as error:
        return f"holds half of a surrogate pair at character {error.start + 1}"
    return None


def _value(row: Mapping[str, object], column: str | None) -> object:
    """Return what a column holds; None for all that stands for nothing: NaN, and pandas' NA and NaT."""
    value = None if column is None else row.get(column)
    if isinstance(value, Decimal) and value.is_nan():
        return None
    if isinstance(value, Real) and value != value:
        return None
    return None if type(value).__name__ in {"NAType", "NaTType"} else value


def _text(row: Mapping[str, object], column: str | None) -> str | None:
    """Return the text of a column; an integer is the text that it would be in CSV."""
    value = _value(row, column)
    if value is None:
        return None
    if isinstance(value, Integral) and not isinstance(value, bool):
        try:
            return str(int(value))
        except ValueError:  # Python's own bound
            raise RowFault(column, "has too many digits") from None
    if not isinstance(value, str):
        raise RowFault(column, f"must be text or an integer, got {type(value).__name__}")
    reason = unstorable(value) if value.strip() else "is empty"
    if reason:
        raise RowFault(column, reason)
    return str.__str__(value)  # of numpy.str_ and the like, the plain text


def _required(row: Mapping[str, object], column: str) -> str:
    text = _text(row, column)
    if text is None:
        raise RowFault(column, "is missing")
    return text


def _subject(row: Mapping[str, object], column: str | None) -> str | None:
    """Return the subject: a text, or a whole number as text, since a table may keep customers' numbers as floats."""
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
    if not checks.MIN_ID <= whole <= checks.MAX_ID:
        raise RowFault(column, "must be an integer from -2**63 to 2**63 - 1")
    return whole


def _whole(value: object, column: str | None, wanted: str) -> int:
    """Return the integer that a number is, if it cannot have been another one before it was stored in its type.

    A table keeps a column of integers as floats once one of them is missing. From 2**53 on, or 2**24 in 32 bits, other
    integers have the same float.
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
