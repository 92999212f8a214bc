"""Stores that break a promise on purpose, to prove that a harness finds them.

They reach into the product by the statements that it gives to SQLite, where they can, and else by names within it. Each
is given a function that replaces an attribute: `setattr` in a process that is stopped, or that of a monkeypatch.
"""

from __future__ import annotations

import secrets
import shutil
import sqlite3
from collections.abc import Callable, Iterable
from types import SimpleNamespace
from typing import Any

from erase_core.erasure.removal import Removals
from erase_core.store import key_file
from erase_core.store.database import Database
from erase_core.store.key_file import KeyFile
from erase_core.store.sealing import Sealing
from erase_core.store.store import Store
from erase_core.store.transaction import WriteTransaction

Put = Callable[[Any, str, Any], None]
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


def rewriting(rewrite: Rewrite) -> Callable[[Put], None]:
    """A mutant of every statement."""

    def apply(put: Put) -> None:
        connect = sqlite3.connect
        put(Rewritten, "rewrite", staticmethod(rewrite))
        put(sqlite3, "connect", lambda *args, **options: connect(*args, **options, factory=Rewritten))

    return apply


def in_two_transactions(connection: Rewritten, sql: str) -> str:
    if sql.endswith("-- done") and "examples" in sql:
        super(Rewritten, connection).execute("COMMIT")
        super(Rewritten, connection).execute("BEGIN IMMEDIATE")
    return sql


def without_sync(connection: Rewritten, sql: str) -> str:
    return sql.replace("synchronous = FULL", "synchronous = OFF")


# ---- keys ----
def keys_not_overwritten(put: Put) -> None:
    put(KeyFile, "destroy", lambda keys, slots, *rest: None)


def keys_overwritten_in_memory(put: Put) -> None:
    def destroy(keys: KeyFile, slots: Iterable[int], *rest: Any) -> None:
        for slot in slots:
            bytearray(keys._read(slot, 1))[:] = bytes(32)

    put(KeyFile, "destroy", destroy)


def keys_not_synced(put: Put) -> None:
    put(KeyFile, "_sync", lambda keys: None)


def destroyed_keys_not_synced(put: Put) -> None:
    put(KeyFile, "destroy", lambda keys, slots, *rest: [keys._write(keys._place(s), bytes(32)) for s in slots])


def keys_half_overwritten(put: Put) -> None:
    write = KeyFile._write
    put(KeyFile, "_write", lambda keys, at, new: write(keys, at, new if new.strip(b"\0") else new[:16]))


def other_keys_overwritten(put: Put) -> None:
    destroy = KeyFile.destroy
    put(KeyFile, "destroy", lambda keys, slots, *rest: destroy(keys, [max(0, slot - 1) for slot in slots], *rest))


def keys_in_sqlite_too(put: Put) -> None:
    def also(tx: WriteTransaction, slots: range) -> None:
        keys = tx._files.keys.of(slots)
        tx._change("UPDATE examples SET twin = ? WHERE slot = ?", zip(keys, slots, strict=True))

    after_insert(put, also)


def keys_used_again(put: Put) -> None:
    drawn: list[bytes] = []
    draw = secrets.token_bytes

    def again(size: int) -> bytes:
        drawn.append(draw(size))
        return drawn[min(len(drawn), 4) - 1]  # the first three are of the head

    put(key_file, "secrets", SimpleNamespace(token_bytes=again))


def rows_sealed_with_one_key(put: Put) -> None:
    """With the key of the tokens, which no removal destroys."""
    init, keys = KeyFile.__init__, [b""]

    def noting(self: KeyFile, *args: Any) -> None:
        init(self, *args)
        keys[0] = self.token_key

    put(KeyFile, "__init__", noting)
    for name in ("seal_texts", "open_texts", "seal_vectors", "open_vectors"):
        put(Sealing, name, with_key(getattr(Sealing, name), keys))


def with_key(use: Callable[..., Any], keys: list[bytes]) -> Callable[..., Any]:
    def used(sealing: Sealing, given: bytes | list[bytes], *args: Any) -> Any:
        return use(sealing, keys[0] if isinstance(given, bytes) else keys * len(given), *args)

    return used


