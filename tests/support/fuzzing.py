"""Damage of all kinds, drawn by a number: to bytes, to a store's SQLite file past the product, and to its keys.

It judges nothing; what was done is described, so that a failure can be read.
"""

from __future__ import annotations

import json
import random
import sqlite3
from collections.abc import Callable, Sequence
from pathlib import Path

from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from receipts_by_hand import fact, key_of, rows_of

DATABASE, KEYS = "examples.sqlite", "keys"
HEAD_BYTES, KEY_BYTES = 256, 32
TABLES = {
    "examples": ["slot", "id", "likeness", "subject", "twin", "hash", "vector", "texts"],
    "forgotten": ["token"],
    "changes": ["generation", "gone", "first", "count"],
    "unfinished": ["generation", "slots", "number", "receipt"],
}
CONSTANTS = ("store", "settings", "embedder", "dim", "axes", "receipts", "hash")
STATE: tuple[str, ...] = (
    "generation",
    "n_examples",
    "n_subjects",
    "next_slot",
    "model",
    "model_generation",
    "commitment",
)
STATE += ("forgotten_commitment", "head", "head_hash", "head_key", "head_is_current")
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


def set_constant(rng: random.Random, db: sqlite3.Connection) -> str:
    name, given = rng.choice(CONSTANTS), value(rng)
    db.execute("UPDATE constants SET value = ? WHERE name = ?", (given, name))
    return f"constant {name} = {given!r:.60}"


def set_state(rng: random.Random, db: sqlite3.Connection) -> str:
    name, given = rng.choice(STATE), value(rng)
    db.execute(f"UPDATE state SET {name} = ?", (given,))
    return f"state {name} = {given!r:.60}"


def set_column(rng: random.Random, db: sqlite3.Connection) -> str:
    table = rng.choice(("examples", "examples", "examples", "forgotten", "changes", "unfinished"))
    column, given, row = rng.choice(TABLES[table]), value(rng), rng.randrange(16)
    where = "1" if row == 15 else f"rowid = {row}" if table != "forgotten" else f"hex(token) < '{row:X}'"
    db.execute(f"UPDATE {table} SET {column} = ? WHERE {where}", (given,))
    return f"{table}.{column} = {given!r:.60} where {where}"


def name_slots(rng: random.Random, db: sqlite3.Connection) -> str:
    """Let the store believe that keys are still to be destroyed: those of examples, and what is no slot at all."""
    slots = [rng.choice((rng.randrange(20), -1, -4, 2**62, 2**63 - 1)) for _ in range(rng.choice((1, 3)))]
    blob = b"".join(slot.to_bytes(8, "little", signed=True) for slot in slots)
    db.execute(f"UPDATE {rng.choice(('unfinished SET slots', 'changes SET gone'))} = ?", (blob,))
    return f"slots {slots} are to be destroyed"


def exchange(rng: random.Random, db: sqlite3.Connection) -> str:
    """Give rows one another's values, which are sound in themselves."""
    column, one, other = rng.choice(TABLES["examples"]), rng.randrange(15), rng.randrange(15)
    query = f"SELECT {column} FROM examples WHERE slot IN (?, ?)"
    if len(db.execute(query, (one, other)).fetchall()) < 2:
        return f"rows {one} and {other} are not both there"
    [mine], [theirs] = (db.execute(query, (slot, slot)).fetchone() for slot in (one, other))
    # Two of the columns are unique.
    db.execute(f"UPDATE examples SET {column} = ? WHERE slot = ?", (-9 if column == "slot" else b"\0", one))
    db.execute(f"UPDATE examples SET {column} = ? WHERE slot = ?", (mine, other))
    db.execute(f"UPDATE examples SET {column} = ? WHERE slot = ?", (theirs, -9 if column == "slot" else one))
    return f"{column} of rows {one} and {other} exchanged"


def delete(rng: random.Random, db: sqlite3.Connection) -> str:
    table = rng.choice(("constants", "state", "examples", "forgotten", "changes", "unfinished"))
    db.execute(f"DELETE FROM {table} WHERE abs(random()) % {1 if table == 'state' else 8} = 0")
    return f"rows of {table} deleted"


def insert(rng: random.Random, db: sqlite3.Connection) -> str:
    token = f"x'{rng.randbytes(16).hex()}'"
    slot = rng.choice(("NULL", "1", "2", "99", "-1", str(2**62)))
    statement = rng.choice(
        [
            f"INSERT INTO examples SELECT {slot}, {token}, likeness, subject, twin, hash, vector, texts FROM examples"
            " LIMIT 1",
            f"INSERT INTO unfinished VALUES (99, x'', {rng.choice((-1, 1, 2, 3, 4, 2**62))}, {token})",
            f"INSERT INTO unfinished VALUES (99, {rng.choice((token, 'zeroblob(8)', 'zeroblob(7)'))}, NULL, NULL)",
            f"INSERT INTO changes VALUES ({rng.choice((-1, 1, 99, 2**62))}, x'', {rng.choice((-1, 0, 2**62))}, 2)",
            "INSERT INTO constants VALUES ('more', 1)",
            f"INSERT INTO forgotten VALUES ({token})",
        ]
    )
    db.execute(statement)
    return statement


