"""One thing that `verify` or `verify_receipts` finds wrong."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

__all__ = ["Problem"]

Kind = Literal[
    "tampered", "reordered", "omitted", "truncated", "newer", "forged", "unsigned", "foreign", "unbalanced",
    "model", "examples", "forgotten", "files", "receipts",
]  # fmt: skip


@dataclass(frozen=True)
class Problem:
    """What is wrong with a chain of receipts, or with a store.

    Parameters
    ----------
    number : int or None
        The receipt; None if it is the store that something is wrong with.
    kind : str
        ``tampered``: it, or the one before, is not what was written. ``reordered``: it stands in another's place.
        ``omitted``: it is missing between others. ``truncated``: it is missing at the end. ``newer``: it follows the
        one that was named as the newest. ``forged``: its signature is not that of its key, or not of one that was
        named. ``unsigned``: it has none, though keys were named.
        ``foreign``: it is of another store than the first. ``unbalanced``: before is not after and what was removed.
        Of a store: what it is that is not as it should be, its ``model``, ``examples``, list of what was ``forgotten``,
        ``files``, or ``receipts`` as it knows them.
    text : str
        A sentence that says what was found.
    """

    number: int | None
    kind: Kind
    text: str

    def __str__(self) -> str:
        return self.text if self.number is None else f"receipt {self.number} is {self.kind}: {self.text}"
