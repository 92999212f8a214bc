"""The store's SQLite file: opens and checks it, and writes transactions.

For its contents, see reads.py and transaction.py. One process at a time may write, and any number may read. SQLite
overwrites what is deleted (`secure_delete`), but leaves copies elsewhere, so nothing readable is ever given to it.
"""

from __future__ import annotations

import sqlite3
import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import Any

from erase_core.errors import StoreError, StoreLockedError, StoreVersionError, UncertainError, os_reason
from erase_core.fs import handles
from erase_core.fs.durable import move_new, partial_of
from erase_core.fs.locks import WRITER, describe_holder
from erase_core.store.schema import APPLICATION_ID, MIN_SQLITE, PAGE_SIZE, PRAGMAS, SCHEMA, SCHEMA_VERSION

__all__ = ["Change", "Database", "damage", "needs_access"]

# Executes a statement once for each row of values. `Database.writing` yields it.
Change = Callable[[str, Iterable[Iterable[object]]], None]

# Parts of SQLite's messages for a file or folder that cannot be opened or written.
NO_ACCESS = ("readonly database", "unable to open database file")


def needs_access(folder: Path) -> str:
    """Return the advice for a store without write access, as sentences to put after the error."""
    return (
        f"A store needs write access to the folder {folder} and to the files in it, even for reading, since its log is "
        "written there. Give this user write access, or copy the folder to a place where this user has it."
    )


def damage(file: Path, name: str) -> StoreError:
    """Return the error for a store's file in which something is missing or invalid."""
    return StoreError(f"{file} is damaged: cannot read its {name}. Restore a backup.")