def change_schema(rng: random.Random, db: sqlite3.Connection) -> str:
    statement = rng.choice(
        [
            "CREATE TABLE more (a)",
            "CREATE VIEW more AS SELECT * FROM examples",
            "CREATE TRIGGER more AFTER INSERT ON examples BEGIN UPDATE examples SET texts = x'00'; END",
            "CREATE TRIGGER more BEFORE DELETE ON examples BEGIN SELECT raise(IGNORE); END",
            "CREATE INDEX more ON examples (hash)",
            "DROP INDEX examples_by_subject",
            "DROP TABLE unfinished",
            "DROP TABLE changes",
            "DROP TABLE forgotten",
            "ALTER TABLE examples ADD COLUMN more TEXT",
            "ALTER TABLE examples RENAME COLUMN twin TO reason",
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
    loose = sql.replace(" STRICT", "").replace(" NOT NULL", "").replace(" INTEGER", "").replace(" BLOB", "")
    version = db.execute("PRAGMA schema_version").fetchone()[0]
    column, given = rng.choice(TABLES["examples"][1:]), value(rng)
    db.execute("PRAGMA writable_schema = ON")
    db.execute("UPDATE sqlite_master SET sql = ? WHERE name = 'examples'", (loose,))
    db.execute(f"PRAGMA schema_version = {version + 1}")
    db.execute(f"UPDATE examples SET {column} = ? WHERE slot = {rng.randrange(15)}", (given,))
    db.execute("PRAGMA writable_schema = ON")
    db.execute("UPDATE sqlite_master SET sql = ? WHERE name = 'examples'", (sql,))
    db.execute(f"PRAGMA schema_version = {version + 2}")
    return f"{column} = {given!r:.60} past the table's checks"


def rewrite_schema(rng: random.Random, db: sqlite3.Connection) -> str:
    """Write something else as the schema itself."""
    table = rng.choice(("examples", "constants", "state", "unfinished", "examples_by_subject"))
    column = rng.choice(("sql", "name", "tbl_name", "type", "rootpage"))
    given = rng.choice(
        [None, 0, 3, 10**6, "", "x", "CREATE TABLE examples (id)", "CREATE TABLE constants (name, value)"]
    )
    db.execute("PRAGMA writable_schema = ON")
    db.execute(f"UPDATE sqlite_master SET {column} = ? WHERE name = ?", (given, table))
    return f"schema's {column} of {table} = {given!r}"


STATEMENTS = (
    set_constant,
    set_state,
    set_state,
    set_column,
    set_column,
    name_slots,
    exchange,
    delete,
    insert,
    change_schema,
    loosen,
    rewrite_schema,
)


def forge(rng: random.Random, path: Path) -> str:
    """Seal another text under an example's key, with a hash that fits: who has both files can."""
    row = rng.choice(list(rows_of(path / DATABASE).values()))
    fields, store = row._replace(output="forged"), bytes.fromhex(fact(path / DATABASE, "store"))
    db = sqlite3.connect(path / DATABASE)
    [slot] = db.execute("SELECT slot FROM examples WHERE hash = ?", (row.hash,)).fetchone()
    plain, context = json.dumps(fields[:5]).encode(), b"erase-core row 3" + store + slot.to_bytes(8, "little")
    texts = AESGCM(key_of(path / DATABASE, slot)).encrypt(b"\2" + bytes(11), plain, context)
    values = (texts, fields.hash_with(fields.salt), slot)
    db.execute("UPDATE examples SET texts = ?, hash = ? WHERE slot = ?", values)
    db.commit()
    db.close()
    return f"example {row.id} forged"


def damage_database(rng: random.Random, path: Path) -> str:
    return _execute(rng, path, rng.choice(STATEMENTS))


def damage_bytes(rng: random.Random, path: Path) -> str:
    file = path / DATABASE
    file.write_bytes(damaged(rng, file.read_bytes(), BYTES if rng.random() < 0.5 else (flip, fill, overwrite)))
    return "bytes of the database"


# ---- the key file ----
def exchange_slots(rng: random.Random, content: bytearray) -> None:
    """Give slots one another's keys, or one of them the other's."""
    n_slots = (len(content) - HEAD_BYTES) // KEY_BYTES
    if n_slots < 2:
        return
    one, other = (slice(at, at + KEY_BYTES) for at in (HEAD_BYTES + KEY_BYTES * rng.randrange(n_slots) for _ in "12"))
    content[one], content[other] = content[other], content[one] if rng.random() < 0.5 else content[other]


def zero_slots(rng: random.Random, content: bytearray) -> None:
    slot, count = rng.randrange(1 + len(content) // KEY_BYTES), rng.choice((1, 1, 2, 99))
    start, end = KEY_BYTES * slot, min(len(content), KEY_BYTES * (slot + count))
    content[start:end] = bytes(max(0, end - start))


def extend(rng: random.Random, content: bytearray) -> None:
    content += rng.choice((bytes, rng.randbytes))(rng.choice((1, 31, 32, 33, 4096)))


def flip_in_slots(rng: random.Random, content: bytearray) -> None:
    if len(content) > HEAD_BYTES:
        content[rng.randrange(HEAD_BYTES, len(content))] ^= rng.randrange(1, 256)


KEY_WAYS: Sequence[Callable[[random.Random, bytearray], None]] = (
    *BYTES,
    *(flip_in_slots, flip_in_slots, exchange_slots, exchange_slots, zero_slots, extend),
)


def damage_keys(rng: random.Random, path: Path) -> str:
    file = path / KEYS
    before = file.read_bytes()
    after = damaged(rng, before, KEY_WAYS)
    file.write_bytes(after)
    changed = [at for at, (one, other) in enumerate(zip(before, after, strict=False)) if one != other]
    return f"bytes of the key file: {len(before)} to {len(after)}, changed {changed[:8]}"


WAYS = (*(damage_database,) * 10, forge, damage_bytes, damage_bytes, damage_keys, damage_keys)


def damage_store(rng: random.Random, path: Path) -> str:
    """Damage a store that nobody has open, and return how."""
    done = []
    for _ in range(rng.choice((1, 1, 1, 2, 3))):
        try:
            done.append(rng.choice(WAYS)(rng, path))
        except Exception as error:  # it is damaged too much already
            done.append(f"nothing more: {error}")
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
