"""One SQLite file: opened as it should be, written in transactions, and rewritten so that nothing deleted stays.

What stands in it is store.py's business. One process writes at a time, any number read. Everything deleted is
overwritten (`secure_delete`); after a removal the file is written anew and its log cut off.
"""

from __future__ import annotations

import sqlite3
import time
import weakref
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import Any

from erase_core.errors import ScrubError, StoreError, StoreLockedError, StoreVersionError, UncertainError, os_reason
from erase_core.fs import handles
from erase_core.fs.durable import move_new, partial_of, sync_folder
from erase_core.fs.locks import READERS, WRITER, describe_holder
from erase_core.store.schema import APPLICATION_ID, MIN_SQLITE, PRAGMAS, SCHEMA, SCHEMA_VERSION

__all__ = ["Change", "Database", "needs_access"]

# Executes a statement for each of some rows of values. Had from `Database.writing` and `Database.amending`.
Change = Callable[[str, Iterable[Iterable[object]]], None]

# What SQLite says where a file or a folder cannot be opened or written.
NO_ACCESS = ("readonly database", "unable to open database file")


def needs_access(folder: Path) -> str:
    """Return what a store needs that cannot be written to, to be read after what is wrong."""
    return (
        f"a store needs write access to the folder {folder} and to the files in it, for reading too, since its log is "
        "written there: give this user that access, or copy the folder to where there is"
    )


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
        It is no store's file, or a damaged one.
    StoreVersionError
        Another version of erase_core wrote it.
    """

    def __init__(self, file: Path, timeout: float) -> None:
        self.file, self.timeout = file, timeout
        try:
            # One that is never closed is let go of by the garbage collector.
            self._key = handles.hold(file)
        except OSError as error:
            raise StoreError(f"{file}: {os_reason(error)}; {needs_access(file.parent)}") from error
        self._let_go = weakref.finalize(self, handles.release, self._key)
        try:
            with self.errors():
                # Any thread may use it; the facade lets one at a time.
                # No statements are kept, since each would keep the values that were bound to it last.
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
            self._let_go()
            raise

    @staticmethod
    def create(file: Path, metadata: Iterable[tuple[str, object]]) -> None:
        """Make a store's file: there as a whole or not at all.

        Raises
        ------
        StoreError
            SQLite is too old.
        OSError, sqlite3.Error
            The file cannot be written, or is there already.
        """
        if sqlite3.sqlite_version_info < MIN_SQLITE:
            raise StoreError(f"a store needs SQLite 3.37 or later, and this Python has {sqlite3.sqlite_version}")
        partial = partial_of(file)
        db = sqlite3.connect(partial, isolation_level=None)
        try:
            # SQLite makes the file durable itself when a transaction ends.
            db.executescript(f"PRAGMA application_id = {APPLICATION_ID}; PRAGMA user_version = {SCHEMA_VERSION};")
            db.executescript(SCHEMA)
            db.execute("BEGIN")
            db.executemany("INSERT INTO facts VALUES (?, ?)", metadata)
            db.execute("COMMIT")
            # Those who open it first, all at once, need not change it. Not before, or its log would have to come along.
            if db.execute("PRAGMA journal_mode = WAL").fetchone() != ("wal",):
                raise sqlite3.OperationalError("it has no write-ahead log")
            db.close()
            move_new(partial, file)
        finally:
            db.close()
            for left in file.parent.glob(f"{partial.name}*"):
                with suppress(OSError):
                    left.unlink(missing_ok=True)

    def close(self) -> None:
        """Let go of the file."""
        self._connection.close()
        self._let_go()

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
            # `yield from` would close the cursor too, when the generator is collected: perhaps after the connection.
            for row in self._connection.execute(query):  # noqa: UP028
                yield row

    @property
    def busy(self) -> bool:
        """Whether this is within `reading`, `locked` or `writing`."""
        with self.errors():
            return self._connection.in_transaction

    @contextmanager
    def reading(self) -> Iterator[None]:
        """Read everything within as of one moment."""
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
        """Keep others from writing within, if nobody writes now, without writing to the file.

        Raises
        ------
        StoreLockedError
            Another process writes.
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
        """Write everything within, or nothing: it counts when this ends without an error.

        Raises
        ------
        StoreLockedError
            Another process writes, and did not end within the timeout.
        StoreError
            The file cannot be written.
        UncertainError
            The disk failed at the very end.
        """
        with self.errors():
            self._connection.execute("BEGIN IMMEDIATE")
        try:
            self._check_still_there()
            yield self._change
            self._check_still_there()
            self._commit()
        except BaseException:
            with suppress(StoreError):  # what went wrong first is what to tell of
                self._roll_back()
            raise

    def rewrite(self) -> None:
        """Write the file anew, cut the write-ahead log off, and see that it is.

        What is deleted is overwritten where it was, but SQLite has copied rows from page to page before, as its trees
        grew and shrank, and leaves the copies. So only a file that is written anew holds nothing but what is there.

        Raises
        ------
        ScrubError
            Another process wrote, or read from before, for longer than the timeout; or the disk is full.
        """
        deadline = time.monotonic() + self.timeout
        with self.scrubbing():
            self._patiently("VACUUM", deadline)
            self._cut_log(deadline)
            # A name that was given up before may not come back with the power.
            sync_folder(self.file.parent)

    @contextmanager
    def amending(self) -> Iterator[Change]:
        """Write within, after `rewrite`, and cut the log off again.

        Raises
        ------
        ScrubError
        """
        deadline = time.monotonic() + self.timeout
        with self.scrubbing():
            with self.writing() as change:
                yield change
            self._cut_log(deadline)

    @contextmanager
    def scrubbing(self) -> Iterator[None]:
        """Turn errors within, where a removal counts already, into those that say so."""
        try:
            yield
        except ScrubError:
            raise
        except (sqlite3.Error, StoreError, OSError) as error:
            text = str(error).replace("; nothing was changed", "")
            raise ScrubError(
                f"{self.file.parent}: the removal is done, but its files may still hold what was removed ({text}); "
                "make room, or end the other process, and open the store again, which finishes the removal"
            ) from error

    def values(self) -> Iterator[tuple[str, bytes]]:
        """Yield every text and blob of every table, whole, with its place: SQLite splits what is long in its file."""
        for (table,) in self.all("SELECT name FROM sqlite_master WHERE type = 'table' ORDER BY name"):
            columns = [row[1] for row in self.all(f"PRAGMA table_info({table})")]
            for row in self.each(f"SELECT * FROM {table}"):
                for column, value in zip(columns, row, strict=True):
                    if isinstance(value, str | bytes):
                        content = value.encode("utf-8", "surrogatepass") if isinstance(value, str) else value
                        yield f"{self.file} ({table}.{column})", content

    def is_sound(self) -> bool:
        """Whether SQLite finds its own structures whole: trees, indexes, constraints."""
        return self.all("PRAGMA integrity_check") == [("ok",)]

    @contextmanager
    def errors(self) -> Iterator[None]:
        """Turn the database's errors into ours."""
        try:
            yield
        except UnicodeDecodeError as error:  # the database's message quotes what is damaged
            raise StoreError(f"{self.file} is damaged or not a store") from error
        except OverflowError as error:  # a number at SQLite's end
            raise StoreError(f"{self.file} is damaged or not a store: {error}") from error
        except sqlite3.Error as error:
            text = " ".join(str(error).split())
            if isinstance(error, sqlite3.ProgrammingError) and "closed" in text:
                raise StoreError(f"{self.file.parent} has been closed here; open it again") from error
            if _is_locked(error):
                raise StoreLockedError(
                    f"{self.file.parent}: {describe_holder(self._shm, WRITER)} is writing to the store; "
                    "try again when it has ended"
                ) from error
            if isinstance(error, sqlite3.OperationalError):
                advice = f"; {needs_access(self.file.parent)}" if any(each in text for each in NO_ACCESS) else ""
                raise StoreError(f"{self.file}: {text}; nothing was changed{advice}") from error
            raise StoreError(f"{self.file} is damaged or not a store: {text}") from error

    @property
    def _shm(self) -> Path:
        return self.file.with_name(self.file.name + "-shm")

    def _change(self, statement: str, rows: Iterable[Iterable[object]]) -> None:
        with self.errors():
            self._connection.executemany(statement, (tuple(row) for row in rows))

    def _cut_log(self, deadline: float) -> None:
        log = self.file.with_name(self.file.name + "-wal")
        while self._patiently("PRAGMA wal_checkpoint(TRUNCATE)", deadline)[0][0] or _size(log):
            if time.monotonic() > deadline:
                raise StoreLockedError(f"{describe_holder(self._shm, READERS)} still reads from before it")
            time.sleep(0.01)

    def _check_still_there(self) -> None:
        """Check that the file was not moved away, or another put in its place, since it was opened."""
        with suppress(OSError):
            if handles.key_of(self.file) == self._key:
                return
        raise StoreError(f"{self.file.parent} was moved or replaced while it was open here; open it again")

    def _patiently(self, statement: str, deadline: float) -> list[tuple[Any, ...]]:
        """Execute a statement, again where another process is in the way: SQLite itself does not wait for all locks."""
        while (rows := self._unless_locked(statement)) is None:
            if time.monotonic() > deadline:
                raise StoreLockedError(f"{describe_holder(self._shm, WRITER)} writes to it")
            time.sleep(0.01)
        return rows

    def _unless_locked(self, statement: str) -> list[tuple[Any, ...]] | None:
        try:
            return self._connection.execute(statement).fetchall()
        except sqlite3.OperationalError as error:
            if _is_locked(error):
                return None
            raise

    def _commit(self) -> None:
        with self.errors():
            try:
                self._connection.execute("COMMIT")
            except sqlite3.OperationalError as error:
                # A disk that is full took no commit; of one that could not be synced nobody knows what it has.
                if _is_locked(error) or "full" in str(error):
                    raise
                raise UncertainError(
                    f"{self.file}: {error}; whether the write counts shows when the store is opened again"
                ) from error

    def _check_kind(self) -> None:
        """Look before anything is written: the file may be another program's."""
        if self.one("PRAGMA application_id")[0] != APPLICATION_ID:
            raise StoreError(f"{self.file} is not a store of erase_core")
        version = self.one("PRAGMA user_version")[0]
        if version > SCHEMA_VERSION:
            raise StoreVersionError(
                f"{self.file.parent} was written by a newer version of erase_core (store version {version}, "
                f"this one knows {SCHEMA_VERSION}); upgrade with `pip install --upgrade erase-core`"
            )
        if version < SCHEMA_VERSION:
            raise StoreVersionError(
                f"{self.file.parent} was written by an older version of erase_core (store version {version}, "
                f"this one reads {SCHEMA_VERSION}); export its examples with that version, and ingest them into a new "
                "store, which will not know what was forgotten here: keep the receipts"
            )
        if self.all(TABLES) != _expected_tables():
            raise StoreError(f"{self.file} is damaged or not a store: its tables are not those of a store")

    def _roll_back(self) -> None:
        # Some errors have ended the transaction already.
        with self.errors():
            if self._connection.in_transaction:
                self._connection.execute("ROLLBACK")


# Triggers and views among them: a file from elsewhere could bring some.
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


def _size(file: Path) -> int:
    return file.stat().st_size if file.exists() else 0
