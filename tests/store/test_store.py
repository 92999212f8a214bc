"""The store's files: what is no store, stores from the future, damage, the snapshot, a full disk.

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

import numpy as np
import pytest
from erase_core.erase import Erase
from erase_core.errors import EraseError, StoreError, StoreVersionError, UncertainError, UnknownIdError
from hypothesis import given
from hypothesis import strategies as st
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

DATABASE, SNAPSHOT = "examples.sqlite", "model.qkm"


@pytest.fixture(scope="module")
def closed() -> Iterator[Path]:
    """A store of twenty examples with all in one file, to be copied."""
    with new_path() as path:
        create(path, some(20)).close()
        assert sorted(contents(path)) == [DATABASE, SNAPSHOT]
        yield path


def copy(closed: Path, path: Path) -> Path:
    shutil.copytree(closed, path)
    return path


def change(path: Path, statement: str, *values: object) -> None:
    """Change a store's database behind its back."""
    db = sqlite3.connect(path / DATABASE, isolation_level=None)
    db.execute(statement, values)
    db.close()


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
    change(copy(closed, path), "PRAGMA user_version = 3")
    before = contents(path)
    refused(lambda: reopened(path), StoreVersionError, "newer", "3", "upgrade")
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


@given(places=noise, with_snapshot=st.booleans())
def test_a_damaged_database_raises_nothing_but_our_errors(
    closed: Path, places: list[tuple[float, bytes]], with_snapshot: bool
) -> None:
    with new_path() as path:
        copy(closed, path)
        if not with_snapshot:
            (path / SNAPSHOT).unlink()
        (path / DATABASE).write_bytes(overwritten((path / DATABASE).read_bytes(), places))
        for call in CALLS:
            with suppress(EraseError), reopened(path) as erase:
                call(erase)


def test_a_damaged_schema_is_damage_whatever_is_in_it(closed: Path, path: Path) -> None:
    content = contents(copy(closed, path))[DATABASE]
    for noise in (b"\xff", b"\n", b"'", b"\0"):
        (path / DATABASE).write_bytes(content.replace(b"CREATE TABLE facts", b"CREATE TABLE\t" + 5 * noise))
        refused(lambda: seen_anew(path), StoreError, "damaged")


def test_a_damaged_database_never_gives_a_wrong_prompt(closed: Path, path: Path) -> None:
    with reopened(copy(closed, path)) as erase:
        right = erase.prompt(QUERIES[0]).text
        shown = erase.demonstrations(QUERIES[0])[0].output.encode()
    content = contents(path)[DATABASE]
    (path / DATABASE).write_bytes(content.replace(shown, shown[:-1] + b"?"))
    with reopened(path) as erase:
        assert right
        refused(lambda: erase.prompt(QUERIES[0]), StoreError, "damaged", "example")
        assert not erase.verify().ok


@pytest.mark.parametrize(
    ("fact", "value"),
    [
        ("settings", "{"),
        ("settings", "[]"),
        ("settings", '{"n_shots": 3}'),
        ("settings", None),
        ("settings", b"\xff"),
        ("generation", "x"),
        ("generation", None),
        ("dim", "x"),
        ("dim", 7),
        ("digest", "0" * 64),
        ("axes", b"123"),
    ],
)
def test_a_fact_that_makes_no_sense_is_damage(closed: Path, path: Path, fact: str, value: object) -> None:
    change(copy(closed, path), "UPDATE facts SET value = ? WHERE name = ?", value, fact)
    (path / SNAPSHOT).unlink()
    refused(lambda: seen(reopened(path)), StoreError, "damaged")


def test_what_is_missing_is_damage(closed: Path, path: Path) -> None:
    change(copy(closed, path), "DELETE FROM examples")
    (path / SNAPSHOT).unlink()
    refused(lambda: seen_anew(path), StoreError, "damaged")
    shutil.rmtree(path)
    for fact in ("settings", "generation", "dim", "digest", "embedder"):
        change(copy(closed, path), "DELETE FROM facts WHERE name = ?", fact)
        (path / SNAPSHOT).unlink()
        refused(lambda: Erase.open(path, embedder=WordEmbedder()).verify(), StoreError, "damaged", fact)
        shutil.rmtree(path)


@pytest.mark.parametrize("entry", [0.3, 2.0, float("nan"), float("inf"), None])
def test_a_damaged_vector_is_told_by_verify_and_is_an_error_where_it_is_needed(
    closed: Path, path: Path, entry: float | None
) -> None:
    wrong = b"" if entry is None else np.full(8, [entry], np.float32).tobytes()
    change(copy(closed, path), "UPDATE examples SET vector = ? WHERE id = 3", wrong)
    with reopened(path) as erase:
        assert erase.prompt(QUERIES[0]).text == fresh(some(20)).prompts[0]  # by the snapshot, which is sound
        if entry in (0.3, 2.0):  # a vector, but another one
            assert not erase.verify().ok
        else:
            refused(erase.verify, StoreError, "damaged")
    (path / SNAPSHOT).unlink()
    refused(lambda: seen(reopened(path)), StoreError, "damaged", "Restore a backup")


# ---- the snapshot ----
@pytest.mark.parametrize("form", ["absent", "short", "long", "noise", "another store's"])
def test_a_snapshot_that_is_not_the_models_is_replaced_by_the_next_reader(closed: Path, path: Path, form: str) -> None:
    sound = contents(closed)[SNAPSHOT]
    with new_path() as other:
        create(other, some(5)).close()
        forms = {"short": sound[:-1], "long": sound + b"\0", "noise": b"\xff" * 999}
        content = forms.get(form, contents(other)[SNAPSHOT])
    (copy(closed, path) / SNAPSHOT).unlink()
    if form != "absent":
        (path / SNAPSHOT).write_bytes(content)
    with reopened(path) as erase:
        assert erase.prompt(QUERIES[0]).text == fresh(some(20)).prompts[0]
    assert contents(path)[SNAPSHOT] == sound


def test_a_snapshot_beside_an_emptied_store_is_removed_by_the_next_reader(closed: Path, path: Path) -> None:
    with reopened(copy(closed, path)) as erase:
        erase.forget(range(20))
        assert SNAPSHOT not in contents(path)
    shutil.copy(closed / SNAPSHOT, path / SNAPSHOT)
    with reopened(path) as erase:
        assert erase.demonstrations() == []
    assert SNAPSHOT not in contents(path)


def test_a_snapshot_is_the_one_that_a_new_store_writes(closed: Path, path: Path) -> None:
    erase = create(path, some(25))
    erase.forget(range(20, 25))
    assert contents(path)[SNAPSHOT] == contents(closed)[SNAPSHOT]


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
        check_refused(erase, limited, kind, str(path))
        with reopened(path) as other:  # whose write takes the number of the one that failed
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
