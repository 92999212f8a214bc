"""The store: one SQLite file that holds examples, their vectors and the settings, and is the truth about them.

What is derived from it, the fitted model, is clustering.py's business. One process writes at a time, any number read.
Everything deleted is overwritten (`secure_delete`); after a removal the file is written anew and its log cut off.
"""

from __future__ import annotations

import os
import sqlite3
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from erase_core.errors import (
    DataError,
    DuplicateIdError,
    IdKindError,
    ScrubError,
    StoreError,
    StoreLockedError,
    StoreVersionError,
    UnknownIdError,
    UnknownSubjectError,
)
from erase_core.examples import Example, unstorable
from erase_core.schema import APPLICATION_ID, FILE, MIN_SQLITE, PRAGMAS, SCHEMA, SCHEMA_VERSION
from erase_core.settings import Settings

__all__ = ["Store"]

COLUMNS = "id, input, output, rationale, subject"
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
        A newer version of erase_core wrote it.
    """

    def __init__(self, folder: Path, timeout: float = 5.0) -> None:
        # The process may go elsewhere, and the snapshot is to be replaced here all the same.
        self.folder, self.timeout = folder.absolute(), timeout
        self._file = self.folder / FILE
        if not self._file.is_file():
            raise StoreError(f"{folder} is not a store; make one with `erase init --store {folder}` or Erase.create")
        with self._errors():
            # Any thread may use it; the facade lets one at a time.
            self._db = sqlite3.connect(self._file, timeout=timeout, isolation_level=None, check_same_thread=False)
        try:
            self._check_version()
            with self._errors():
                self._db.executescript(PRAGMAS)
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
        if sqlite3.sqlite_version_info < MIN_SQLITE:
            raise StoreError(f"a store needs SQLite 3.37 or later, and this Python has {sqlite3.sqlite_version}")
        try:
            cls.check_vacant(folder)
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
                    "scrubbed": 1,
                }
                blob = None if axes is None else np.ascontiguousarray(axes, dtype="<f8").tobytes()
                db.executemany("INSERT INTO facts VALUES (?, ?)", [*facts.items(), ("axes", blob)])
                partial.rename(folder / FILE)
            finally:
                db.close()
                partial.unlink(missing_ok=True)
        except OSError as error:
            raise StoreError(f"{folder}: {error.strerror or error}") from error
        except sqlite3.Error as error:
            raise StoreError(f"{folder}: {error}") from error
        return cls(folder)

    @staticmethod
    def check_vacant(folder: Path) -> None:
        """Check that a folder is absent or empty.

        Raises
        ------
        StoreError
        """
        try:
            vacant = not folder.exists() or (folder.is_dir() and not any(folder.iterdir()))
        except OSError as error:
            raise StoreError(f"{folder}: {error.strerror or error}") from error
        if not vacant:
            raise StoreError(f"{folder} is not empty; choose another folder, or open the store that is in it")

    def close(self) -> None:
        """Let go of the file."""
        self._db.close()

    @property
    def settings(self) -> Settings:
        """What the store was created with."""
        text = self._fact("settings")
        try:
            return Settings.from_json(text)
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise self._damage("settings") from error

    @property
    def embedder(self) -> str:
        """Identity of the embedding model."""
        return str(self._fact("embedder"))

    @property
    def dim(self) -> int:
        """Dimensions of the vectors."""
        return self._number("dim")

    @property
    def axes(self) -> NDArray[np.float64] | None:
        """The public axes of the projection, if there are any."""
        blob = self._fact("axes")
        if blob is None:
            return None
        if not isinstance(blob, bytes) or not blob or len(blob) % (8 * self.dim):
            raise self._damage("axes")
        return np.frombuffer(blob, dtype="<f8").reshape(-1, self.dim)

    @property
    def generation(self) -> int:
        """How often the store was written to."""
        return self._number("generation")

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

    @property
    def size(self) -> int:
        """Bytes that the folder's files take."""
        try:
            files = list(self.folder.iterdir())
        except OSError as error:
            raise StoreError(f"{self.folder}: {error.strerror or error}") from error
        size = 0
        for file in files:
            with suppress(FileNotFoundError):  # another process has just replaced it
                size += file.stat().st_size
        return size

    @contextmanager
    def reading(self) -> Iterator[None]:
        """Read everything within as of one moment."""
        if self.busy:
            yield
            return
        with self._errors():
            self._db.execute("BEGIN")
        try:
            yield
        finally:
            self._roll_back()

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Keep others from writing within, if nobody writes now, without writing to the file.

        Raises
        ------
        StoreLockedError
            Another process writes.
        """
        with self._errors():
            self._db.execute("PRAGMA busy_timeout = 0")
            try:
                self._db.execute("BEGIN IMMEDIATE")
            finally:
                self._db.execute(f"PRAGMA busy_timeout = {int(1000 * self.timeout)}")
        try:
            yield
        finally:
            self._roll_back()

    @property
    def busy(self) -> bool:
        """Whether this is within `reading`, `locked` or `writing`."""
        with self._errors():
            return self._db.in_transaction

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
            self._roll_back()
            raise

    @property
    def is_scrubbed(self) -> bool:
        """Whether `scrub` has ended since the last removal: not so if the process was killed, or the disk full."""
        return bool(self._fact("scrubbed"))

    def scrub(self) -> None:
        """Write the file anew, cut the write-ahead log off, and see that it is.

        What is deleted is overwritten where it was, but SQLite has copied rows from page to page before, as its trees
        grew and shrank, and leaves the copies. So only a file that is written anew holds nothing but what is there.

        Raises
        ------
        ScrubError
            Another process wrote, or read from before the removal, for longer than the timeout; or the disk is full.
        """
        deadline = time.monotonic() + self.timeout
        try:
            generation = self.generation
            self._db.execute("VACUUM")
            self._cut_log(deadline)
            # Not if another process has removed something since.
            self._db.execute(
                "UPDATE facts SET value = 1 WHERE name = 'scrubbed' AND ? = "
                "(SELECT value FROM facts WHERE name = 'generation')",
                (generation,),
            )
            self._cut_log(deadline)
        except sqlite3.Error as error:
            raise ScrubError(
                f"{self.folder}: the removal is done, but its files may still hold what was removed ({error}); "
                "make room, or end the other process, and open the store again, which goes on with it"
            ) from error

    def _cut_log(self, deadline: float) -> None:
        log = self._file.with_name(FILE + "-wal")
        while self._db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0] or _size(log):
            if time.monotonic() > deadline:
                raise sqlite3.OperationalError("database is locked: a process still reads from before it")
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
            self._db.execute("UPDATE facts SET value = 0 WHERE name = 'scrubbed'")

    def set_fact(self, name: str, value: str) -> None:
        """Change the digest. To be called within `writing`."""
        with self._errors():
            self._db.execute("UPDATE facts SET value = ? WHERE name = ?", (value, name))

    def next_ids(self, count: int) -> list[int]:
        """Return the integers after the largest id, for examples that bring none.

        Raises
        ------
        IdKindError
            The store's ids are text.
        DataError
            There are not so many.
        """
        largest = self._one("SELECT max(id) FROM examples")[0]
        if isinstance(largest, str):
            raise IdKindError("the store's ids are text, so every example needs an `id`")
        first = 0 if largest is None else largest + 1
        if first + count > MAX_ID + 1:
            raise DataError(
                f"{count} examples cannot be numbered on from the largest id, {largest}; ids end at 2**63 - 1, "
                "so give every example an `id`"
            )
        return list(range(first, first + count))

    def check_new(self, ids: Sequence[int | str]) -> None:
        """Check that ids are none of the store's, and of its kind.

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
            raise DuplicateIdError(
                f"{len(taken)} of the ids are in the store already: {_some(taken)}; nothing was ingested"
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
            raise UnknownIdError(
                f"{len(unknown)} of the ids are not in the store: {_some(unknown)}; nothing was forgotten"
            )

    def ids_of(self, subject: str) -> list[int | str]:
        """Return the ids of a subject's examples.

        Raises
        ------
        UnknownSubjectError
            There are none.
        """
        query = "SELECT id FROM examples WHERE subject = ? ORDER BY id"
        rows = [] if unstorable(subject) else self._all(query, (subject,))
        if not rows:
            raise UnknownSubjectError(f"no example is about the subject {subject!r}; nothing was forgotten")
        return [row[0] for row in rows]

    @property
    def id_type(self) -> type[int] | type[str] | None:
        """Whether ids are integers or text; None for a store without examples."""
        row = self._one("SELECT id FROM examples LIMIT 1", default=None)
        return None if row is None else type(row[0])

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
                    raise self._damage(f"vector of example {id_!r}")
                ids.append(id_)
                matrix[number] = np.frombuffer(blob, dtype="<f4")
        if not np.isfinite(matrix).all():
            raise self._damage(f"vector of example {ids[int(np.isfinite(matrix).all(axis=1).argmin())]!r}")
        return ids, matrix

    def _check_version(self) -> None:
        """Look before anything is written: the file may be another program's."""
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
            part = [id_ for id_ in ids[start : start + CHUNK] if _can_be_an_id(id_)]
            marks = ", ".join("?" * len(part))
            yield from self._all(f"SELECT {columns} FROM examples WHERE id IN ({marks})", part)

    def _fact(self, name: str) -> Any:
        row = self._one("SELECT value FROM facts WHERE name = ?", (name,), default=None)
        if row is None:
            raise self._damage(name)
        return row[0]

    def _number(self, name: str) -> int:
        value = self._fact(name)
        if not isinstance(value, int):
            raise self._damage(name)
        return value

    def _damage(self, name: str) -> StoreError:
        return StoreError(f"{self._file} is damaged: it does not tell its {name}; restore a backup")

    def _roll_back(self) -> None:
        # Some errors have ended the transaction already.
        with self._errors():
            if self._db.in_transaction:
                self._db.execute("ROLLBACK")

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
        except UnicodeDecodeError as error:  # the database's message quotes what is damaged
            raise StoreError(f"{self._file} is damaged or not a store") from error
        except sqlite3.Error as error:
            text = " ".join(str(error).split())
            if isinstance(error, sqlite3.ProgrammingError) and "closed" in text:
                raise StoreError(f"{self.folder} has been closed here; open it again") from error
            if "locked" in text or "busy" in text:
                raise StoreLockedError(
                    f"{self.folder}: another process is writing to the store; try again when it has ended"
                ) from error
            if isinstance(error, sqlite3.OperationalError):
                raise StoreError(f"{self._file}: {text}; nothing was changed") from error
            raise StoreError(f"{self._file} is damaged or not a store: {text}") from error


def _some(ids: Sequence[int | str]) -> str:
    return ", ".join(repr(id_) for id_ in ids[:5]) + (", ..." if len(ids) > 5 else "")


def _can_be_an_id(id_: int | str) -> bool:
    return not unstorable(id_) if isinstance(id_, str) else -MAX_ID - 1 <= id_ <= MAX_ID


def _size(file: Path) -> int:
    return file.stat().st_size if file.exists() else 0