class Database:
    """A store's SQLite file.

    Parameters
    ----------
    file : Path
    timeout : float
        Seconds to wait for another process.

    Raises
    ------
    StoreError
        The file is not a store's file, or is damaged.
    StoreVersionError
        Another version of erase_core wrote it.
    """

    def __init__(self, file: Path, timeout: float) -> None:
        self.file, self.timeout = file, timeout
        try:
            self._key = handles.hold(file)
        except OSError as error:
            raise StoreError(f"{file}: {os_reason(error)}. {needs_access(file.parent)}") from error
        release = weakref.finalize(self, handles.release, self._key)
        try:
            with self.errors():
                # Any thread may use the connection; the facade admits one at a time.
                # Statements are not cached, since each would keep the values that were last bound to it.
                self._connection = sqlite3.connect(
                    file, timeout=timeout, isolation_level=None, check_same_thread=False, cached_statements=0
                )
            try:
                self._check_kind()
                with self.errors():
                    self._connection.executescript(PRAGMAS)
            except BaseException:
                self._connection.close()
                raise
        except BaseException:
            release()
            raise
        release.detach()
        # The garbage collector closes the file if nobody does.
        self._close = weakref.finalize(self, _close, self._connection, self._key)

    @staticmethod
    def create(file: Path, constants: Iterable[tuple[str, object]], state: Mapping[str, object]) -> None:
        """Create a store's file, completely or not at all.

        Parameters
        ----------
        file : Path
        constants : iterable of (str, object)
            What the store is created with.
        state : mapping of str to object
            The columns of its state.

        Raises
        ------
        StoreError
            SQLite is too old.
        OSError, sqlite3.Error
            The file cannot be written, or exists already.
        """
        if sqlite3.sqlite_version_info < MIN_SQLITE:
            raise StoreError(f"a store needs SQLite 3.37 or later, but this Python has {sqlite3.sqlite_version}")
        partial = partial_of(file)
        db = sqlite3.connect(partial, isolation_level=None)
        try:
            # SQLite itself makes the file durable when a transaction ends.
            db.execute(f"PRAGMA page_size = {PAGE_SIZE}")
            db.executescript(f"PRAGMA application_id = {APPLICATION_ID}; PRAGMA user_version = {SCHEMA_VERSION};")
            db.executescript(SCHEMA)
            db.execute("BEGIN")
            db.executemany("INSERT INTO constants VALUES (?, ?)", constants)
            names, values = ", ".join(state), tuple(state.values())
            db.execute(f"INSERT INTO state (number, {names}) VALUES (1{', ?' * len(values)})", values)
            db.execute("COMMIT")
            # Set here, so that processes that open the new file at the same time need not change it. Set last, since
            # otherwise the log would have to be moved along with the file.
            if db.execute("PRAGMA journal_mode = WAL").fetchone() != ("wal",):
                raise sqlite3.OperationalError("the file system does not support a write-ahead log")
            db.close()
            move_new(partial, file)
        finally:
            db.close()
            for left in file.parent.glob(f"{partial.name}*"):
                with suppress(OSError):
                    left.unlink(missing_ok=True)

    def close(self) -> None:
        """Close the file."""
        self._close()

    @property
    def is_closed(self) -> bool:
        """Whether `close` was called."""
        return not self._close.alive

    def one(self, query: str, values: Iterable[object] = (), default: Any = ()) -> Any:
        """Return the first row of a query."""
        rows = self.all(query, values)
        return rows[0] if rows else default

    def all(self, query: str, values: Iterable[object] = ()) -> list[tuple[Any, ...]]:
        """Return the rows of a query."""
        with self.errors():
            return self._connection.execute(query, tuple(values)).fetchall()

    def each(self, query: str) -> Iterator[tuple[Any, ...]]:
        """Yield the rows of a query."""
        with self.errors():
            # `yield from` would also close the cursor when the generator is collected, perhaps after the connection.
            for row in self._connection.execute(query):  # noqa: UP028
                yield row

    def batches(self, query: str, size: int) -> Iterator[list[tuple[Any, ...]]]:
        """Yield the rows of a query in lists of at most `size`."""
        with self.errors():
            cursor = self._connection.execute(query)
            while batch := cursor.fetchmany(size):
                yield batch

    @property
    def busy(self) -> bool:
        """Whether a `reading`, `locked` or `writing` block is active."""
        with self.errors():
            return self._connection.in_transaction

    @contextmanager
    def reading(self) -> Iterator[None]:
        """Make all reads in the block see the same state."""
        if self.busy:
            yield
            return
        with self.errors():
            self._connection.execute("BEGIN")
        try:
            self._check_still_there()
            yield
        finally:
            self._roll_back()

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Prevent other processes from writing during the block. Nothing is written to the file.

        Raises
        ------
        StoreLockedError
            Another process is writing.
        """
        try:
            with self.errors():
                self._connection.execute("PRAGMA busy_timeout = 0")
                try:
                    self._connection.execute("BEGIN IMMEDIATE")
                finally:
                    self._connection.execute(f"PRAGMA busy_timeout = {int(1000 * self.timeout)}")
            self._check_still_there()
            yield
        finally:
            self._roll_back()

    @contextmanager
    def writing(self) -> Iterator[Change]:
        """Write in one transaction, which is committed when the block ends without an error.

        Raises
        ------
        StoreLockedError
            Another process is writing, and did not finish within the timeout.
        StoreError
            The file cannot be written.
        UncertainError
            The disk failed during the commit.
        """
        with self.errors():
            self._connection.execute("BEGIN IMMEDIATE")
        try:
            self._check_still_there()
            yield self._change
            self._check_still_there()
            self._commit()
        except BaseException:
            with suppress(StoreError):  # report the first error
                self._roll_back()
            raise

    def values(self) -> Iterator[tuple[str, bytes]]:
        """Yield every text and blob of every table with its place, unsplit: in its file, SQLite splits long values."""
        for (table,) in self.all("SELECT name FROM sqlite_master WHERE type = 'table' ORDER BY name"):
            columns = [row[1] for row in self.all(f"PRAGMA table_info({table})")]
            for row in self.each(f"SELECT * FROM {table}"):
                for column, value in zip(columns, row, strict=True):
                    if isinstance(value, str | bytes):
                        content = value.encode("utf-8", "surrogatepass") if isinstance(value, str) else value
                        yield f"{self.file} ({table}.{column})", content

    def is_sound(self) -> bool:
        """Whether SQLite finds its trees, indexes and constraints intact."""
        return self.all("PRAGMA integrity_check") == [("ok",)]

    @contextmanager
    def errors(self) -> Iterator[None]:
        """Convert errors of the database to `StoreError`."""
        try:
            yield
        except UnicodeDecodeError as error:  # the database's message quotes the damaged text
            raise StoreError(f"{self.file} is damaged or not a store") from error
        except OverflowError as error:  # an integer that SQLite cannot hold
            raise StoreError(f"{self.file} is damaged or not a store: {error}") from error
        except sqlite3.Error as error:
            text = " ".join(str(error).split())
            if isinstance(error, sqlite3.ProgrammingError) and "closed" in text:
                raise StoreError(f"{self.file.parent} has been closed here. Open it again.") from error
            if _is_locked(error):
                raise StoreLockedError(
                    f"{self.file.parent}: {describe_holder(self._shm, WRITER)} is writing to the store. "
                    "Try again when it has finished."
                ) from error
            if isinstance(error, sqlite3.OperationalError):
                advice = f". {needs_access(self.file.parent)}" if any(each in text for each in NO_ACCESS) else ""
                raise StoreError(f"{self.file}: {text}; nothing was changed{advice}") from error
            raise StoreError(f"{self.file} is damaged or not a store: {text}") from error

    @property
    def _shm(self) -> Path:
        return self.file.with_name(self.file.name + "-shm")

    def _change(self, statement: str, rows: Iterable[Iterable[object]]) -> None:
        with self.errors():
            self._connection.executemany(statement, (tuple(row) for row in rows))

    def _check_still_there(self) -> None:
        """Check that the file has not been moved or replaced since it was opened."""
        with suppress(OSError):
            if handles.key_of(self.file) == self._key:
                return
        raise StoreError(f"{self.file.parent} was moved or replaced while it was open here. Open it again.")

    def _commit(self) -> None:
        with self.errors():
            try:
                self._connection.execute("COMMIT")
            except sqlite3.OperationalError as error:
                # A full disk has not taken the commit. After another error, it is unknown whether the disk has it.
                if _is_locked(error) or "full" in str(error):
                    raise
                raise UncertainError(
                    f"{self.file}: {error}. Open the store again to see whether the write counts."
                ) from error

    def _check_kind(self) -> None:
        """Check that this is a store's file, before anything is written: it may be another program's."""
        if self.one("PRAGMA application_id")[0] != APPLICATION_ID:
            raise StoreError(f"{self.file} is not a store of erase_core")
        version = self.one("PRAGMA user_version")[0]
        if version > SCHEMA_VERSION:
            raise StoreVersionError(
                f"{self.file.parent} was written by a newer version of erase_core (store version {version}, "
                f"this one reads {SCHEMA_VERSION}). Upgrade with `pip install --upgrade erase-core`."
            )
        if version < SCHEMA_VERSION:
            raise StoreVersionError(
                f"{self.file.parent} was written by an older version of erase_core (store version {version}, "
                f"this one reads {SCHEMA_VERSION}). Export its examples with that version, and ingest them into a new "
                "store. The new store will not know what was forgotten here, so keep the receipts."
            )
        if self.all(TABLES) != _expected_tables():
            raise StoreError(f"{self.file} is damaged or not a store: its tables are not those of a store")

    def _roll_back(self) -> None:
        # Some errors end the transaction themselves.
        with self.errors():
            if self._connection.in_transaction:
                self._connection.execute("ROLLBACK")


# Includes triggers and views, which a file from another source could contain.
TABLES = "SELECT type, name, tbl_name, sql FROM sqlite_master ORDER BY name"


@cache
def _expected_tables() -> list[tuple[Any, ...]]:
    with sqlite3.connect(":memory:") as db:
        db.executescript(SCHEMA)
        tables = db.execute(TABLES).fetchall()
    db.close()
    return tables


def _is_locked(error: sqlite3.Error) -> bool:
    return "locked" in str(error) or "busy" in str(error)


def _close(connection: sqlite3.Connection, key: handles.Key) -> None:
    """Close a file. SQLite comes first: see `handles.release`."""
    connection.close()
    handles.release(key)
