"""The store's files: what is no store, stores of other versions, damage, a full disk.

Whatever is wrong with them: one clear error or the right answer, and never anything in between.
"""

from __future__ import annotations

import resource
import shutil
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from erase_core.erase import Erase
from erase_core.errors import EraseError, StoreError, StoreVersionError, UncertainError, UnknownIdError
from hypothesis import given
from hypothesis import strategies as st
from receipts_by_hand import rows_of
from small_stores import (
    QUERIES,
    CountingLLM,
    WordEmbedder,
    check_refused,
    contents,
    create,
    example,
    fresh,
    new_path,
    parts_of,
    refused,
    reopened,
    seen,
    seen_anew,
    some,
)

DATABASE, KEYS = "examples.sqlite", "keys"


@pytest.fixture(scope="module")
def closed() -> Iterator[Path]:
    """A store of twenty examples with all in one file, to be copied."""
    with new_path() as path:
        create(path, some(20)).close()
        assert sorted(contents(path)) == [DATABASE, KEYS]
        yield path


def copy(closed: Path, path: Path) -> Path:
    shutil.copytree(closed, path)
    return path


def change(path: Path, statement: str, *values: object) -> None:
    """Change a store's database behind its back."""
    db = sqlite3.connect(path / DATABASE, isolation_level=None)
    db.execute(statement, values)
    db.close()


def rows(path: Path, query: str) -> list[Any]:
    """What a store's database holds."""
    db = sqlite3.connect(path / DATABASE)
    found = db.execute(query).fetchall()
    db.close()
    return found


# ---- what is no store ----
@pytest.mark.parametrize(
    "content",
    [None, b"", b"no database", b"SQLite format 3\0" + bytes(1000), b"\xff" * 5000],
    ids=["absent", "empty", "text", "header", "noise"],
)
def test_a_folder_that_is_no_store_is_refused_and_left_alone(path: Path, content: bytes | None) -> None:
    path.mkdir()
    if content is not None:
        (path / DATABASE).write_bytes(content)
    before = contents(path)
    refused(lambda: reopened(path), StoreError, str(path))
    assert contents(path) == before


@pytest.mark.parametrize("where", ["nowhere", "file"])
def test_a_path_that_is_no_folder_is_refused(tmp_path: Path, where: str) -> None:
    (tmp_path / "file").write_text("a file")
    refused(lambda: reopened(tmp_path / where), StoreError, where, "erase init")


def test_another_programs_database_is_refused_and_left_alone(path: Path) -> None:
    path.mkdir()
    change(path, "CREATE TABLE examples (id INTEGER, input TEXT)")
    before = contents(path)
    refused(lambda: reopened(path), StoreError, "is not a store")
    assert contents(path) == before


def test_a_newer_store_is_refused_and_left_alone(closed: Path, path: Path) -> None:
    change(copy(closed, path), "PRAGMA user_version = 4")
    before = contents(path)
    refused(lambda: reopened(path), StoreVersionError, "newer", "4", "upgrade")
    assert contents(path) == before


def test_an_older_store_is_refused_with_what_to_do_and_left_alone(closed: Path, path: Path) -> None:
    change(copy(closed, path), "PRAGMA user_version = 2")
    before = contents(path)
    refused(lambda: reopened(path), StoreVersionError, "older", "2", "Export its examples with that version")
    assert contents(path) == before


@pytest.mark.parametrize("inside", ["store", "other file"])
def test_a_store_is_made_only_in_an_empty_folder(path: Path, inside: str) -> None:
    if inside == "store":
        create(path, some(3)).close()
    else:
        path.mkdir()
        (path / "notes.txt").write_text("mine")
    before = contents(path)
    refused(lambda: create(path), StoreError, str(path), "not empty")
    assert contents(path) == before


# ---- damage ----
CALLS: list[Callable[[Erase], object]] = [
    lambda erase: erase.prompt(QUERIES[0]),
    Erase.verify,
    Erase.status,
    Erase.examples,
    lambda erase: erase.forget(3),
    lambda erase: erase.ingest([example(99)]),
]


def overwritten(content: bytes, places: list[tuple[float, bytes]]) -> bytes:
    """Content with other bytes at places that are given as parts of its length."""
    damaged = bytearray(content)
    for part, noise in places:
        start = int(part * (len(damaged) - len(noise)))
        damaged[start : start + len(noise)] = noise
    return bytes(damaged)


