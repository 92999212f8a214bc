"""Stores that break a promise on purpose, so that the harness is seen to find it: applied in a process that is stopped.

They reach into the product by the statements that it gives to SQLite, where they can, and else by names within it.
"""

from __future__ import annotations

import secrets
import sqlite3
from collections.abc import Callable, Iterable
from types import SimpleNamespace
from typing import Any

from erase_core.erasure.removal import Removals
from erase_core.store import key_file
from erase_core.store.database import Database
from erase_core.store.key_file import KeyFile
from erase_core.store.store import Store
from erase_core.store.transaction import WriteTransaction

Rewrite = Callable[["Rewritten", str], str]


class Rewritten(sqlite3.Connection):
    """A connection that carries out other statements than it is given."""

    rewrite: Rewrite = staticmethod(lambda connection, sql: sql)

    def execute(self, sql: str, *values: Any) -> sqlite3.Cursor:
        return super().execute(Rewritten.rewrite(self, sql), *values)

    def executemany(self, sql: str, *values: Any) -> sqlite3.Cursor:
        cursor = super().executemany(sql, *values)
        Rewritten.rewrite(self, sql + " -- done")
        return cursor

    def executescript(self, sql: str) -> sqlite3.Cursor:
        return super().executescript(Rewritten.rewrite(self, sql))


def rewriting(rewrite: Rewrite) -> Callable[[], None]:
    """A mutant of every statement."""

    def apply() -> None:
        connect = sqlite3.connect
        Rewritten.rewrite = staticmethod(rewrite)
        sqlite3.connect = lambda *args, **options: connect(*args, **options, factory=Rewritten)  # type: ignore[assignment]

    return apply


def in_two_transactions(connection: Rewritten, sql: str) -> str:
    if sql.endswith("-- done") and "examples" in sql:
        super(Rewritten, connection).execute("COMMIT")
        super(Rewritten, connection).execute("BEGIN IMMEDIATE")
    return sql


def without_sync(connection: Rewritten, sql: str) -> str:
    return sql.replace("synchronous = FULL", "synchronous = OFF")


# ---- keys ----
def keys_not_synced() -> None:
    KeyFile._sync = lambda self: None  # type: ignore[method-assign]


def keys_overwritten_in_memory() -> None:
    def destroy(self: KeyFile, slots: Iterable[int]) -> None:
        for slot in slots:
            bytearray(self._read(slot, 1))[:] = bytes(32)

    KeyFile.destroy = destroy  # type: ignore[method-assign]


def keys_half_overwritten() -> None:
    write = KeyFile._write
    KeyFile._write = lambda self, first, content: write(  # type: ignore[method-assign]
        self, first, content if content.strip(b"\0") else content[:16]
    )


def other_keys_overwritten() -> None:
    destroy = KeyFile.destroy
    KeyFile.destroy = lambda self, slots: destroy(self, [slot - 1 for slot in slots])  # type: ignore[method-assign]


def keys_in_sqlite_too() -> None:
    insert = WriteTransaction.insert

    def also(self: WriteTransaction, *args: Any) -> range:
        slots = insert(self, *args)
        keys = zip(self._files.keys.of(slots), slots, strict=True)
        self._change("UPDATE examples SET twin = ? WHERE slot = ?", keys)
        return slots

    WriteTransaction.insert = also  # type: ignore[method-assign]


def keys_used_again() -> None:
    drawn, draw = [], secrets.token_bytes

    def again(size: int) -> bytes:
        drawn.append(draw(size))
        return drawn[len(drawn) // 2]

    key_file.secrets = SimpleNamespace(token_bytes=again)  # type: ignore[assignment]


def keys_synced_after_the_commit() -> None:
    sync, commit = KeyFile._sync, Database._commit
    files: list[KeyFile] = []

    def late(self: Database) -> None:
        commit(self)
        while files:
            sync(files.pop())

    KeyFile._sync = lambda self: files.append(self)  # type: ignore[method-assign]
    Database._commit = late  # type: ignore[method-assign]


def keys_destroyed_before_the_commit() -> None:
    delete = WriteTransaction.delete

    def at_once(self: WriteTransaction, rows: Any, tokens: Any) -> None:
        delete(self, rows, tokens)
        self._files.keys.destroy([row.slot for row in rows])

    WriteTransaction.delete = at_once  # type: ignore[method-assign]


def keys_destroyed_after_the_receipt() -> None:
    destroy, publish, waiting = Store.destroy, Removals._publish, []

    def late(self: Removals, pending: Any) -> None:
        publish(self, pending)
        destroy(self._store, waiting)
        waiting.clear()

    Store.destroy = lambda self, slots: waiting.extend(slots)  # type: ignore[method-assign]
    Removals._publish = late  # type: ignore[method-assign]


def replaced_keys_deleted_alone() -> None:
    key_file.discard = lambda file: file.unlink()  # type: ignore[attr-defined]


# ---- what can be read ----
def plain_rows_in_a_cache() -> None:
    insert = WriteTransaction.insert

    def also(self: WriteTransaction, examples: Any, vectors: Any, *args: Any) -> range:
        vectors.tofile(self._files.keys.file.with_name("cache"))
        return insert(self, examples, vectors, *args)

    WriteTransaction.insert = also  # type: ignore[method-assign]


def plain_texts_in_a_file_for_a_while() -> None:
    insert = WriteTransaction.insert

    def also(self: WriteTransaction, examples: Any, *args: Any) -> range:
        file = self._files.keys.file.with_name("examples.sqlite.partial-1")
        file.write_text(repr(examples))
        slots = insert(self, examples, *args)
        file.unlink()
        return slots

    WriteTransaction.insert = also  # type: ignore[method-assign]


MUTANTS: dict[str, Callable[[], None]] = {
    "in two transactions": rewriting(in_two_transactions),
    "without fsync": rewriting(without_sync),
    **{
        each.__name__.replace("_", " "): each
        for each in (
            keys_not_synced,
            keys_overwritten_in_memory,
            keys_half_overwritten,
            other_keys_overwritten,
            keys_in_sqlite_too,
            keys_used_again,
            keys_synced_after_the_commit,
            keys_destroyed_before_the_commit,
            keys_destroyed_after_the_receipt,
            replaced_keys_deleted_alone,
            plain_rows_in_a_cache,
            plain_texts_in_a_file_for_a_while,
        )
    },
}
