"""The store: one SQLite file that holds examples, their vectors and the settings, and is the truth about them.

What is derived from it, the fitted model, is clustering.py's business. One process writes at a time, any number read.
Everything deleted is overwritten (`secure_delete`), and the write-ahead log is cut off after every removal.
"""

from __future__ import annotations

import os
import sqlite3
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from erase_core.errors import (
    DuplicateIdError,
    IdKindError,
    StoreError,
    StoreLockedError,
    StoreVersionError,
    UnknownIdError,
    UnknownSubjectError,
)
from erase_core.examples import Example
from erase_core.settings import Settings

__all__ = ["Store"]

FILE = "examples.sqlite"
APPLICATION_ID = 0x45524153
SCHEMA_VERSION = 1
# Rows have numbers of their own, so that no page of a tree repeats an id as a separator of its children.
SCHEMA = """
CREATE TABLE facts (name TEXT PRIMARY KEY, value ANY) STRICT, WITHOUT ROWID;
CREATE TABLE examples (
    number INTEGER PRIMARY KEY,
    id ANY NOT NULL UNIQUE,
    input TEXT NOT NULL,
    output TEXT NOT NULL,
    rationale TEXT,
    subject TEXT,
    vector BLOB NOT NULL
) STRICT;
CREATE INDEX examples_by_subject ON examples (subject) WHERE subject IS NOT NULL;
"""
PRAGMAS = """
PRAGMA secure_delete = ON;
PRAGMA journal_mode = WAL;
PRAGMA synchronous = FULL;
PRAGMA temp_store = MEMORY;
"""
COLUMNS = "id, input, output, rationale, subject"
# Variables in one statement, below the least limit that SQLite is built with.
CHUNK = 500


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
        A newer version of erase_core wrote it.
    """

    def __init__(self, folder: Path, timeout: float = 5.0) -> None:
        self.folder, self.timeout = folder, timeout
        self._file = folder / FILE
        if not self._file.is_file():
            raise StoreError(f"{folder} is not a store; make one with `erase init {folder}` or Erase.create")
        self._db = self._connect()
        try:
            self._check_version()
        except BaseException:
            self._db.close()
            raise

    @classmethod
    def create(
        cls, folder: Path, settings: Settings, embedder: str, dim: int, axes: NDArray[np.float64] | None = None
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
        """
        try:
            if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
                raise StoreError(f"{folder} is not empty; choose another folder, or open the store that is in it")
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            # Written under another name first: a store is there as a whole or not at all.
            partial = folder / f"{FILE}.partial-{os.getpid()}"
            db = sqlite3.connect(partial, isolation_level=None)
            try:
                db.execute(f"PRAGMA application_id = {APPLICATION_ID}")
                db.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")
                db.executescript(SCHEMA)
                facts = {
                    "settings": settings.to_json(),
                    "embedder": embedder,
                    "dim": dim,
                    "generation": 0,
                    "digest": "",
                }
                blob = None if axes is None else np.ascontiguousarray(axes, dtype="<f8").tobytes()
                db.executemany("INSERT INTO facts VALUES (?, ?)", [*facts.items(), ("axes", blob)])
            finally:
                db.close()
            partial.rename(folder / FILE)
        except OSError as error:
            raise StoreError(f"{folder}: {error.strerror or error}") from error
        return cls(folder)

    def close(self) -> None:
        """Let go of the file."""
        self._db.close()

    @property
    def settings(self) -> Settings:
        """What the store was created with."""
        return Settings.from_json(str(self._fact("settings")))

    @property
    def embedder(self) -> str:
        """Identity of the embedding model."""
        return str(self._fact("embedder"))

    @property
    def dim(self) -> int:
        """Dimensions of the vectors."""
        return int(self._fact("dim"))

    @property
    def axes(self) -> NDArray[np.float64] | None:
        """The public axes of the projection, if there are any."""
        blob = self._fact("axes")
        return None if blob is None else np.frombuffer(blob, dtype="<f8").reshape(-1, self.dim)

    @property
    def generation(self) -> int:
        """How often the store was written to."""
        return int(self._fact("generation"))

    @property
    def digest(self) -> str:
        """Digest of the model that belongs to the examples; empty where there are none."""
        return str(self._fact("digest"))

    def __len__(self) -> int:
        """Return the number of examples."""
        return int(self._one("SELECT count(*) FROM examples")[0])

    @property
    def n_subjects(self) -> int:
        """Number of subjects."""
        return int(self._one("SELECT count(DISTINCT subject) FROM examples")[0])

    @contextmanager
    def reading(self) -> Iterator[None]:
        """Read everything within as of one moment."""
        if self._db.in_transaction:
            yield
            return
        with self._errors():
            self._db.execute("BEGIN")
        try:
            yield
        finally:
            self._db.execute("ROLLBACK")

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
        with self._errors():
            self._db.execute("BEGIN IMMEDIATE")
        try:
            yield
            with self._errors():
                self._db.execute("UPDATE facts SET value = value + 1 WHERE name = 'generation'")
                self._db.execute("COMMIT")
        except BaseException:
            if self._db.in_transaction:
                self._db.execute("ROLLBACK")
            raise

    def scrub(self) -> None:
        """Cut the write-ahead log off, which may hold pages from before the last removal, and see that it is.

        Raises
        ------
        StoreLockedError
            A reader held it for longer than the timeout.
        """
        deadline = time.monotonic() + self.timeout
        while True:
            with self._errors():
                busy = self._db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0]
            log = self._file.with_name(FILE + "-wal")
            if not busy and (not log.exists() or log.stat().st_size == 0):
                return
            if time.monotonic() > deadline:
                raise StoreLockedError(
                    f"{self.folder}: the removal is done, but another process still reads from before it, and "
                    f"{log.name} may hold what was removed; end that process, then open and close the store"
                )
            time.sleep(0.01)

    def insert(self, examples: Sequence[Example], vectors: NDArray[np.float32]) -> None:
        """Add examples with their vectors. To be called within `writing`."""
        rows = (
            (e.id, e.input, e.output, e.rationale, e.subject, vector.astype("<f4").tobytes())
            for e, vector in zip(examples, vectors, strict=True)
        )
        with self._errors():
            self._db.executemany(f"INSERT INTO examples ({COLUMNS}, vector) VALUES (?, ?, ?, ?, ?, ?)", rows)

    def delete(self, ids: Sequence[int | str]) -> None:
        """Delete examples, and overwrite them. To be called within `writing`."""
        with self._errors():
            self._db.executemany("DELETE FROM examples WHERE id = ?", ((id_,) for id_ in ids))

    def set_fact(self, name: str, value: str) -> None:
        """Change the digest or the settings. To be called within `writing`."""
        with self._errors():
            self._db.execute("UPDATE facts SET value = ? WHERE name = ?", (value, name))

    def next_ids(self, count: int) -> list[int]:
        """Return the integers after the largest id, for examples that bring none.

        Raises
        ------
        IdKindError
            The store's ids are text.
        """
        largest = self._one("SELECT max(id) FROM examples")[0]
        if isinstance(largest, str):
            raise IdKindError("the store's ids are text, so every example needs an `id`")
        first = 0 if largest is None else largest + 1
        return list(range(first, first + count))

    def check_new(self, ids: Sequence[int | str]) -> None:
        """Check that ids are none of the store's, and of its kind.

        Raises
        ------
        DuplicateIdError, IdKindError
        """
        present = self._one("SELECT id FROM examples LIMIT 1", default=None)
        if present is not None and ids and isinstance(present[0], str) != isinstance(ids[0], str):
            theirs, ours = ("text" if isinstance(id_, str) else "integers" for id_ in (present[0], ids[0]))
            raise IdKindError(f"the store's ids are {theirs}, those given {ours}; nothing was ingested")
        taken = self._present(ids)
        if taken:
            shown = ", ".join(repr(id_) for id_ in taken[:5]) + (", ..." if len(taken) > 5 else "")
            raise DuplicateIdError(f"{len(taken)} of the ids are in the store already: {shown}; nothing was ingested")

    def check_known(self, ids: Sequence[int | str]) -> None:
        """Check that ids are the store's.

        Raises
        ------
        UnknownIdError
        """
        known = set(self._present(ids))
        unknown = [id_ for id_ in ids if id_ not in known]
        if unknown:
            shown = ", ".join(repr(id_) for id_ in unknown[:5]) + (", ..." if len(unknown) > 5 else "")
            raise UnknownIdError(f"{len(unknown)} of the ids are not in the store: {shown}; nothing was forgotten")

    def ids_of(self, subject: str) -> list[int | str]:
        """Return the ids of a subject's examples.

        Raises
        ------
        UnknownSubjectError
            There are none.
        """
        rows = self._all("SELECT id FROM examples WHERE subject = ? ORDER BY id", (subject,))
        if not rows:
            raise UnknownSubjectError(f"no example is about the subject {subject!r}; nothing was forgotten")
        return [row[0] for row in rows]

    def ids(self) -> list[int | str]:
        """Return all ids, ascending."""
        return [row[0] for row in self._all("SELECT id FROM examples ORDER BY id")]

    def examples(self, ids: Sequence[int | str]) -> list[Example]:
        """Return the examples of ids, in their order.

        Raises
        ------
        UnknownIdError
        """
        found = {row[0]: Example(*row) for row in self._by_id(COLUMNS, ids)}
        if len(found) < len(set(ids)):
            self.check_known(ids)
        return [found[id_] for id_ in ids]

    def all_examples(self) -> Iterator[Example]:
        """Yield the examples by ascending id."""
        with self._errors():
            for row in self._db.execute(f"SELECT {COLUMNS} FROM examples ORDER BY id"):
                yield Example(*row)

    def vectors(self) -> tuple[list[int | str], NDArray[np.float32]]:
        """Return all ids, ascending, and their vectors: ndarray of shape (n, dim)."""
        ids: list[int | str] = []
        matrix = np.empty((len(self), self.dim), dtype=np.float32)
        with self._errors():
            for number, (id_, blob) in enumerate(self._db.execute("SELECT id, vector FROM examples ORDER BY id")):
                if len(blob) != 4 * self.dim:
                    raise StoreError(f"{self._file}: the vector of example {id_!r} is damaged; restore a backup")
                ids.append(id_)
                matrix[number] = np.frombuffer(blob, dtype="<f4")
        return ids, matrix

    def _connect(self) -> sqlite3.Connection:
        with self._errors():
            # Any thread may use it; the facade lets one at a time.
            db = sqlite3.connect(self._file, timeout=self.timeout, isolation_level=None, check_same_thread=False)
            try:
                db.executescript(PRAGMAS)
            except sqlite3.Error:
                db.close()
                raise
        return db

    def _check_version(self) -> None:
        if self._one("PRAGMA application_id")[0] != APPLICATION_ID:
            raise StoreError(f"{self._file} is not a store of erase_core")
        version = self._one("PRAGMA user_version")[0]
        if version > SCHEMA_VERSION:
            raise StoreVersionError(
                f"{self.folder} was written by a newer version of erase_core (store version {version}, "
                f"this one knows {SCHEMA_VERSION}); upgrade with `pip install --upgrade erase-core`"
            )

    def _present(self, ids: Sequence[int | str]) -> list[int | str]:
        return [row[0] for row in self._by_id("id", ids)]

    def _by_id(self, columns: str, ids: Sequence[int | str]) -> Iterator[tuple[Any, ...]]:
        for start in range(0, len(ids), CHUNK):
            part = ids[start : start + CHUNK]
            marks = ", ".join("?" * len(part))
            yield from self._all(f"SELECT {columns} FROM examples WHERE id IN ({marks})", part)

    def _fact(self, name: str) -> Any:
        row = self._one("SELECT value FROM facts WHERE name = ?", (name,), default=None)
        if row is None:
            raise StoreError(f"{self._file} is damaged: it does not tell its {name}; restore a backup")
        return row[0]

    def _one(self, query: str, values: Iterable[object] = (), default: Any = ()) -> Any:
        rows = self._all(query, values)
        return rows[0] if rows else default

    def _all(self, query: str, values: Iterable[object] = ()) -> list[tuple[Any, ...]]:
        with self._errors():
            return self._db.execute(query, tuple(values)).fetchall()

    @contextmanager
    def _errors(self) -> Iterator[None]:
        """Turn the database's errors into ours."""
        try:
            yield
        except sqlite3.Error as error:
            text = str(error)
            if "locked" in text or "busy" in text:
                raise StoreLockedError(
                    f"{self.folder}: another process is writing to the store; try again when it has ended"
                ) from error
            if isinstance(error, sqlite3.OperationalError):
                raise StoreError(f"{self._file}: {text}; nothing was changed") from error
            raise StoreError(f"{self._file} is damaged or not a store: {text}") from error
