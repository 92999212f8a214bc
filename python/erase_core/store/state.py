"""The current state of a store: counts, commitments and the newest receipt.

It is one row of the SQLite file. A transaction reads it once, and writes it once at its end.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any, NamedTuple

from erase_core import commitments
from erase_core.receipts.receipt import ReceiptRef
from erase_core.store.database import Change, Database, damage

__all__ = ["Head", "State", "new_state", "read_state", "write_state"]


class Head(NamedTuple):
    """The newest receipt: its number (0 if there is none), its hash, and the public key it was signed with, if any."""

    number: int
    hash: str
    public_key: str

    @property
    def ref(self) -> ReceiptRef:
        """Number and hash."""
        return ReceiptRef(self.number, self.hash)


@dataclass
class State:
    """The state of a store.

    Parameters
    ----------
    generation : int
        Number of transactions that wrote to the store.
    n_examples, n_subjects : int
    next_slot : int
        The slots from this one on were never used by an example.
    model : str
        The commitment to the digest of the model, salted with the secret of `model_generation` (key_file.py). After a
        removal that secret is gone. So nobody can test a guess against what is left of an older state.
    model_generation : int
        The generation in which the model changed last.
    commitment : bytes
        The commitment to all examples.
    forgotten_commitment : bytes
        The commitment to the list of what was forgotten.
    head : Head
        The newest receipt.
    head_is_current : bool
        Whether nothing was written since the newest receipt, so it describes the current model.
    """

    generation: int
    n_examples: int
    n_subjects: int
    next_slot: int
    model: str
    model_generation: int
    commitment: bytes
    forgotten_commitment: bytes
    head: Head
    head_is_current: bool

    def values(self) -> dict[str, object]:
        """Return the columns of the table."""
        values = {each.name: getattr(self, each.name) for each in fields(self)}
        values |= {"head": self.head.number, "head_hash": self.head.hash, "head_key": self.head.public_key}
        return {**values, "head_is_current": int(self.head_is_current)}


def new_state(secret: bytes = b"") -> State:
    """Return the state of a store without examples. `secret` is that of generation 0."""
    empty, model = commitments.EMPTY, commitments.model_commitment("", secret)
    return State(0, 0, 0, 0, model, 0, empty, empty, Head(0, "", ""), head_is_current=False)


def read_state(db: Database) -> State:
    """Read the state.

    Raises
    ------
    StoreError
        It is damaged.
    """
    row: tuple[Any, ...] = db.one(f"SELECT {', '.join(COLUMNS)} FROM state", default=())
    if not row:
        raise damage(db.file, "state")
    # SQLite checks the types when a value is written, not when a damaged file is read.
    if not all(isinstance(value, kind) for value, kind in zip(row, KINDS, strict=True)):
        raise damage(db.file, "state")
    values = dict(zip(COLUMNS, row, strict=True))
    head = Head(values["head"], values.pop("head_hash"), values.pop("head_key"))
    state = State(**{**values, "head": head, "head_is_current": bool(values["head_is_current"])})
    lengths = {len(state.commitment), len(state.forgotten_commitment)}
    counts = (state.model_generation, state.n_examples, state.n_subjects, state.next_slot, head.number)
    if lengths != {len(commitments.EMPTY)} or min(counts) < 0 or state.model_generation > state.generation:
        raise damage(db.file, "state")
    return state


def write_state(change: Change, state: State) -> None:
    """Write the state."""
    values = state.values()
    change(f"UPDATE state SET {', '.join(f'{name} = ?' for name in values)}", [values.values()])


COLUMNS = tuple(new_state().values())
KINDS = tuple(type(value) for value in new_state().values().values())
