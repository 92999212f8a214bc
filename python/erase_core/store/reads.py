"""Queries of a store: examples, their vectors, unfinished removals, changes, and the list of what was forgotten.

`Store.reading`, `Store.locked` and `Store.writing` yield the objects, which are valid only within their blocks. Rows
are found by tokens of their ids and subjects. A row opens only with its key, in its slot: no damaged row is ever shown.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import suppress
from functools import cached_property
from itertools import islice
from typing import Any

import numpy as np
from numpy.typing import NDArray

from erase_core import commitments
from erase_core.commitments import Tokens
from erase_core.errors import DuplicateIdError, IdKindError, ReceiptError, StoreError, UnknownIdError
from erase_core.examples.example import AnyExample, Example, unstorable
from erase_core.examples.spelling import normalised
from erase_core.receipts.receipt import Receipt
from erase_core.store.constants import Constants
from erase_core.store.database import damage
from erase_core.store.key_file import KeyGoneError, Keys
from erase_core.store.records import Changes, Row, StoreFiles, Unfinished
from erase_core.store.sealing import SealingError, can_be_an_id, row_hash
from erase_core.store.state import State, read_state

__all__ = ["Reads"]

# Variables in one statement, below the lowest limit of any build of SQLite.
CHUNK = 500
SLOT = np.dtype("<i8")
# Rows to open at a time.
BATCH = 4096


class Reads:
    """Queries of a store, which all see the same state.

    Attributes
    ----------
    constants : Constants
        The values with which the store was created.
    tokens : Tokens
        The store's keyed hashes.
    """

    constants: Constants
    tokens: Tokens

    def __init__(self, files: StoreFiles) -> None:
        self._files, self._db = files, files.db
        self.constants, self.tokens = files.constants, files.tokens

    @cached_property
    def state(self) -> State:
        """The current state of the store."""
        return read_state(self._db)

    @cached_property
    def _keys(self) -> Keys:
        """All keys, as they were after the state was read: the keys of its rows, apart from those destroyed since."""
        _ = self.state
        return self._files.keys.all()

    def __len__(self) -> int:
        """Return the number of examples."""
        return self.state.n_examples

    @cached_property
    def model_secret(self) -> bytes:
        """The secret with which the commitment to the model is salted.

        Raises
        ------
        KeyGoneError
            Another process has forgotten an example since, or this is an old copy of the SQLite file.
        """
        return self._files.keys.secret(self.state.model_generation)

    def is_model(self, digest: str) -> bool:
        """Whether the model of the examples has a digest. Errors are those of `model_secret`."""
        return commitments.model_commitment(digest, self.model_secret) == self.state.model

    def id_type(self) -> type[int] | type[str] | None:
        """Return the type of the ids; None for a store without examples, or if none can be opened."""
        for row in self._db.each("SELECT slot, vector FROM examples"):
            with suppress(KeyGoneError, StoreError):  # a damaged example, which does not hide the others
                return type(self._opened_vectors([row])[0][0])
        return None

    # ---- removals and changes ----
    def unfinished(self) -> list[Unfinished]:
        """Return the removals that may not be finished, oldest first."""
        return self._unfinished

    @cached_property
    def _unfinished(self) -> list[Unfinished]:
        # Several checks of a removal ask, and to unpack a receipt takes long.
        rows = self._db.all("SELECT generation, slots, number, receipt FROM unfinished ORDER BY generation")
        if not all(isinstance(row[2], int | None) and isinstance(row[3], bytes | None) for row in rows):
            raise self._damage("unfinished removals")
        return [Unfinished(row[0], self._slots(row[1]), row[2], self._unpacked(row[3])) for row in rows]

    def pending(self) -> list[tuple[int, bytes]]:
        """Return the numbers and contents of the receipts that may not be published yet, by ascending number."""
        return [(each.number, each.receipt or b"") for each in self.unfinished() if each.number is not None]

    def changes_since(self, generation: int) -> Changes | None:
        """Return what changed since a generation; None if that is not known any more."""
        query = "SELECT gone, first, count FROM changes WHERE generation > ? ORDER BY generation"
        rows = self._db.all(query, (generation,))
        if not 0 <= self.state.generation - generation == len(rows):
            return None
        gone = [slot for row in rows for slot in self._slots(row[0])]
        return Changes(gone, [range(first, first + count) for _, first, count in rows if count])

    # ---- what was forgotten ----
    def all_forgotten(self) -> set[bytes]:
        """Return the tokens on the list of what was forgotten."""
        return {row[0] for row in self._db.each("SELECT token FROM forgotten")}

    def forgotten(self, tokens: Iterable[bytes]) -> set[bytes]:
        """Return the given tokens that are on the list of what was forgotten."""
        return {row[0] for row in self._among("SELECT token FROM forgotten WHERE token", tokens)}

    def n_forgotten_subjects(self, subjects: Iterable[str]) -> int:
        """Return how many of the subjects are on the list of what was forgotten."""
        storable = [subject for subject in subjects if not unstorable(subject)]
        return len(self.forgotten(map(self.tokens.of_subject, storable)))

    # ---- ids and subjects ----
    def check_new(self, ids: Sequence[int | str], *, same_are_skipped: bool = False) -> None:
        """Check that ids are not in the store, and have the type of its ids.

        Parameters
        ----------
        ids : sequence of int or str
        same_are_skipped : bool, default=False
            Whether examples with the same content were left out already. Then each of the ids that is in the store has
            another content there.

        Raises
        ------
        DuplicateIdError, IdKindError
        """
        kind = self.id_type() if ids else None
        if kind is not None and (kind is str) != isinstance(ids[0], str):
            theirs, ours = ("text" if is_text else "integers" for is_text in (kind is str, isinstance(ids[0], str)))
            raise IdKindError(
                f"the store's ids are {theirs}, but the given ids are {ours}; nothing was ingested. Give "
                f"every example an id that is {'text' if kind is str else 'an integer'}."
            )
        taken = self.present(ids)
        if taken:
            advice = '. Leave out those with the same content by on_duplicate="skip" (--duplicate skip).'
            what, advice = (", with another content", "") if same_are_skipped else ("", advice)
            raise DuplicateIdError(
                f"{len(taken)} of the ids {'is' if len(taken) == 1 else 'are'} in the store already{what}: "
                f"{_some(taken)}; nothing was ingested{advice}"
            )

    def check_present(self, ids: Sequence[int | str]) -> None:
        """Check that ids are in the store.

        Raises
        ------
        UnknownIdError
        """
        present = set(self.present(ids))
        unknown = [id_ for id_ in ids if id_ not in present]
        if unknown:
            storable = [self.tokens.of_id(id_) for id_ in unknown if can_be_an_id(id_)]
            gone = len(self.forgotten(storable))
            already = f" ({gone} of them forgotten already)" if gone else ""
            raise UnknownIdError(
                f"{len(unknown)} of the ids {'is' if len(unknown) == 1 else 'are'} not in the store: {_some(unknown)}"
                f'{already}; nothing was forgotten. Leave them out, or give on_missing="skip" (--missing skip).'
            )

    def present(self, ids: Sequence[int | str]) -> list[int | str]:
        """Return the given ids that are in the store, in their order."""
        tokens = self._tokens_of(ids)
        found = {row[0] for row in self._among("SELECT id FROM examples WHERE id", set(tokens.values()))}
        kind = self.id_type() if found else None
        # 7 and "7" have the same token, but only one of them is an id of the store.
        return [id_ for id_, token in tokens.items() if token in found and isinstance(id_, kind or object)]

    def ids_about(self, subject: str) -> list[int | str]:
        """Return the ids of the examples about a subject, ascending."""
        wanted = self.tokens.about(subject)
        query = "SELECT slot, vector FROM examples WHERE likeness = ? AND subject = ?"
        return sorted(self._opened_vectors(self._db.all(query, wanted))[0])

    def subjects_like(self, subject: str) -> list[str]:
        """Return the subjects that look like a subject, as they are spelled in the store, ascending."""
        if unstorable(normalised(subject)):  # half of a surrogate pair
            return []
        likeness, spellings = self.tokens.of_likeness(subject), []
        query = "SELECT min(slot), subject, texts FROM examples WHERE likeness = ? GROUP BY subject"
        for slot, token, texts in self._db.all(query, (likeness,)):
            spelling = self._opened(self._key(slot), slot, texts).subject
            if spelling is None or self.tokens.about(spelling) != (likeness, token):
                raise self._damage("subjects")
            spellings.append(spelling)
        return sorted(spellings)

    def duplicates(self, examples: Sequence[AnyExample]) -> set[int | str]:
        """Return the ids of the given examples that are in the store with the same content."""
        ids = [example.id for example in examples if example.id is not None]
        stored = {example.id: example for example in self._examples_of(ids)}
        return {example.id for example in examples if example.id is not None and stored.get(example.id) == example}

    def twins(self, slots: Iterable[int]) -> list[list[Example]]:
        """Return the groups of examples with one vector and different inputs that the embedding model may have cut off.

        Parameters
        ----------
        slots : iterable of int
            Each group has an example in one of them.

        Returns
        -------
        list of lists of Example
            Each group by ascending id.
        """
        tokens = {row[0] for row in self._among("SELECT twin FROM examples WHERE slot", slots)} - {None}
        groups: dict[bytes, list[Example]] = {token: [] for token in sorted(tokens)}
        for token, slot, texts in self._among("SELECT twin, slot, texts FROM examples WHERE twin", groups):
            groups[token].append(self._opened(self._key(slot), slot, texts))
        several = [group for group in groups.values() if len({each.input for each in group}) > 1]
        return [sorted(group, key=lambda example: example.id) for group in several]

    # ---- examples ----
    def examples(self, ids: Sequence[int | str]) -> list[Example]:
        """Return the examples with the given ids, in the order of the ids.

        Raises
        ------
        UnknownIdError
        StoreError
            An example is damaged.
        """
        found = {example.id: example for example in self._examples_of(ids)}
        if not set(ids) <= set(found):
            self.check_present(ids)
            raise self._damage("ids")
        return [found[id_] for id_ in ids]

    def examples_after(self, slot: int, count: int) -> list[tuple[int, bytes, Example]]:
        """Return slot, key and example of the first rows after a slot."""
        query = "SELECT slot, texts FROM examples WHERE slot > ? ORDER BY slot LIMIT ?"
        rows = [(found, self._key(found), texts) for found, texts in self._db.all(query, (slot, count))]
        return [(found, key, self._opened(key, found, texts)) for found, key, texts in rows]

    def all_examples(self) -> list[Example]:
        """Return all examples, by ascending id."""
        keys = self._keys
        query = "SELECT slot, texts FROM examples"
        examples = [self._opened(keys.of(slot), slot, texts) for slot, texts in self._db.each(query)]
        return sorted(examples, key=lambda example: example.id)

    def vectors(self, among: Iterable[range] | None = None) -> tuple[list[int], list[int | str], NDArray[np.float32]]:
        """Return slots, ids and vectors of examples, in the order of the slots.

        Parameters
        ----------
        among : iterable of range or None, default=None
            The slots to look at. None: all.

        Returns
        -------
        slots : list of int
        ids : list of int or str
        vectors : ndarray of float32, of shape (n, dim)
        """
        query = "SELECT slot, vector FROM examples"
        if among is None:
            batches, most = self._db.batches(query, BATCH), len(self)
            _ = self._keys  # all are needed
            if most > self._files.keys.n_slots:  # before memory is reserved for so many
                raise self._damage("number of examples")
        else:
            between = f"{query} WHERE slot BETWEEN ? AND ?"
            found = [row for each in among for row in self._db.all(between, (each.start, each.stop - 1))]
            batches, most = iter([found]), len(found)
        matrix = np.empty((most, self.constants.dim), dtype=np.float32)
        try:
            return *self._filled(matrix, batches), matrix
        except BaseException:
            matrix.fill(0)
            raise

    def _filled(
        self, matrix: NDArray[np.float32], batches: Iterable[Sequence[tuple[int, bytes]]]
    ) -> tuple[list[int], list[int | str]]:
        """Open the vectors of rows into a matrix, and return the slots and ids."""
        slots: list[int] = []
        ids: list[int | str] = []
        for batch in batches:
            if len(slots) + len(batch) > len(matrix):
                raise self._damage("number of examples")
            ids += self._open_into(matrix[len(slots) : len(slots) + len(batch)], batch)
            slots += [row[0] for row in batch]
        if len(slots) < len(matrix):
            raise self._damage("number of examples")
        return slots, ids

    # ---- for verification ----
    def checked_rows(self) -> Iterator[tuple[int, Example, bytes, NDArray[np.float32]]]:
        """Yield slot, example, hash and vector of all rows, by slot. Each row is checked against its hash and tokens.

        Raises
        ------
        StoreError
            A row is damaged.
        """
        keys, tokens = self._keys, self.tokens
        for *found, vector_blob in self._db.each(f"SELECT {ROW}, vector FROM examples ORDER BY slot"):
            row = Row(*found)
            key = keys.of(row.slot)
            example = self._opened(key, row.slot, row.texts)
            (id_,), (vector,) = self._opened_vectors([(row.slot, vector_blob)])
            about = tokens.about(example.subject)
            stored = (row.id_token, id_, row.likeness, row.subject, row.hash)
            if stored != (tokens.of_id(example.id), example.id, *about, row_hash(key, example, vector)):
                raise self._damage(f"example {example.id!r}")
            yield row.slot, example, row.hash, vector

    def slots_matching(self, hashes: Collection[bytes], tokens: Collection[bytes] = ()) -> list[int]:
        """Return the slots of rows that have one of the hashes, or whose id or subject has one of the tokens."""
        rows = self._db.each("SELECT slot, id, subject, hash FROM examples ORDER BY slot")
        return [row[0] for row in rows if row[3] in hashes or row[1] in tokens or row[2] in tokens]

    def ids_of(self, slots: Iterable[int]) -> list[int | str]:
        """Return the ids of the examples in slots."""
        return self._opened_vectors(self._among("SELECT slot, vector FROM examples WHERE slot", slots))[0]

    def used_slots(self) -> NDArray[np.int64]:
        """Return the slots that hold a key, ascending."""
        return self._keys.used()

    def taken_slots(self) -> NDArray[np.int64]:
        """Return the slots of all rows, ascending."""
        return np.array([row[0] for row in self._db.each("SELECT slot FROM examples ORDER BY slot")], dtype=np.int64)

    def values(self) -> Iterator[tuple[str, bytes]]:
        """Return an iterator over every text and blob of the file, and every opened example, with its place.

        The keys are read before it begins: others may forget examples meanwhile.
        """
        return self._values(self._keys)

    def _values(self, keys: Keys) -> Iterator[tuple[str, bytes]]:
        yield from self._db.values()
        for slot, texts, blob in self._db.each("SELECT slot, texts, vector FROM examples"):
            example = self._opened(keys.of(slot), slot, texts)
            fields = (str(example.id), example.input, example.output, example.rationale, example.subject)
            place = f"{self._db.file} (an example)"
            yield from ((place, field.encode()) for field in fields if field is not None)
            yield place, self._opened_vectors([(slot, blob)])[1].tobytes()

    def is_sound(self) -> bool:
        """Whether SQLite finds its trees, indexes and constraints intact."""
        return self._db.is_sound()

    # ---- rows ----
    def rows_of(self, ids: Iterable[int | str]) -> list[Row]:
        """Return the rows of the given ids that are in the store."""
        return self._rows(f"SELECT {ROW} FROM examples WHERE id", set(self._tokens_of(ids).values()))

    def rows_in(self, slots: Iterable[int]) -> list[Row]:
        """Return the rows in the given slots."""
        return self._rows(f"SELECT {ROW} FROM examples WHERE slot", slots)

    def opened(self, row: Row) -> Example | None:
        """Return the example in a row; None if it is damaged, or its key is missing."""
        try:
            return self._files.sealing.open_texts(self._key(row.slot), row.slot, row.texts)
        except (KeyGoneError, SealingError):
            return None

    def n_unreadable(self) -> int:
        """Return how many rows have a vector that does not open, because they are damaged or their keys are missing."""
        _ = self._keys  # all are needed
        count = 0
        for row in self._db.each("SELECT slot, vector FROM examples"):
            count += 1
            with suppress(KeyGoneError, StoreError):
                self._opened_vectors([row])
                count -= 1
        return count

    def without_rows(self, slots: Collection[int]) -> set[int]:
        """Return the given slots that no row is in."""
        return set(slots) - {row[0] for row in self._among("SELECT slot FROM examples WHERE slot", slots)}

    def _examples_of(self, ids: Iterable[int | str]) -> list[Example]:
        return [self._opened(self._key(row.slot), row.slot, row.texts) for row in self.rows_of(ids)]

    def _tokens_of(self, ids: Iterable[int | str]) -> dict[int | str, bytes]:
        return {id_: self.tokens.of_id(id_) for id_ in ids if can_be_an_id(id_)}

    def _key(self, slot: int) -> bytes:
        return self._keys_of([slot])[0]

    def _keys_of(self, slots: Sequence[int]) -> list[bytes]:
        # The file may change, but if all keys were read, they are those of this state.
        return [self._keys.of(slot) for slot in slots] if "_keys" in self.__dict__ else self._files.keys.of(slots)

    def _check_keys(self, slots: Sequence[int]) -> None:
        """Raise `KeyGoneError` if a key is destroyed by now: it may have been read half overwritten."""
        self._files.keys.of(slots)

    def _opened(self, key: bytes, slot: int, texts: bytes) -> Example:
        try:
            return self._files.sealing.open_texts(key, slot, texts)
        except SealingError as error:
            self._check_keys([slot])
            raise self._row_damage("example", key, slot) from error

    def _opened_vectors(self, rows: Sequence[tuple[int, bytes]]) -> tuple[list[int | str], NDArray[np.float32]]:
        """Return the ids and the vectors of rows, given as slots with sealed vectors."""
        vectors = np.empty((len(rows), self.constants.dim), dtype=np.float32)
        return self._open_into(vectors, rows), vectors

    def _open_into(self, vectors: NDArray[np.float32], rows: Sequence[tuple[int, bytes]]) -> list[int | str]:
        slots = [slot for slot, _ in rows]
        keys = self._keys_of(slots)
        try:
            return self._files.sealing.open_vectors(keys, slots, [blob for _, blob in rows], vectors)
        except SealingError as error:
            self._check_keys([error.slot])
            raise self._row_damage("vector", keys[slots.index(error.slot)], error.slot) from error

    def _slots(self, blob: bytes) -> list[int]:
        if not isinstance(blob, bytes) or len(blob) % SLOT.itemsize:
            raise self._damage("changes")
        return [int(slot) for slot in np.frombuffer(blob, dtype=SLOT)]

    def _unpacked(self, receipt: bytes | None) -> bytes | None:
        try:
            return None if receipt is None else Receipt.unpacked(receipt)
        except ReceiptError as error:
            raise self._damage("pending receipts") from error

    def _rows(self, query: str, values: Iterable[object]) -> list[Row]:
        rows = [Row(*row) for row in self._among(query, values)]
        if not all(isinstance(row.hash, bytes) for row in rows):
            raise self._damage("hashes")
        return rows

    def _among(self, query: str, values: Iterable[object]) -> list[tuple[Any, ...]]:
        """Return the rows of a query whose last expression has one of the values."""
        rows: list[tuple[Any, ...]] = []
        remaining = iter(values)
        while part := list(islice(remaining, CHUNK)):
            rows += self._db.all(f"{query} IN ({', '.join('?' * len(part))})", part)
        return rows

    def _damage(self, name: str) -> StoreError:
        return damage(self._db.file, name)

    def _row_damage(self, name: str, key: bytes, slot: int) -> StoreError:
        """Return the error for a part of a row that does not open. The other part may tell the id."""
        sealing, known = self._files.sealing, ""
        vector = np.empty((1, self.constants.dim), dtype=np.float32)
        for texts, blob in self._db.all("SELECT texts, vector FROM examples WHERE slot = ?", (slot,)):
            with suppress(SealingError):
                known = f" (id {sealing.open_texts(key, slot, texts).id!r})"
            with suppress(SealingError):
                known = f" (id {sealing.open_vectors([key], [slot], [blob], vector)[0]!r})"
        return StoreError(
            f"{self._db.file} is damaged: cannot read its {name} in slot {slot}{known}. Restore a backup, or forget "
            "the example by its id, which works without opening it."
        )


ROW = "slot, id, likeness, subject, hash, texts"


def _some(ids: Sequence[int | str]) -> str:
    return ", ".join(repr(id_) for id_ in ids[:5]) + (", ..." if len(ids) > 5 else "")
