"""The columns of an example's row, and the values that they may have."""

from __future__ import annotations

from collections.abc import Sequence

from erase_core.checks import MAX_ID, MIN_ID
from erase_core.examples.example import Example, unstorable

__all__ = ["COLUMNS", "ROW", "can_be_an_id", "typed"]

COLUMNS = "id, input, output, rationale, subject"
ROW = f"{COLUMNS}, salt, hash, vector"


def typed(fields: Sequence[object]) -> Example | None:
    """Return a row's fields as an example; None if a field has a wrong type, which SQLite does not check."""
    id_, *texts = fields
    sound = isinstance(id_, int | str) and all(isinstance(text, str) for text in texts[:2])
    return Example(*fields) if sound and all(isinstance(text, str | None) for text in texts) else None  # type: ignore[arg-type]


def can_be_an_id(id_: int | str) -> bool:
    """Whether the store could hold an example with this id."""
    if isinstance(id_, str):
        return not unstorable(id_)
    return isinstance(id_, int) and MIN_ID <= id_ <= MAX_ID
