"""Writes to a store in one transaction. `Store.writing` yields the object."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from erase_core import commitments
from erase_core.examples.example import Example
from erase_core.store.database import Change, Database
from erase_core.store.metadata import Constants, Head, WritableMetadata
from erase_core.store.reads import Reads
from erase_core.store.rows import COLUMNS, typed

__all__ = ["WriteTransaction"]


class WriteTransaction(Reads):
    """A transaction: its writes, and queries that see them.

    Attributes
    ----------
    constants : Constants
    metadata : WritableMetadata
    """

    metadata: WritableMetadata

    def __init__(self, db: Database, constants: Constants, change: Change) -> None:
        super().__init__(db, constants)
        self._change = change
        self.metadata = WritableMetadata(db, change)

    def insert(self, examples: Sequence[Example], vectors: NDArray[np.float32]) -> None:
        """Add examples with their vectors."""
        salts = [commitments.new_salt() for _ in examples]
        hashes = [commitments.row_hash(*row) for row in zip(examples, vectors, salts, strict=True)]
        self._change(
            f"INSERT INTO examples ({COLUMNS}, salt, hash, vector) VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
            (
                (e.id, e.input, e.output, e.rationale, e.subject, salt, hash_, vector.astype("<f4").tobytes())
                for e, vector, salt, hash_ in zip(examples, vectors, salts, hashes, strict=True)
            ),
        )
        self.metadata.set(commitment=commitments.plus(self.metadata.commitment, hashes))

    def delete(self, ids: Sequence[int | str], subjects: Iterable[str] = ()) -> tuple[list[bytes], set[bytes]]:
        """Delete examples, and put tokens of them and of the given subjects on the list of what was forgotten.

        Returns
        -------
        hashes : list of bytes
            The hashes of the deleted rows.
        tokens : set of bytes
            The tokens of the deleted rows and of the subjects.
        """
        # Rows are not checked against their hashes: damaged examples can be forgotten, too.
        rows = self._among(f"SELECT hash, {COLUMNS} FROM examples WHERE id", ids, whole=True)
        keyed, hashes = self.constants.tokens, [row[0] for row in rows]
        gone = [example for row in rows if (example := typed(row[1:])) is not None]
        if len(gone) < len(rows) or not all(isinstance(hash_, bytes) for hash_ in hashes):
            raise self._damage("examples")
        tokens = {token for e in gone for token in (keyed.of_id(e.id), keyed.of_content(e))}
        tokens |= {keyed.of_subject(subject) for subject in subjects}
        self.remember(tokens)
        self._change("DELETE FROM examples WHERE id = ?", ((id_,) for id_ in ids))
        self.metadata.set(commitment=commitments.minus(self.metadata.commitment, hashes), scrubbed=0)
        return hashes, tokens

    def remember(self, tokens: Collection[bytes]) -> None:
        """Put tokens on the list of what was forgotten."""
        new = set(tokens) - self.forgotten(tokens)
        self._change("INSERT INTO forgotten VALUES (?)", ((token,) for token in new))
        self.metadata.set(forgotten_commitment=commitments.plus(self.metadata.forgotten_commitment, new))

    def readmit(self, tokens: Collection[bytes]) -> None:
        """Remove tokens from the list of what was forgotten."""
        known = self.forgotten(tokens)
        self._change("DELETE FROM forgotten WHERE token = ?", ((token,) for token in known))
        self.metadata.set(forgotten_commitment=commitments.minus(self.metadata.forgotten_commitment, known))

    def set_digest(self, digest: str) -> None:
        """Change the model's digest. Its salt changes, too, so the previous digest can no longer be checked."""
        self.metadata.set(digest=digest, model_salt=commitments.new_salt(), head_is_current=0)

    def append_receipt(self, head: Head, receipt: bytes) -> None:
        """Add the newest receipt. It is published when the data that it lists is gone from the files."""
        self._change("INSERT INTO pending VALUES (?, ?)", [(head.number, receipt)])
        self.set_head(head, is_current=True)

    def set_head(self, head: Head, *, is_current: bool) -> None:
        """Set the newest receipt, and whether it describes the current model."""
        self.metadata.set(
            head=head.number, head_hash=head.hash, head_key=head.public_key, head_is_current=int(is_current)
        )