noise = st.lists(st.tuples(st.floats(0, 1), st.binary(min_size=1, max_size=40)), min_size=1, max_size=8)


@given(places=noise)
def test_a_damaged_database_raises_nothing_but_our_errors(closed: Path, places: list[tuple[float, bytes]]) -> None:
    with new_path() as path:
        copy(closed, path)
        (path / DATABASE).write_bytes(overwritten((path / DATABASE).read_bytes(), places))
        for call in CALLS:
            with suppress(EraseError), reopened(path) as erase:
                call(erase)


def test_a_damaged_schema_is_damage_whatever_is_in_it(closed: Path, path: Path) -> None:
    content = contents(copy(closed, path))[DATABASE]
    for noise in (b"\xff", b"\n", b"'", b"\0"):
        (path / DATABASE).write_bytes(content.replace(b"CREATE TABLE state", b"CREATE TABLE\t" + 5 * noise))
        refused(lambda: seen_anew(path), StoreError, "damaged")


def test_a_damaged_database_never_gives_a_wrong_prompt(closed: Path, path: Path) -> None:
    with reopened(copy(closed, path)) as erase:
        right = erase.prompt(QUERIES[0]).text
        shown = erase.demonstrations(QUERIES[0])[0].id
    texts = rows_of(path / DATABASE)[shown].sealed
    content = contents(path)[DATABASE]
    assert content.count(texts) == 1
    (path / DATABASE).write_bytes(content.replace(texts, texts[:-1] + bytes([texts[-1] ^ 1])))
    with reopened(path) as erase:
        assert right
        refused(lambda: erase.prompt(QUERIES[0]), StoreError, "damaged", "example")
        assert "damaged" in str(erase.verify())


@pytest.mark.parametrize(
    ("fact", "value"),
    [
        ("settings", "{"),
        ("settings", "[]"),
        ("settings", '{"n_shots": 3}'),
        ("settings", None),
        ("settings", b"\xff"),
        ("dim", "x"),
        ("dim", 7),
        ("store", "0" * 32),
        ("axes", b"123"),
    ],
)
def test_a_fact_that_makes_no_sense_is_damage(closed: Path, path: Path, fact: str, value: object) -> None:
    change(copy(closed, path), "UPDATE constants SET value = ? WHERE name = ?", value, fact)
    refused(lambda: seen(reopened(path)), StoreError, "damaged")


@pytest.mark.parametrize(
    ("name", "value"),
    [("model", "0" * 64), ("commitment", b"123"), ("model_generation", 9), ("n_examples", 19), ("n_examples", 21)],
)
def test_a_state_that_makes_no_sense_is_damage(closed: Path, path: Path, name: str, value: object) -> None:
    change(copy(closed, path), f"UPDATE state SET {name} = ?", value)
    refused(lambda: seen(reopened(path)), StoreError, "damaged")


def test_what_is_missing_is_damage(closed: Path, path: Path) -> None:
    changes = ["DELETE FROM examples", "DELETE FROM state"]
    changes += [f"DELETE FROM constants WHERE name = '{name}'" for name in ("settings", "dim", "embedder", "hash")]
    for statement in changes:
        change(copy(closed, path), statement)
        refused(lambda: Erase.open(path, embedder=WordEmbedder()).verify(), StoreError, "damaged")
        shutil.rmtree(path)


@pytest.mark.parametrize("column", ["vector", "texts"])
@pytest.mark.parametrize("way", ["changed", "cut", "empty", "of another example"])
def test_a_damaged_example_is_an_error_where_it_is_needed(closed: Path, path: Path, column: str, way: str) -> None:
    first, other = (row[0] for row in rows(copy(closed, path), f"SELECT {column} FROM examples ORDER BY slot LIMIT 2"))
    wrong = {"changed": first[:-1] + bytes([first[-1] ^ 1]), "cut": first[:-1], "empty": b""}.get(way, other)
    change(path, f"UPDATE examples SET {column} = ? WHERE slot = 0", wrong)
    with reopened(path) as erase:
        if column == "vector":
            refused(erase.verify, StoreError, "damaged", "Restore a backup")
            refused(lambda: erase.prompt(QUERIES[0]), StoreError, "damaged", "Restore a backup")
            assert erase.examples() == some(20)
        else:
            assert "damaged" in str(erase.verify())
            refused(erase.examples, StoreError, "damaged", "Restore a backup")


