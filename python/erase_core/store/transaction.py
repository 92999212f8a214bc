"""What can be written to a store: all of it counts, or nothing. Had from `Store.writing`."""

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
    """The writes of one transaction, and the queries, which see what was written so far.

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
        """Delete examples, overwrite them, and remember them, and subjects that are named, by tokens alone.

        Returns
        -------
        hashes : list of bytes
            Of their rows.
        tokens : set of bytes
        """
        # Not checked: what is damaged can be forgotten too.
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
        """Take tokens off the list of what was forgotten."""
        known = self.forgotten(tokens)
        self._change("DELETE FROM forgotten WHERE token = ?", ((token,) for token in known))
        self.metadata.set(forgotten_commitment=commitments.minus(self.metadata.forgotten_commitment, known))

    def set_digest(self, digest: str) -> None:
        """Change the model's digest. What receipts say of the one before can be checked by nobody from then on."""
        self.metadata.set(digest=digest, model_salt=commitments.new_salt(), head_is_current=0)

    def append_receipt(self, head: Head, receipt: bytes) -> None:
        """Add the newest receipt, to be published when what it tells of is gone from the files."""
        self._change("INSERT INTO pending VALUES (?, ?)", [(head.number, receipt)])
        self.set_head(head, is_current=True)

    def set_head(self, head: Head, *, is_current: bool) -> None:
        """Change which receipt is the newest, and whether the model is the one that it tells of."""
        self.metadata.set(
            head=head.number, head_hash=head.hash, head_key=head.public_key, head_is_current=int(is_current)
        )
