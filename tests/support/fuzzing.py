"""Damage of all kinds, drawn by a number: to bytes, and to a store's SQLite file past the product.

It judges nothing; what was done is described, so that a failure can be read.
"""

from __future__ import annotations

import random
import sqlite3
from collections.abc import Callable, Sequence
from pathlib import Path

from receipts_by_hand import Row

DATABASE = "examples.sqlite"
TABLES = {
    "examples": ["number", "id", "input", "output", "rationale", "subject", "salt", "hash", "vector"],
    "facts": ["name", "value"],
    "forgotten": ["token"],
    "pending": ["number", "receipt"],
}
FACTS: tuple[str, ...] = (
    "settings",
    "embedder",
    "dim",
    "axes",
    "key",
    "receipts",
    "constants",
    "generation",
    "digest",
    "model_salt",
)
FACTS += ("store", "commitment", "head", "head_hash", "head_key", "head_is_current", "scrubbed")
SIZES = (0, 1, 2, 7, 8, 255, 256, 2**15, 2**16 - 1, 2**31 - 1, 2**31, 2**32 - 1, 2**63 - 1, 2**63, 2**64 - 1)


# ---- bytes ----
def flip(rng: random.Random, content: bytearray) -> None:
    for _ in range(rng.choice((1, 1, 1, 2, 8))):
        content[rng.randrange(len(content))] ^= rng.randrange(1, 256)


def cut(rng: random.Random, content: bytearray) -> None:
    start = rng.randrange(len(content))
    del content[start : rng.choice((len(content), start + 1, start + rng.randrange(1, 99)))]


def splice(rng: random.Random, content: bytearray) -> None:
    start, to = rng.randrange(len(content)), rng.randrange(len(content))
    content[to:to] = content[start : start + rng.randrange(1, 99)]


def overwrite(rng: random.Random, content: bytearray) -> None:
    start, to, size = rng.randrange(len(content)), rng.randrange(len(content)), rng.randrange(1, 99)
    content[to : to + size] = content[start : start + size]


def fill(rng: random.Random, content: bytearray) -> None:
    start, size = rng.randrange(len(content)), rng.choice((1, 4, 16, 512, 4096))
    size = min(size, len(content) - start)
    content[start : start + size] = bytes([rng.choice((0, 255, 127, 128))]) * size


def number(rng: random.Random, content: bytearray) -> None:
    """Put a length, or what could be one, somewhere; most lie at the beginning."""
    width = rng.choice((2, 4, 8))
    start = rng.randrange(min(len(content), rng.choice((200, len(content)))))
    value = rng.choice(SIZES) + rng.randrange(-1, 2)
    content[start : start + width] = (value % 2 ** (8 * width)).to_bytes(width, rng.choice(("little", "big")))


BYTES: Sequence[Callable[[random.Random, bytearray], None]] = (flip, cut, splice, overwrite, fill, number)


def damaged(rng: random.Random, content: bytes, ways: Sequence[Callable[..., None]] = BYTES) -> bytes:
    """Content that is another."""
    result = bytearray(content)
    while bytes(result) == content or not result:
        result = result or bytearray(content)
        for _ in range(rng.choice((1, 1, 2, 4))):
            if result:
                rng.choice(ways)(rng, result)
    return bytes(result)


# ---- a store's file ----
def value(rng: random.Random) -> object:
    """A value of a wrong kind, a wrong size, or just another."""
    return rng.choice(
        [
            None,
            0,
            1,
            -1,
            7,
            rng.choice((-1, 1)) * (2 ** rng.randrange(64) - 1),
            -(2**63),
            rng.random(),
            float("inf"),
            -0.0,
            "",
            "x",
            "\0",
            "7",
            "ann",
            "bob",
            "0" * 64,
            "ö" * rng.choice((1, 1000, 300_000)),
            b"",
            b"\0",
            b"\xff" * rng.choice((1, 31, 33, 2049)),
            rng.randbytes(rng.choice((1, 16, 31, 32, 33, 2048))),
            bytes(rng.choice((32, 2048, 1_000_000))),
        ]
    )


def set_fact(rng: random.Random, db: sqlite3.Connection) -> str:
    name, given = rng.choice(FACTS), value(rng)
    db.execute("UPDATE facts SET value = ? WHERE name = ?", (given, name))
    return f"fact {name} = {given!r:.60}"


def set_column(rng: random.Random, db: sqlite3.Connection) -> str:
    table = rng.choice(("examples", "examples", "examples", "forgotten", "pending"))
    column, given, row = rng.choice(TABLES[table]), value(rng), rng.randrange(16)
    where = "1" if row == 15 else f"rowid = {row}" if table != "forgotten" else f"hex(token) < '{row:X}'"
    db.execute(f"UPDATE {table} SET {column} = ? WHERE {where}", (given,))
    return f"{table}.{column} = {given!r:.60} where {where}"


def exchange(rng: random.Random, db: sqlite3.Connection) -> str:
    """Give rows one another's values, which are sound in themselves."""
    column, one, other = rng.choice(TABLES["examples"][2:]), rng.randrange(1, 12), rng.randrange(1, 12)
    there = f"(SELECT {column} FROM examples WHERE number = {other})"
    db.execute(f"UPDATE examples SET {column} = {there} WHERE number = {one}")
    return f"{column} of row {one} from row {other}"