def key_file_copied(put: Put) -> None:
    def also(tx: WriteTransaction, slots: range) -> None:
        shutil.copyfile(tx._files.keys.file, tx._files.keys.file.with_name("copy"))

    after_insert(put, also)


def keys_synced_after_the_commit(put: Put) -> None:
    sync, commit = KeyFile._sync, Database._commit
    files: list[KeyFile] = []

    def late(db: Database) -> None:
        commit(db)
        while files:
            sync(files.pop())

    put(KeyFile, "_sync", lambda keys: files.append(keys))
    put(Database, "_commit", late)


def keys_destroyed_before_the_commit(put: Put) -> None:
    delete = WriteTransaction.delete

    def at_once(tx: WriteTransaction, rows: Any, tokens: Any) -> None:
        delete(tx, rows, tokens)
        tx._files.keys.destroy([row.slot for row in rows])

    put(WriteTransaction, "delete", at_once)


def keys_destroyed_after_the_receipt(put: Put) -> None:
    destroy, publish = Store.destroy, Removals._publish
    waiting: list[Any] = []

    def late(removals: Removals, pending: Any) -> None:
        publish(removals, pending)
        while waiting:
            destroy(removals._store, *waiting.pop())

    put(Store, "destroy", lambda store, slots, *rest: waiting.append(([*slots], *rest)))
    put(Removals, "_publish", late)


def replaced_keys_deleted_alone(put: Put) -> None:
    put(key_file, "discard", lambda file: file.unlink())


def replaced_keys_kept(put: Put) -> None:
    put(key_file, "discard", lambda file: None)
    put(key_file, "clear_replaced", lambda folder: None)
    put(Store, "clear_replaced", lambda store: None)


# ---- what can be read ----
def plain_vectors_in_a_cache(put: Put) -> None:
    insert = WriteTransaction.insert

    def also(tx: WriteTransaction, examples: Any, vectors: Any, *args: Any) -> range:
        vectors.tofile(tx._files.keys.file.with_name("cache"))
        return insert(tx, examples, vectors, *args)

    put(WriteTransaction, "insert", also)


def plain_texts_in_a_file_for_a_while(put: Put) -> None:
    insert = WriteTransaction.insert

    def also(tx: WriteTransaction, examples: Any, *args: Any) -> range:
        file = tx._files.keys.file.with_name("examples.sqlite.partial-1")
        file.write_text(repr(examples))
        slots = insert(tx, examples, *args)
        file.unlink()
        return slots

    put(WriteTransaction, "insert", also)


def plain_texts_in_a_file(put: Put) -> None:
    insert = WriteTransaction.insert

    def also(tx: WriteTransaction, examples: Any, *args: Any) -> range:
        tx._files.keys.file.with_name("examples.tmp").write_text(repr(examples))
        return insert(tx, examples, *args)

    put(WriteTransaction, "insert", also)


def after_insert(put: Put, also: Callable[[WriteTransaction, range], None]) -> None:
    """Do something else when rows have been inserted."""
    insert = WriteTransaction.insert

    def both(tx: WriteTransaction, *args: Any) -> range:
        slots = insert(tx, *args)
        also(tx, slots)
        return slots

    put(WriteTransaction, "insert", both)


MUTANTS: dict[str, Callable[[Put], None]] = {
    "in two transactions": rewriting(in_two_transactions),
    "without fsync": rewriting(without_sync),
    **{
        each.__name__.replace("_", " "): each
        for each in (
            keys_not_overwritten,
            keys_overwritten_in_memory,
            keys_not_synced,
            destroyed_keys_not_synced,
            keys_half_overwritten,
            other_keys_overwritten,
            keys_in_sqlite_too,
            keys_used_again,
            rows_sealed_with_one_key,
            key_file_copied,
            keys_synced_after_the_commit,
            keys_destroyed_before_the_commit,
            keys_destroyed_after_the_receipt,
            replaced_keys_deleted_alone,
            replaced_keys_kept,
            plain_vectors_in_a_cache,
            plain_texts_in_a_file_for_a_while,
            plain_texts_in_a_file,
        )
    },
}
