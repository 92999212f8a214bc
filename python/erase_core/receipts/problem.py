"""A problem found by `verify` or `verify_receipts`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

__all__ = ["Problem"]

Kind = Literal[
    "tampered", "reordered", "omitted", "truncated", "newer", "forged", "unsigned", "foreign", "unbalanced",
    "model", "examples", "forgotten", "keys", "files", "receipts",
]  # fmt: skip


@dataclass(frozen=True)
class Problem:
    """A problem of a chain of receipts, or of a store.

    Parameters
    ----------
    number : int or None
        Number of the receipt; None for a problem of the store.
    kind : str
        Of a receipt:

        - ``tampered``: the receipt or the one before it was modified or replaced.
        - ``reordered``: the receipt is in the place of another one.
        - ``omitted``: the receipt is missing, but there are later ones.
        - ``truncated``: the receipt is missing at the end.
        - ``newer``: the receipt follows the one that was named as the newest.
        - ``forged``: the signature does not match its key, or the key is not one of the named ones.
        - ``unsigned``: keys were named, but the receipt has no signature.
        - ``foreign``: the receipt belongs to another store than the first one.
        - ``unbalanced``: the examples before the removal are not the remaining and the removed ones.

        Of a store, the part that is wrong: ``model``, ``examples``, ``forgotten`` (the list of what was forgotten),
        ``keys``, ``files``, or ``receipts`` (what the store knows about them).
    text : str
        A sentence that describes the problem.
    """

    number: int | None
    kind: Kind
    text: str

    def __str__(self) -> str:
        return self.text if self.number is None else f"receipt {self.number} is {self.kind}: {self.text}"
