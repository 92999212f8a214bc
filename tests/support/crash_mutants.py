"""Stores that break a promise on purpose, so that the harness is seen to find it: applied in a process that is stopped.

They reach into the product by the statements that it gives to SQLite, where they can, and else by names within it.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from typing import Any

from erase_core.store.key_file import KeyFile

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


def without_key_sync() -> None:
    KeyFile._sync = lambda self: None  # type: ignore[method-assign]


MUTANTS: dict[str, Callable[[], None]] = {
    "in two transactions": rewriting(in_two_transactions),
    "without fsync": rewriting(without_sync),
    "without fsync of keys": without_key_sync,
}
