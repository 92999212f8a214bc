"""The store: examples, their vectors and the settings, in one SQLite file that is the truth about them.

How that file is written and rewritten is database.py's business; what is derived from it, the fitted model, is
clustering.py's. Each example carries a hash of itself, so that one that was damaged is never shown.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from erase_core import commitments
from erase_core.errors import (
    DuplicateIdError,
    IdKindError,
    StoreError,
    UnknownIdError,
)
from erase_core.examples.example import Example, unstorable
from erase_core.fs.durable import make_folder
from erase_core.settings import Settings
from erase_core.store.database import Database, needs_access
from erase_core.store.metadata import Facts, Head, new_name
from erase_core.store.schema import FILE
from erase_core.store.vacancy import check_vacant, clear_unfinished

__all__ = ["Store"]

COLUMNS = "id, input, output, rationale, subject"
ROW = f"{COLUMNS}, salt, hash, vector"
# Variables in one statement, below the least limit that SQLite is built with.
CHUNK = 500
MAX_ID = 2**63 - 1


class Store:
    """A folder with a store in it.

    Parameters
    ----------
    folder : Path
    timeout : float, default=5.0
        Seconds to wait for another process.

    Raises
    ------
    StoreError
        The folder holds no store, or a damaged one.
    StoreVersionError
        Another version of erase_core wrote it.
    """

    def __init__(self, folder: Path, timeout: float = 5.0) -> None:
        # The process may go elsewhere, and the snapshot is to be replaced here all the same.
        self.folder, self.timeout = folder.absolute(), timeout
        file = self.folder / FILE
        try:
            is_there = file.is_file()
        except OSError as error:
            raise StoreError(f"{folder}: {error.strerror or error}; {needs_access(folder)}") from error
        if not is_there:
            raise StoreError(f"{folder} is not a store; make one with `erase init --store {folder}` or Erase.create")
        # Of whoever was killed in the last moment, or came second.
        with suppress(OSError):
            clear_unfinished(self.folder)
        self._db = Database(file, timeout)
        try:
            self.facts = Facts(self._db)
        except BaseException:
            self._db.close()
            raise

    @classmethod
    def create(
        cls,
        folder: Path,
        settings: Settings,
        embedder: str,
        dim: int,
        axes: NDArray[np.float64] | None = None,
        receipts: Path | None = None,
        name: str | None = None,
        timeout: float = 5.0,
    ) -> Store:
        """Make a new store in a folder that is absent or empty.

        Parameters
        ----------
        folder : Path
        settings : Settings
        embedder : str
            Identity of the embedding model.
        dim : int
            Its dimensions.
        axes : ndarray of shape (m, dim) or None
            A projection by public axes.
        receipts : Path or None
            Folder of the receipts, if it is not to be within the store's.
        name : str or None, default=None
            What tells the store from others; None draws it.
        timeout : float, default=5.0
        """
        try:
            check_vacant(folder)
            make_folder(folder.absolute())
            clear_unfinished(folder)
            Database.create(folder / FILE, Facts.new(name or new_name(), settings, embedder, dim, axes, receipts))
        except OSError as error:
            raise StoreError(f"{folder}: {error.strerror or error}") from error
        except sqlite3.Error as error:
            raise StoreError(f"{folder}: {error}") from error
        return cls(folder, timeout)

    def close(self) -> None:
        """Let go of the file."""
        self._db.close()

    def __len__(self) -> int:
        """Return the number of examples."""
        return int(self._db.one("SELECT count(*) FROM examples")[0])

    @property
    def n_subjects(self) -> int:
        """Number of subjects."""
        return int(self._db.one("SELECT count(DISTINCT subject) FROM examples")[0])

    @property
    def size(self) -> int:
        """Bytes that the folder's files take."""
        size = 0
        try:
            for file in self.folder.rglob("*"):
                with suppress(FileNotFoundError):  # another process has just replaced it
                    size += file.stat().st_size if file.is_file() else 0
        except OSError as error:
            raise StoreError(f"{self.folder}: {error.strerror or error}") from error
        return size

    # ---- transactions ----
    @contextmanager
    def reading(self) -> Iterator[None]:
        """Read everything within as of one moment."""
        with self._db.reading():
            yield

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Keep others from writing within, if nobody writes now, without writing to the file.

        Raises
        ------
        StoreLockedError
            Another process writes.
        """
        with self._db.locked():
            yield

    @property
    def busy(self) -> bool:
        """Whether this is within `reading`, `locked` or `writing`."""
        return self._db.busy

    @contextmanager
    def writing(self) -> Iterator[None]:
        """Write everything within, or nothing: it counts when this ends without an error.

        Raises
        ------
        StoreLockedError
            Another process writes, and did not end within the timeout.
        StoreError
            The file cannot be written.
        """
        with self._db.writing():
            yield
            # forget 8: the commit follows
            self.facts.set(generation=self.facts.generation + 1)

    def scrub(self) -> tuple[int, list[tuple[int, bytes]]]:
        """Write the file anew, so that nothing deleted is left in it.

        Returns
        -------
        newest : int
            Number of the newest receipt, as of before.
        pending : list of (int, bytes)
            Receipts of what is now gone from the files, to be published.

        Raises
        ------
        ScrubError
        """
        with self._db.scrubbing():
            with self.reading():
                newest, pending = self.facts.head.number, self.pending()
            # forget 9
            self._db.rewrite()
        return newest, pending

    @contextmanager
    def settling(self, newest: int, pending: Sequence[tuple[int, bytes]]) -> Iterator[None]:
        """Note, if no error occurs within, that what was removed up to a receipt is gone, and receipts published.

        Raises
        ------
        ScrubError
        """
        # Not if another process has removed something since.
        scrubbed = (
            "UPDATE facts SET value = 1 WHERE name = 'scrubbed' AND ? = (SELECT value FROM facts WHERE name = 'head')"
        )
        with self._db.amending():
            yield
            # forget 11
            self._db.change("DELETE FROM pending WHERE number = ?", ((number,) for number, _ in pending))
            self._db.change(scrubbed, [(newest,)])

    # ---- writes, all to be called within `writing` ----
    def insert(self, examples: Sequence[Example], vectors: NDArray[np.float32]) -> None:
        """Add examples with their vectors."""
        salts = [commitments.new_salt() for _ in examples]
        hashes = [commitments.row_hash(*row) for row in zip(examples, vectors, salts, strict=True)]
        self._db.change(
            f"INSERT INTO examples ({COLUMNS}, salt, hash, vector) VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
            (
                (e.id, e.input, e.output, e.rationale, e.subject, salt, hash_, vector.astype("<f4").tobytes())
                for e, vector, salt, hash_ in zip(examples, vectors, salts, hashes, strict=True)
            ),
        )
        self.facts.set(commitment=commitments.plus(self.facts.commitment, hashes))

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
        keyed, hashes = self.facts.tokens, [row[0] for row in rows]
        gone = [example for row in rows if (example := _typed(row[1:])) is not None]
        if len(gone) < len(rows) or not all(isinstance(hash_, bytes) for hash_ in hashes):
            raise self._damage("examples")
        tokens = {token for e in gone for token in (keyed.of_id(_id(e)), keyed.of_content(e))}
        tokens |= {keyed.of_subject(subject) for subject in subjects}
        self.remember(tokens)
        self._db.change("DELETE FROM examples WHERE id = ?", ((id_,) for id_ in ids))
        self.facts.set(commitment=commitments.minus(self.facts.commitment, hashes), scrubbed=0)
        return hashes, tokens

    def remember(self, tokens: Collection[bytes]) -> None:
        """Put tokens on the list of what was forgotten."""
        new = set(tokens) - self.forgotten(tokens)
        self._db.change("INSERT INTO forgotten VALUES (?)", ((token,) for token in new))
        self.facts.set(forgotten_commitment=commitments.plus(self.facts.forgotten_commitment, new))

    def readmit(self, tokens: Collection[bytes]) -> None:
        """Take tokens off the list of what was forgotten."""
        known = self.forgotten(tokens)
        self._db.change("DELETE FROM forgotten WHERE token = ?", ((token,) for token in known))
        self.facts.set(forgotten_commitment=commitments.minus(self.facts.forgotten_commitment, known))

    def set_digest(self, digest: str) -> None:
        """Change the model's digest. What receipts say of the one before can be checked by nobody from then on."""
        self.facts.set(digest=digest, model_salt=commitments.new_salt(), head_is_current=0)

    def append_receipt(self, head: Head, receipt: bytes) -> None:
        """Add the newest receipt, to be published when what it tells of is gone from the files."""
        self._db.change("INSERT INTO pending VALUES (?, ?)", [(head.number, receipt)])
        self.set_head(head)
        self.facts.set(head_is_current=1)

    def set_head(self, head: Head) -> None:
        """Change which receipt is the newest."""
        self.facts.set(head=head.number, head_hash=head.hash, head_key=head.public_key)

    # ---- what is there ----
    @property
    def largest_id(self) -> int | str | None:
        """The largest id; None for a store without examples."""
        largest = self._db.one("SELECT max(id) FROM examples")[0]
        if not isinstance(largest, int | str | None):
            raise self._damage(f"example {largest!r}")
        return largest

    def pending(self) -> list[tuple[int, bytes]]:
        """Return the receipts that are not published yet, by their numbers."""
        pending = self._db.all("SELECT number, receipt FROM pending ORDER BY number")
        if not all(isinstance(number, int) and isinstance(receipt, bytes) for number, receipt in pending):
            raise self._damage("pending receipts")
        return pending

    def all_forgotten(self) -> set[bytes]:
        """Return the list of what was forgotten: tokens."""
        return {row[0] for row in self._db.each("SELECT token FROM forgotten")}

    def forgotten(self, tokens: Iterable[bytes]) -> set[bytes]:
        """Return those tokens that are on the list of what was forgotten."""
        return set(self._among("SELECT token FROM forgotten WHERE token", tokens))

    def check_new(self, ids: Sequence[int | str], *, same_are_skipped: bool = False) -> None:
        """Check that ids are not in the store, and of its kind.

        Parameters
        ----------
        ids : sequence of int or str
        same_are_skipped : bool, default=False
            Whether examples with the same content were left out, so that these have another.

        Raises
        ------
        DuplicateIdError, IdKindError
        """
        present = self.id_type
        if present is not None and ids and (present is str) != isinstance(ids[0], str):
            theirs, ours = ("text" if is_text else "integers" for is_text in (present is str, isinstance(ids[0], str)))
            raise IdKindError(f"the store's ids are {theirs}, those given {ours}; nothing was ingested")
        taken = self._present(ids)
        if taken:
            advice = '; leave out those with the same content by on_duplicate="skip" (--duplicate skip)'
            what, advice = (", with another content", "") if same_are_skipped else ("", advice)
            raise DuplicateIdError(
                f"{len(taken)} of the ids {'is' if len(taken) == 1 else 'are'} in the store already{what}: "
                f"{_some(taken)}; nothing was ingested{advice}"
            )

    def check_known(self, ids: Sequence[int | str]) -> None:
        """Check that ids are the store's.

        Raises
        ------
        UnknownIdError
        """
        known = set(self._present(ids))
        unknown = [id_ for id_ in ids if id_ not in known]
        if unknown:
            storable = [self.facts.tokens.of_id(id_) for id_ in unknown if _can_be_an_id(id_)]
            gone = len(self.forgotten(storable))
            already = f" ({gone} of them forgotten already)" if gone else ""
            raise UnknownIdError(
                f"{len(unknown)} of the ids {'is' if len(unknown) == 1 else 'are'} not in the store: {_some(unknown)}"
                f"{already}; nothing was forgotten"
            )

    def ids_by_subject(self) -> dict[str, list[int | str]]:
        """Return the ids of each subject's examples, ascending."""
        # By the table itself: an index that was damaged could leave one out. As bytes, since a subject that was damaged
        # is no reason not to find the others.
        query = "SELECT id, CAST(subject AS BLOB) FROM examples NOT INDEXED WHERE typeof(subject) = 'text' ORDER BY id"
        ids: dict[str, list[int | str]] = {}
        for id_, subject in self._db.each(query):
            ids.setdefault(subject.decode("utf-8", "surrogateescape"), []).append(id_)
        return ids

    def n_forgotten_subjects(self, subjects: Iterable[str]) -> int:
        """Return how many subjects are on the list of what was forgotten."""
        storable = [subject for subject in subjects if not unstorable(subject)]
        return len(self.forgotten(map(self.facts.tokens.of_subject, storable)))

    def known(self, ids: Sequence[int | str]) -> list[int | str]:
        """Return those ids that are the store's, in their order."""
        known = set(self._present(ids))
        return [id_ for id_ in ids if id_ in known]

    def duplicates(self, examples: Sequence[Example]) -> set[int | str]:
        """Return the ids of those examples that are in the store with the same content."""
        ids = [example.id for example in examples if example.id is not None]
        rows = self._among(f"SELECT {COLUMNS} FROM examples WHERE id", ids, whole=True)
        stored = {example.id: example for row in rows if (example := _typed(row)) is not None}
        return {example.id for example in examples if example.id is not None and stored.get(example.id) == example}

    def known_by(self, hashes: Collection[bytes], tokens: Collection[bytes] = ()) -> list[int | str]:
        """Return the ids of examples whose rows have one of some hashes, or id or subject one of some tokens."""
        keyed, ids = self.facts.tokens, []
        for id_, subject, hash_ in self._db.each("SELECT id, subject, hash FROM examples ORDER BY id"):
            about = subject is not None and bool(tokens) and keyed.of_subject(subject) in tokens
            if hash_ in hashes or about or (tokens and keyed.of_id(id_) in tokens):
                ids.append(id_)
        return ids

    @property
    def id_type(self) -> type[int] | type[str] | None:
        """Whether ids are integers or text; None for a store without examples."""
        row = self._db.one("SELECT id FROM examples LIMIT 1", default=None)
        return None if row is None else type(row[0])

    def examples(self, ids: Sequence[int | str]) -> list[Example]:
        """Return the examples of ids, in their order.

        Raises
        ------
        UnknownIdError
        StoreError
            One of them is damaged.
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
        """Return the hashes of all rows, each seen to be that of its row.

        Raises
        ------
        StoreError
            A row is damaged.
        """
        return [self._checked(row)[1] for row in self._db.each(f"SELECT {ROW} FROM examples ORDER BY id")]

    def vectors(self) -> tuple[list[int | str], NDArray[np.float32]]:
        """Return all ids, ascending, and their vectors: ndarray of shape (n, dim)."""
        ids: list[int | str] = []
        matrix = np.empty((len(self), self.facts.dim), dtype=np.float32)
        for number, (id_, blob) in enumerate(self._db.each("SELECT id, vector FROM examples ORDER BY id")):
            matrix[number] = self._vector(id_, blob)
            ids.append(id_)
        return ids, matrix

    def values(self) -> Iterator[tuple[str, bytes]]:
        """Yield every text and blob of the file, whole, with its place."""
        return self._db.values()

    def is_sound(self) -> bool:
        """Whether SQLite finds its own structures whole."""
        return self._db.is_sound()

    def _found(self, ids: Sequence[int | str]) -> dict[int | str, tuple[Example, bytes]]:
        rows = self._among(
            f"SELECT {ROW} FROM examples WHERE id", [id_ for id_ in ids if _can_be_an_id(id_)], whole=True
        )
        checked = [self._checked(row) for row in rows]
        return {_id(example): (example, hash_) for example, hash_ in checked}

    def _checked(self, row: tuple[Any, ...]) -> tuple[Example, bytes]:
        """Return the example of a row of the table, and its hash, which is seen to be its own."""
        *fields, salt, hash_, blob = row
        example = _typed(fields)
        if example is None or not isinstance(salt, bytes):
            raise self._damage(f"example {fields[0]!r}")
        if commitments.row_hash(example, self._vector(example.id, blob), salt) != hash_:
            raise self._damage(f"example {example.id!r}")
        return example, hash_

    def _vector(self, id_: object, blob: bytes) -> NDArray[np.float32]:
        if not isinstance(blob, bytes):
            raise self._damage(f"vector of example {id_!r}")
        if len(blob) != 4 * self.facts.dim or not np.isfinite(np.frombuffer(blob, dtype="<f4")).all():
            raise self._damage(f"vector of example {id_!r}")
        return np.frombuffer(blob, dtype="<f4")

    def _present(self, ids: Sequence[int | str]) -> list[int | str]:
        return self._among("SELECT id FROM examples WHERE id", [id_ for id_ in ids if _can_be_an_id(id_)])

    def _among(self, query: str, values: Iterable[object], *, whole: bool = False) -> list[Any]:
        """Return the first column, or whole rows, of a query for some values of its last column."""
        rows: list[Any] = []
        remaining = iter(values)
        while part := list(islice(remaining, CHUNK)):
            rows += self._db.all(f"{query} IN ({', '.join('?' * len(part))})", part)
        return rows if whole else [row[0] for row in rows]

    def _damage(self, name: str) -> StoreError:
        return self.facts.damage(name)


def _id(example: Example) -> int | str:
    assert example.id is not None  # it is the store's
    return example.id


def _typed(fields: Sequence[object]) -> Example | None:
    """Return a row's fields as an example; None if one is of a kind that it cannot be, which SQLite does not see to."""
    id_, *texts = fields
    sound = isinstance(id_, int | str) and all(isinstance(text, str) for text in texts[:2])
    return Example(*fields) if sound and all(isinstance(text, str | None) for text in texts) else None  # type: ignore[arg-type]


def _some(ids: Sequence[int | str]) -> str:
    return ", ".join(repr(id_) for id_ in ids[:5]) + (", ..." if len(ids) > 5 else "")


def _can_be_an_id(id_: int | str) -> bool:
    if isinstance(id_, str):
        return not unstorable(id_)
    return isinstance(id_, int) and -MAX_ID - 1 <= id_ <= MAX_ID
