"""What a reader of examples hands over: rows with their numbers, and what else the source says.

A fault of one row is handed over in its place, so that a caller can read on behind it; what makes the whole source
unreadable is raised.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from erase_core.errors import SourceError

__all__ = ["Rows", "unique_labels"]


@dataclass
class Rows:
    """Rows by their lines. A row is a mapping, an example or a fault; anything else is refused later.

    Parameters
    ----------
    name : str
        The source, for messages.
    numbered : iterable of (int, object)
        Line or row, counted from 1, and the row.
    unit : {"row", "line"}, default="row"
        What is counted.
    labels : sequence, default=()
        The columns, where the source knows them before its rows.
    options, template
        See `Reading`.
    notes : list of str
        What the caller should know. Complete only when the rows have been read.
    """

    name: str
    numbered: Iterable[tuple[int, object]]
    unit: str = "row"
    labels: Sequence[object] = ()
    options: tuple[str, ...] = ()
    template: dict[str, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)


def unique_labels(labels: Iterable[Any], name: str, wanted: Collection[str]) -> list[Any]:
    """Return a table's labels; one that is read must not occur twice.

    Raises
    ------
    SourceError
    """
    listed = list(labels)
    twice = [column for column in wanted if listed.count(column) > 1]
    if twice:
        raise SourceError(f"{name} has more than one column {twice[0]!r}; rename all but one")
    return listed
