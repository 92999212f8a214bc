"""Rows and slots that someone exchanged by hand, or brought from elsewhere: nothing opens, and nothing else is lost."""

from __future__ import annotations

import sqlite3
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from erase_core.errors import StoreError
from erase_core.store.key_file import HEAD_BYTES, KEY_BYTES
from old_copies import opened
from receipts_by_hand import key_of
from small_stores import QUERIES, create, fresh, refused, seen, seen_anew, some

DATABASE, KEYS = "examples.sqlite", "keys"
LEFT = [each for each in some(12) if each.id != 3]


@pytest.fixture
def closed(path: Path) -> Path:
    """A store in which something was forgotten, that nobody has open."""
    with create(path, some(12)) as erase:
        erase.forget(3)
    return path


def exchange(path: Path, columns: str, one: int, other: int) -> None:
    """Give the rows in two slots one another's values."""
    db = sqlite3.connect(path / DATABASE)
    query = f"SELECT {columns} FROM examples WHERE slot = ?"
    mine, theirs = (db.execute(query, (slot,)).fetchone() for slot in (one, other))
    names = columns.split(", ")
    if "id" in names:
        db.execute("UPDATE examples SET id = x'00' WHERE slot = ?", (one,))
    for values, slot in ((mine, other), (theirs, one)):
        setting = ", ".join(f"{name} = ?" for name in names)
        db.execute(f"UPDATE examples SET {setting} WHERE slot = ?", (*values, slot))
    db.commit()
    db.close()


ALL = "id, likeness, subject, twin, hash, vector, texts"


@pytest.mark.parametrize("columns", ["texts", "vector", "texts, vector", "id, hash, vector, texts", ALL])
def test_rows_that_were_exchanged_do_not_open(closed: Path, columns: str) -> None:
    exchange(closed, columns, 1, 2)
    with opened(closed) as erase:
        words = ("is damaged", "Restore a backup", "forget the example by its id")
        if "vector" in columns:
            refused(erase.verify, StoreError, *words)
            refused(lambda: erase.prompt(QUERIES[0]), StoreError, *words)
        else:
            assert not erase.verify().ok
        if "texts" in columns:
            refused(erase.examples, StoreError, *words)
        else:
            assert erase.examples() == LEFT
    exchange(closed, columns, 1, 2)
    with opened(closed) as erase:
        assert seen(erase) == fresh(LEFT)


@pytest.mark.parametrize("column", ["id", "likeness, subject"])
def test_tokens_that_were_exchanged_never_remove_the_wrong_example(closed: Path, column: str) -> None:
    """What is found is opened before it is removed: under the id of one stands the other."""
    exchange(closed, column, 1, 2)  # of ann and of bob
    with opened(closed) as erase:
        assert not erase.verify().ok
        requests: list[dict[str, Any]] = [{"ids": 1}, {"ids": [2, 5]}]
        if column != "id":
            requests = [{"subject": "ann"}, {"subject": "bob"}]
        for request in requests:
            refused(partial(erase.forget, **request), StoreError, "is damaged", "estore a backup")
        assert erase.forget([1, 2]).ids == [1, 2]
        assert seen(erase) == seen_anew(closed) == fresh([each for each in LEFT if each.id not in (1, 2)])


def test_a_row_without_texts_is_not_removed_for_another(closed: Path) -> None:
    """Its texts do not open, but its vector has its id."""
    exchange(closed, "id", 1, 2)
    db = sqlite3.connect(closed / DATABASE)
    db.execute("UPDATE examples SET texts = x'00' WHERE slot IN (1, 2)")
    db.commit()
    db.close()
    with opened(closed) as erase:
        refused(lambda: erase.forget(1), StoreError, "is damaged")
        erase.forget([1, 2])
        assert seen(erase) == fresh([each for each in LEFT if each.id not in (1, 2)])


def test_slots_that_were_exchanged_open_nothing(closed: Path) -> None:
    content = (closed / KEYS).read_bytes()
    one, other = (HEAD_BYTES + KEY_BYTES * slot for slot in (1, 2))
    changed = bytearray(content)
    changed[one : one + 32], changed[other : other + 32] = content[other : other + 32], content[one : one + 32]
    (closed / KEYS).write_bytes(changed)
    with opened(closed) as erase:
        for call in (erase.examples, erase.verify, lambda: erase.prompt(QUERIES[0])):
            refused(call, StoreError, "is damaged", "slot 1", "forget the example by its id")
        refused(lambda: erase.forget(1), StoreError, "1 example not named here", "nothing was forgotten")
    (closed / KEYS).write_bytes(content)
    with opened(closed) as erase:
        assert seen(erase) == fresh(LEFT)
    (closed / KEYS).write_bytes(changed)
    with opened(closed) as erase:
        erase.forget([1, 2])
        assert seen(erase) == fresh([each for each in LEFT if each.id not in (1, 2)])


@pytest.mark.parametrize("source", ["another store", "another slot"])
def test_a_sealed_example_opens_in_its_store_and_its_slot_alone(closed: Path, source: str) -> None:
    """Even if its key comes along."""
    theirs = closed.with_name("another")
    create(theirs, some(12, 20)).close()
    store, slot = (theirs, 1) if source == "another store" else (closed, 2)
    db = sqlite3.connect(store / DATABASE)
    row = db.execute("SELECT vector, texts FROM examples WHERE slot = ?", (slot,)).fetchone()
    db.close()
    content = bytearray((closed / KEYS).read_bytes())
    db = sqlite3.connect(closed / DATABASE)
    db.execute("UPDATE examples SET vector = ?, texts = ? WHERE slot = 1", row)
    db.commit()
    db.close()
    content[HEAD_BYTES + KEY_BYTES : HEAD_BYTES + 2 * KEY_BYTES] = key_of(store / DATABASE, slot)
    (closed / KEYS).write_bytes(content)
    with opened(closed) as erase:
        for call in (erase.examples, erase.verify, lambda: erase.prompt(QUERIES[0])):
            refused(call, StoreError, "is damaged", "slot 1")
        erase.forget(1)
        assert seen(erase) == fresh([each for each in LEFT if each.id != 1])


@pytest.mark.parametrize("slots", [[0], [5, 11], [-1], [-4], [2**40], [2**63 - 1]])
def test_a_note_of_what_is_to_be_destroyed_never_reaches_an_example(closed: Path, slots: list[int]) -> None:
    """Someone wrote it, or a bit fell over: the slots are of examples, of the head, or of nothing."""
    keys = (closed / KEYS).read_bytes()
    db = sqlite3.connect(closed / DATABASE)
    blob = b"".join(slot.to_bytes(8, "little", signed=True) for slot in slots)
    db.execute("INSERT INTO unfinished VALUES (99, ?, NULL, NULL)", (blob,))
    db.commit()
    db.close()
    with opened(closed) as erase:
        assert (closed / KEYS).read_bytes()[HEAD_BYTES:] == keys[HEAD_BYTES:]
        assert erase.examples() == LEFT
        erase.forget(1)
    after = (closed / KEYS).read_bytes()
    assert sum(one != other for one, other in zip(keys[HEAD_BYTES:], after[HEAD_BYTES:], strict=True)) <= KEY_BYTES
    with opened(closed) as erase:
        assert erase.examples() == [each for each in LEFT if each.id != 1]
