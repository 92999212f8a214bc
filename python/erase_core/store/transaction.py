"""Writes to a store in one transaction. `Store.writing` yields the object."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from itertools import chain, islice

import numpy as np
from numpy.typing import NDArray

from erase_core import commitments
from erase_core.errors import StoreError, os_reason
from erase_core.examples.example import Example
from erase_core.store.database import Change
from erase_core.store.reads import BATCH, CHUNK, SLOT, Reads
from erase_core.store.records import Row, StoreFiles
from erase_core.store.sealing import row_hash
from erase_core.store.state import write_state

__all__ = ["WriteTransaction"]

# Transactions that a reader may at least be behind before it loads the store anew.
KEPT = 256


class WriteTransaction(Reads):
    """A transaction: its writes, and queries that see them.

    Attributes
    ----------
    state : State
        It is written at the end of the transaction.
    new_keys : range
        The slots in which keys were written. They are worthless if the transaction is not committed.
    """

    def __init__(self, files: StoreFiles, change: Change) -> None:
        super().__init__(files)
        self._change = change
        self._gone: list[int] = []
        self.new_keys = range(0)

    def insert(
        self,
        examples: Sequence[Example],
        vectors: NDArray[np.float32],
        cut: Collection[int] = (),
        advance: Callable[[int], object] = lambda n: None,
    ) -> range:
        """Add examples with their vectors. Their keys are durable when this returns.

        Parameters
        ----------
        examples : sequence of Example
        vectors : ndarray of float32, of shape (n, dim)
        cut : collection of int, default=()
            Indices of the examples whose inputs the embedding model may not read to their end.
        advance : callable
            Is called with the number of examples that were written.

        Returns
        -------
        range
            The slots of the examples.
        """
        files, state = self._files, self.state
        # Slots whose transaction was not committed are not used again, so a slot never has two keys.
        first = max(state.next_slot, files.keys.n_slots)
        self.new_keys = range(first, first + len(examples))
        if not examples:
            return self.new_keys
        try:
            if first > state.next_slot:  # their transactions can no longer be committed
                files.keys.destroy(range(state.next_slot, first))
            keys = files.keys.add(first, len(examples))
        except OSError as error:
            raise StoreError(f"{files.keys.file}: {os_reason(error)}; nothing was changed") from error
        self.__dict__.pop("_keys", None)
        about = {subject: self.tokens.about(subject) for subject in {example.subject for example in examples}}
        state.n_subjects += len(about.keys() - {None}) - self._n_known(about.values())
        twins = {index: self.tokens.of_vector(vectors[index]) for index in cut}
        for start in range(0, len(examples), BATCH):
            part = slice(start, start + BATCH)
            known = [(*about[example.subject], twins.get(index)) for index, example in enumerate(examples[part], start)]
            self._insert(first + start, keys[part], examples[part], vectors[part], known)
            advance(len(known))
        state.next_slot = first + len(examples)
        state.n_examples += len(examples)
        return self.new_keys

    def _insert(
        self,
        first: int,
        keys: Sequence[bytes],
        examples: Sequence[Example],
        vectors: NDArray[np.float32],
        tokens: Sequence[tuple[bytes | None, ...]],
    ) -> None:
        """Insert examples into consecutive slots, each with the tokens of its subject and of its vector."""
        sealing, ids = self._files.sealing, [example.id for example in examples]
        hashes = [row_hash(*each) for each in zip(keys, examples, vectors, strict=True)]
        sealed = sealing.seal_vectors(keys, first, ids, vectors)
        rows = (
            (slot, self.tokens.of_id(example.id), *known, hash_, vector, sealing.seal_texts(key, slot, example))
            for slot, (key, example, known, hash_, vector) in enumerate(
                zip(keys, examples, tokens, hashes, sealed, strict=True), first
            )
        )
        self._change("INSERT INTO examples VALUES (?, ?, ?, ?, ?, ?, ?, ?)", rows)
        self.state.commitment = commitments.plus(self.state.commitment, hashes)

    def delete(self, rows: Sequence[Row], tokens: Iterable[bytes]) -> None:
        """Delete examples, and put tokens on the list of what was forgotten."""
        state, slots = self.state, [row.slot for row in rows]
        self._change("DELETE FROM examples WHERE slot = ?", ((slot,) for slot in slots))
        self.remember(set(tokens))
        about = {(row.likeness, row.subject) for row in rows if row.subject is not None}
        state.n_subjects -= len(about) - self._n_known(about)
        state.n_examples -= len(rows)
        state.commitment = commitments.minus(state.commitment, (row.hash for row in rows))
        self._gone += slots

    def set_model(self, digest: str) -> None:
        """Change the commitment to the model: that to the digest, empty for a store without examples."""
        # In an old copy of the SQLite file, the key file may be of a later generation.
        self.state.generation = max(self.state.generation, self._files.keys.generation)
        self.state.model_generation = self.state.generation + 1
        secret = self._files.keys.secret(self.state.model_generation)
        self.state.model = commitments.model_commitment(digest, secret)
        self.state.head_is_current = False

    def remember(self, tokens: Collection[bytes]) -> None:
        """Put tokens on the list of what was forgotten."""
        new = set(tokens) - self.forgotten(tokens)
        self._change("INSERT INTO forgotten VALUES (?)", ((token,) for token in new))
        self.state.forgotten_commitment = commitments.plus(self.state.forgotten_commitment, new)

    def readmit(self, tokens: Collection[bytes]) -> None:
        """Remove tokens from the list of what was forgotten."""
        listed = self.forgotten(tokens)
        self._change("DELETE FROM forgotten WHERE token = ?", ((token,) for token in listed))
        self.state.forgotten_commitment = commitments.minus(self.state.forgotten_commitment, listed)

    def is_to_finish(self, number: int | None = None, receipt: bytes | None = None) -> None:
        """Note that the keys of the deleted examples are to be destroyed, and that a receipt is to be published.

        Parameters
        ----------
        number : int or None, default=None
            The receipt's number; None if there is no receipt.
        receipt : bytes or None, default=None
            See `Receipt.packed`.
        """
        row = (self.state.generation + 1, _packed(self._gone), number, receipt)
        self._change("INSERT INTO unfinished VALUES (?, ?, ?, ?)", [row])
        self.__dict__.pop("_unfinished", None)

    def set_finished(self, generations: Iterable[int]) -> None:
        """Drop the notes of `is_to_finish` of these generations."""
        self._change("DELETE FROM unfinished WHERE generation = ?", ((generation,) for generation in generations))
        self.__dict__.pop("_unfinished", None)

    def end(self) -> None:
        """Write the state and the log of changes. Nothing may be written afterwards."""
        state = self.state
        state.generation += 1
        change = (state.generation, _packed(self._gone), self.new_keys.start, len(self.new_keys))
        self._change("INSERT INTO changes VALUES (?, ?, ?, ?)", [change])
        if state.generation % KEPT == 0:
            self._change("DELETE FROM changes WHERE generation <= ?", [(state.generation - KEPT,)])
        write_state(self._change, state)

    def _n_known(self, subjects: Iterable[tuple[bytes | None, bytes | None]]) -> int:
        """Return how many subjects, given by their two tokens, have examples."""
        known, remaining = 0, iter(subjects)
        while part := list(islice(remaining, CHUNK // 2)):
            wanted = f"WITH wanted (l, s) AS (VALUES {', '.join(['(?, ?)'] * len(part))}) SELECT count(*) FROM wanted"
            exists = "EXISTS (SELECT 1 FROM examples WHERE likeness = l AND subject = s)"
            known += self._db.one(f"{wanted} WHERE {exists}", chain.from_iterable(part))[0]
        return known


def _packed(slots: Sequence[int]) -> bytes:
    return np.array(slots, dtype=SLOT).tobytes()
