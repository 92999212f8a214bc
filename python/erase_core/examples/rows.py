"""The output of the readers of examples: numbered rows, with options, template and notes of the source.

A bad row is replaced by its fault, so that the caller can continue with the next row. If the whole source is
unreadable, a reader raises an error.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from erase_core.errors import SourceError

__all__ = ["Rows", "unique_labels"]


@dataclass
class Rows:
    """Numbered rows. A row is a mapping, an example or a fault; anything else is refused later.

    Parameters
    ----------
    name : str
        Name of the source, for messages.
    numbered : iterable of (int, object)
        Each row with its number, counted from 1.
    unit : {"row", "line"}, default="row"
        What the numbers count.
    labels : sequence, default=()
        Names of the columns, if the source knows them before its rows.
    options, template
        See `Reading`.
    notes : list of str
        See `Reading`. Complete only after all rows have been read.
    """

    name: str
    numbered: Iterable[tuple[int, object]]
    unit: str = "row"
    labels: Sequence[object] = ()
    options: tuple[str, ...] = ()
    template: dict[str, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)


def unique_labels(labels: Iterable[Any], name: str, wanted: Collection[str]) -> list[Any]:
    """Return the column names of a table. A column to read must be unique.

    Raises
    ------
    SourceError
        A wanted column occurs twice.
    """
    listed = list(labels)
    twice = [column for column in wanted if listed.count(column) > 1]
    if twice:
        raise SourceError(f"{name} has more than one column {twice[0]!r}. Rename all but one.")
    return listed
