"""Queries of a store: examples, their vectors, unpublished receipts, and the list of what was forgotten.

`Store.reading`, `Store.locked` and `Store.writing` yield the objects, which are valid only within their blocks. Each
row contains a hash of its example and vector, so a damaged example is never shown.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from itertools import islice
from typing import Any

import numpy as np
from numpy.typing import NDArray

from erase_core import commitments
from erase_core.errors import DuplicateIdError, IdKindError, StoreError, UnknownIdError
from erase_core.examples.example import AnyExample, Example, unstorable
from erase_core.store.database import Database
from erase_core.store.metadata import Constants, Metadata, damage
from erase_core.store.rows import COLUMNS, ROW, can_be_an_id, typed

__all__ = ["LockedReads", "Reads"]

# Variables in one statement, below the lowest limit of any build of SQLite.
CHUNK = 500


class Reads:
    """Queries of a store, which all see the same state.

    Attributes
    ----------
    constants : Constants
        The values with which the store was created.
    metadata : Metadata
        The current state of the store.
    """

    constants: Constants
    metadata: Metadata

    def __init__(self, db: Database, constants: Constants) -> None:
        self._db, self.constants = db, constants
        self.metadata = Metadata(db)

    def __len__(self) -> int:
        """Return the number of examples."""
        return int(self._db.one("SELECT count(*) FROM examples")[0])

    def n_subjects(self) -> int:
        """Return the number of subjects."""
        return int(self._db.one("SELECT count(DISTINCT subject) FROM examples")[0])

    def largest_id(self) -> int | str | None:
        """Return the largest id; None for a store without examples."""
        largest = self._db.one("SELECT max(id) FROM examples")[0]
        if not isinstance(largest, int | str | None):
            raise self._damage(f"example {largest!r}")
        return largest

    def id_type(self) -> type[int] | type[str] | None:
        """Return the type of the ids; None for a store without examples."""
        row = self._db.one("SELECT id FROM examples LIMIT 1", default=None)
        return None if row is None else type(row[0])

    def pending(self) -> list[tuple[int, bytes]]:
        """Return the numbers and contents of the receipts that are not published yet, by ascending number."""
        pending = self._db.all("SELECT number, receipt FROM pending ORDER BY number")
        if not all(isinstance(number, int) and isinstance(receipt, bytes) for number, receipt in pending):
            raise self._damage("pending receipts")
        return pending

    def all_forgotten(self) -> set[bytes]:
        """Return the tokens on the list of what was forgotten."""
        return {row[0] for row in self._db.each("SELECT token FROM forgotten")}

    def forgotten(self, tokens: Iterable[bytes]) -> set[bytes]:
        """Return the given tokens that are on the list of what was forgotten."""
        return set(self._among("SELECT token FROM forgotten WHERE token", tokens))

    def n_forgotten_subjects(self, subjects: Iterable[str]) -> int:
        """Return how many of the subjects are on the list of what was forgotten."""
        storable = [subject for subject in subjects if not unstorable(subject)]
        return len(self.forgotten(map(self.constants.tokens.of_subject, storable)))

    def check_new(self, ids: Sequence[int | str], *, same_are_skipped: bool = False) -> None:
        """Check that ids are not in the store, and have the type of its ids.

        Parameters
        ----------
        ids : sequence of int or str
        same_are_skipped : bool, default=False
            Whether examples with the same content were left out already, so all ids that are in the store have other
            content.

        Raises
        ------
        DuplicateIdError, IdKindError
        """
        present = self.id_type()
        if present is not None and ids and (present is str) != isinstance(ids[0], str):
            theirs, ours = ("text" if is_text else "integers" for is_text in (present is str, isinstance(ids[0], str)))
            raise IdKindError(f"the store's ids are {theirs}, but the given ids are {ours}; nothing was ingested")
        taken = self._present(ids)
        if taken:
            advice = '. Leave out those with the same content by on_duplicate="skip" (--duplicate skip).'
            what, advice = (", with another content", "") if same_are_skipped else ("", advice)
            raise DuplicateIdError(
                f"{len(taken)} of the ids {'is' if len(taken) == 1 else 'are'} in the store already{what}: "
                f"{_some(taken)}; nothing was ingested{advice}"
            )

    def check_known(self, ids: Sequence[int | str]) -> None:
        """Check that ids are in the store.

        Raises
        ------
        UnknownIdError
        """
        known = set(self._present(ids))
        unknown = [id_ for id_ in ids if id_ not in known]
        if unknown:
            storable = [self.constants.tokens.of_id(id_) for id_ in unknown if can_be_an_id(id_)]
            gone = len(self.forgotten(storable))
            already = f" ({gone} of them forgotten already)" if gone else ""
            raise UnknownIdError(
                f"{len(unknown)} of the ids {'is' if len(unknown) == 1 else 'are'} not in the store: {_some(unknown)}"
                f'{already}; nothing was forgotten. Leave them out, or give on_missing="skip" (--missing skip).'
            )

    def ids_by_subject(self) -> dict[str, list[int | str]]:
        """Return the ids of each subject's examples, ascending."""
        # NOT INDEXED, since a damaged index could omit a row. As bytes, so that a damaged subject does not hide others.
        query = "SELECT id, CAST(subject AS BLOB) FROM examples NOT INDEXED WHERE typeof(subject) = 'text' ORDER BY id"
        ids: dict[str, list[int | str]] = {}
        for id_, subject in self._db.each(query):
            ids.setdefault(subject.decode("utf-8", "surrogateescape"), []).append(id_)
        return ids

    def known(self, ids: Sequence[int | str]) -> list[int | str]:
        """Return the given ids that are in the store, in their order."""
        known = set(self._present(ids))
        return [id_ for id_ in ids if id_ in known]

    def duplicates(self, examples: Sequence[AnyExample]) -> set[int | str]:
        """Return the ids of the given examples that are in the store with the same content."""
        ids = [example.id for example in examples if example.id is not None]
        rows = self._among(f"SELECT {COLUMNS} FROM examples WHERE id", ids, whole=True)
        stored = {example.id: example for row in rows if (example := typed(row)) is not None}
        return {example.id for example in examples if example.id is not None and stored.get(example.id) == example}

    def known_by(self, hashes: Collection[bytes], tokens: Collection[bytes] = ()) -> list[int | str]:
        """Return the ids of examples whose row has one of the hashes, or whose id or subject has one of the tokens."""
        keyed, ids = self.constants.tokens, []
        for id_, subject, hash_ in self._db.each("SELECT id, subject, hash FROM examples ORDER BY id"):
            about = subject is not None and bool(tokens) and keyed.of_subject(subject) in tokens
            if hash_ in hashes or about or (tokens and keyed.of_id(id_) in tokens):
                ids.append(id_)
        return ids

    def examples(self, ids: Sequence[int | str]) -> list[Example]:
        """Return the examples with the given ids, in the order of the ids.

        Raises
        ------
        UnknownIdError
        StoreError
            An example is damaged.
        """
        found = self._found(ids)
        if len(found) < len(set(ids)):
            self.check_known(ids)
        return [found[id_][0] for id_ in ids]

    def all_examples(self) -> Iterator[Example]:
        """Yield the examples by ascending id."""
        for row in self._db.each(f"SELECT {ROW} FROM examples ORDER BY id"):
            yield self._checked(row)[0]

    def hashes(self) -> list[bytes]:
        """Return the hashes of all rows. Each row is checked against its hash.

        Raises
        ------
        StoreError
            A row is damaged.
        """
        return [self._checked(row)[1] for row in self._db.each(f"SELECT {ROW} FROM examples ORDER BY id")]

    def vectors(self) -> tuple[list[int | str], NDArray[np.float32]]:
        """Return all ids, ascending, and their vectors as an array of shape (n, dim)."""
        ids: list[int | str] = []
        matrix = np.empty((len(self), self.constants.dim), dtype=np.float32)
        for number, (id_, blob) in enumerate(self._db.each("SELECT id, vector FROM examples ORDER BY id")):
            matrix[number] = self._vector(id_, blob)
            ids.append(id_)
        return ids, matrix

    def values(self) -> Iterator[tuple[str, bytes]]:
        """Yield every text and blob of the file with its place. See `Database.values`."""
        return self._db.values()

    def is_sound(self) -> bool:
        """Whether SQLite finds its trees, indexes and constraints intact."""
        return self._db.is_sound()

    def _found(self, ids: Sequence[int | str]) -> dict[int | str, tuple[Example, bytes]]:
        rows = self._among(
            f"SELECT {ROW} FROM examples WHERE id", [id_ for id_ in ids if can_be_an_id(id_)], whole=True
        )
        checked = [self._checked(row) for row in rows]
        return {example.id: (example, hash_) for example, hash_ in checked}

    def _checked(self, row: tuple[Any, ...]) -> tuple[Example, bytes]:
        """Return the example and the hash of a row of the table, after checking that the hash is right."""
        *fields, salt, hash_, blob = row
        example = typed(fields)
        if example is None or not isinstance(salt, bytes):
            raise self._damage(f"example {fields[0]!r}")
        if commitments.row_hash(example, self._vector(example.id, blob), salt) != hash_:
            raise self._damage(f"example {example.id!r}")
        return example, hash_

    def _vector(self, id_: object, blob: bytes) -> NDArray[np.float32]:
        if not isinstance(blob, bytes):
            raise self._damage(f"vector of example {id_!r}")
        if len(blob) != 4 * self.constants.dim or not np.isfinite(np.frombuffer(blob, dtype="<f4")).all():
            raise self._damage(f"vector of example {id_!r}")
        return np.frombuffer(blob, dtype="<f4")

    def _present(self, ids: Sequence[int | str]) -> list[int | str]:
        return self._among("SELECT id FROM examples WHERE id", [id_ for id_ in ids if can_be_an_id(id_)])

    def _among(self, query: str, values: Iterable[object], *, whole: bool = False) -> list[Any]:
        """Return the rows of a query whose last expression has one of the values; if not `whole`, the first column."""
        rows: list[Any] = []
        remaining = iter(values)
        while part := list(islice(remaining, CHUNK)):
            rows += self._db.all(f"{query} IN ({', '.join('?' * len(part))})", part)
        return rows if whole else [row[0] for row in rows]

    def _damage(self, name: str) -> StoreError:
        return damage(self._db.file, name)


class LockedReads(Reads):
    """The queries of a store to which no other process can write meanwhile."""


def _some(ids: Sequence[int | str]) -> str:
    return ", ".join(repr(id_) for id_ in ids[:5]) + (", ..." if len(ids) > 5 else "")