def forge(rng: random.Random, db: sqlite3.Connection) -> str:
    """Write another text, and a hash that fits."""
    row = db.execute("SELECT id, input, output, rationale, subject, vector, salt, hash FROM examples").fetchall()
    fields = Row(*rng.choice(row))._replace(output="forged")
    db.execute(
        "UPDATE examples SET output = ?, hash = ? WHERE id = ?", (fields[2], fields.hash_with(fields.salt), fields.id)
    )
    return f"example {fields.id} forged"


def delete(rng: random.Random, db: sqlite3.Connection) -> str:
    table = rng.choice(("facts", "examples", "forgotten", "pending"))
    db.execute(f"DELETE FROM {table} WHERE abs(random()) % 8 = 0")
    return f"rows of {table} deleted"


def insert(rng: random.Random, db: sqlite3.Connection) -> str:
    row = f"{rng.randrange(50, 99)}, 'canary', 'canary', NULL, 'ann', salt, hash, vector"
    statement = rng.choice(
        [
            f"INSERT INTO examples SELECT NULL, {row} FROM examples LIMIT 1",
            f"INSERT INTO pending VALUES ({rng.choice((-1, 1, 2, 3, 4, 2**62))}, x'{rng.randbytes(9).hex()}')",
            "INSERT INTO facts VALUES ('more', 1)",
            f"INSERT INTO forgotten VALUES (x'{rng.randbytes(16).hex()}')",
        ]
    )
    db.execute(statement)
    return statement


def change_schema(rng: random.Random, db: sqlite3.Connection) -> str:
    statement = rng.choice(
        [
            "CREATE TABLE more (a)",
            "CREATE VIEW more AS SELECT * FROM examples",
            "CREATE TRIGGER more AFTER INSERT ON examples BEGIN UPDATE examples SET output = 'canary'; END",
            "CREATE TRIGGER more BEFORE DELETE ON examples BEGIN SELECT raise(IGNORE); END",
            "CREATE INDEX more ON examples (output)",
            "DROP INDEX examples_by_subject",
            "DROP TABLE pending",
            "DROP TABLE forgotten",
            "ALTER TABLE examples ADD COLUMN more TEXT",
            "ALTER TABLE examples RENAME COLUMN rationale TO reason",
            "ALTER TABLE examples RENAME TO others",
            "PRAGMA user_version = 0",
            "PRAGMA user_version = 99",
            "PRAGMA application_id = 1",
            "PRAGMA journal_mode = DELETE",
            "ANALYZE",
            "REINDEX",
        ]
    )
    db.execute(statement)
    return statement


def loosen(rng: random.Random, db: sqlite3.Connection) -> str:
    """Take the table's checks away, write what they forbid, and put them back, so that the schema looks sound."""
    sql = db.execute("SELECT sql FROM sqlite_master WHERE name = 'examples'").fetchone()[0]
    loose = sql.replace(" STRICT", "").replace(" NOT NULL", "").replace(" TEXT", "").replace(" BLOB", "")
    version = db.execute("PRAGMA schema_version").fetchone()[0]
    column, given = rng.choice(TABLES["examples"][1:]), value(rng)
    db.execute("PRAGMA writable_schema = ON")
    db.execute("UPDATE sqlite_master SET sql = ? WHERE name = 'examples'", (loose,))
    db.execute(f"PRAGMA schema_version = {version + 1}")
    db.execute(f"UPDATE examples SET {column} = ? WHERE number = {rng.randrange(1, 12)}", (given,))
    db.execute("PRAGMA writable_schema = ON")
    db.execute("UPDATE sqlite_master SET sql = ? WHERE name = 'examples'", (sql,))
    db.execute(f"PRAGMA schema_version = {version + 2}")
    return f"{column} = {given!r:.60} past the table's checks"


def rewrite_schema(rng: random.Random, db: sqlite3.Connection) -> str:
    """Write something else as the schema itself."""
    table = rng.choice(("examples", "facts", "pending", "examples_by_subject"))
    column = rng.choice(("sql", "name", "tbl_name", "type", "rootpage"))
    given = rng.choice([None, 0, 3, 10**6, "", "x", "CREATE TABLE examples (id)", "CREATE TABLE facts (name, value)"])
    db.execute("PRAGMA writable_schema = ON")
    db.execute(f"UPDATE sqlite_master SET {column} = ? WHERE name = ?", (given, table))
    return f"schema's {column} of {table} = {given!r}"


STATEMENTS = (
    forge,
    set_fact,
    set_fact,
    set_column,
    set_column,
    exchange,
    delete,
    insert,
    change_schema,
    loosen,
    rewrite_schema,
)


def damage_store(rng: random.Random, path: Path) -> str:
    """Damage a store that nobody has open, and return how."""
    done = []
    for _ in range(rng.choice((1, 1, 1, 2, 3))):
        way = rng.randrange(len(STATEMENTS) + 3)
        if way < len(STATEMENTS):
            done.append(_execute(rng, path, STATEMENTS[way]))
        else:
            file = path / rng.choice((DATABASE, DATABASE, DATABASE, "model.qkm"))
            if file.exists():
                file.write_bytes(damaged(rng, file.read_bytes(), BYTES if way % 2 else (flip, fill, overwrite)))
            done.append(f"bytes of {file.name}")
    return "; ".join(done)


def _execute(rng: random.Random, path: Path, statement: Callable[[random.Random, sqlite3.Connection], str]) -> str:
    db = sqlite3.connect(path / DATABASE, isolation_level=None)
    try:
        return statement(rng, db)
    except (
        sqlite3.Error,
        OverflowError,
        TypeError,
        UnicodeDecodeError,
    ) as error:  # a constraint, or damage
        return f"{statement.__name__}: {error}"
    finally:
        db.close()
