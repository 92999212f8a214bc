"""What an example is: its fields, what each may hold, and ids that agree with one another.

How rows are found in files and tables is sources.py's business; numbering examples without ids is the store's.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from numbers import Integral, Real

import numpy as np

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
        The prompt template that a BIG-bench task brings, for `Template.from_dict`; else empty.
    """

    examples: list[Example]
    skipped: list[BadRow]
    options: tuple[str, ...] = ()
    template: dict[str, str] = field(default_factory=dict)


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
        subject=_text(row, columns.get("subject")),
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
    """What stands in a column; None for all that stands for nothing: NaN, and pandas' NA and NaT."""
    value = None if column is None else row.get(column)
    if isinstance(value, Real) and value != value:
        return None
    return None if type(value).__name__ in {"NAType", "NaTType"} else value


def _text(row: Mapping[str, object], column: str | None) -> str | None:
    value = _value(row, column)
    if value is None:
        return None
    if not isinstance(value, str):
        raise RowFault(column, f"must be text, got {type(value).__name__}")
    reason = unstorable(value) if value.strip() else "is empty"
    if reason:
        raise RowFault(column, reason)
    return str.__str__(value)  # of numpy.str_ and the like, the plain text


def _required(row: Mapping[str, object], column: str) -> str:
    text = _text(row, column)
    if text is None:
        raise RowFault(column, "is missing")
    return text


def _id(row: Mapping[str, object], column: str | None) -> int | str | None:
    value = _value(row, column)
    if value is None:
        return None
    if isinstance(value, str):
        reason = unstorable(value) if value else "is empty"
        if reason:
            raise RowFault(column, reason)
        return str.__str__(value)
    if isinstance(value, (float, np.floating)) and float(value).is_integer() and abs(float(value)) <= 2**53:
        value = int(value)  # a table keeps a column of integers as floats once one of them is missing
    if not isinstance(value, Integral) or isinstance(value, bool):
        raise RowFault(column, f"must be an integer or text, got {type(value).__name__}")
    if not -(2**63) <= int(value) < 2**63:
        raise RowFault(column, "must be an integer from -2**63 to 2**63 - 1")
    return int(value)


def _kind(id_: int | str | None) -> str:
    return "text" if isinstance(id_, str) else "an integer"