def said_by(verify: Callable[[], object]) -> str:
    try:
        return str(verify())
    except StoreError as error:
        return str(error)


def test_examples_that_were_exchanged_by_hand_are_not_shown(closed: Path, path: Path) -> None:
    for columns in ("id", "vector", "texts", "vector, texts", "hash"):
        with new_path() as path:
            found = rows(copy(closed, path), f"SELECT {columns} FROM examples WHERE slot < 2 ORDER BY slot")
            change(path, "UPDATE examples SET id = x'00' WHERE slot = 0") if columns == "id" else None
            for slot, values in ((1, found[0]), (0, found[1])):
                names = ", ".join(f"{name} = ?" for name in columns.split(", "))
                change(path, f"UPDATE examples SET {names} WHERE slot = {slot}", *values)
            with reopened(path) as erase:
                assert "damaged" in said_by(erase.verify)


# ---- a full disk ----
@contextmanager
def full_disk(limit: int) -> Iterator[None]:
    """No file can grow beyond so many bytes within."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.parametrize("limit", [0, 5000, 20000])
def test_a_store_that_does_not_fit_on_the_disk_is_not_made_and_can_be_made_later(path: Path, limit: int) -> None:
    def make() -> None:
        with full_disk(limit):
            create(path)

    refused(make, StoreError, str(path))
    create(path, some(3)).close()


@pytest.mark.parametrize("limit", [0, 4096, 10_000, 30_000])
@pytest.mark.parametrize("way", ["in", "out"])
def test_a_full_disk_leaves_the_store_as_it_was_or_does_all(path: Path, limit: int, way: str) -> None:
    erase = create(path, some(30))

    def call() -> None:
        erase.ingest(some(40, 100)) if way == "in" else erase.forget(range(10))

    def limited() -> None:
        with full_disk(limit):
            call()

    done = fresh(some(30) + some(40, 100) if way == "in" else some(20, 10))
    try:
        limited()
    except StoreError as error:
        assert seen(erase) == seen_anew(path) == fresh(some(30))
        kind = UncertainError if isinstance(error, UncertainError) else StoreError
        if kind is UncertainError:  # it may count, so its keys are kept
            refused(limited, kind, str(path))
        else:
            check_refused(erase, limited, kind, str(path))
        assert seen(erase) == fresh(some(30))
        # Its write takes the number of the one that failed.
        with Erase.open(path, embedder=WordEmbedder(), timeout=0.05) as other:
            other.ingest(some(1, 999))
        assert seen(erase) == fresh(some(30) + some(1, 999))
        erase.forget(999)
        call()
    else:
        assert limit > 4096
    assert seen(erase) == seen_anew(path) == done


class FailsAtTheEnd:
    """A connection whose COMMIT counts, and fails nevertheless, as if the disk could not be synced; others may too."""

    def __init__(self, connection: sqlite3.Connection, *others: str) -> None:
        self._connection = connection
        self._failing = ("COMMIT", *others)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._connection, name)

    def execute(self, statement: str, *values: Any) -> Any:
        result = self._connection.execute(statement, *values)
        if statement in self._failing:
            raise sqlite3.OperationalError("disk I/O error")
        return result


@pytest.mark.parametrize("others", [(), ("ROLLBACK",)])
def test_a_write_whose_end_failed_is_not_said_to_have_changed_nothing(path: Path, others: tuple[str, ...]) -> None:
    erase = create(path, some(12))
    parts_of(erase).store._db._connection = FailsAtTheEnd(parts_of(erase).store._db._connection, *others)  # type: ignore[assignment]
    refused(lambda: erase.forget(1), UncertainError, "disk I/O error", "Open the store again to see")
    with Erase.open(path, embedder=WordEmbedder(), llm=CountingLLM()) as again:
        assert 1 not in [example.id for example in again.examples()]
        assert seen(again) == fresh([example for example in some(12) if example.id != 1])
        assert again.receipts()
        words = "not in the store: 1, 99 (1 of them forgotten already)", "nothing was forgotten"
        check_refused(again, lambda: again.forget([1, 99]), UnknownIdError, *words)
