"""Residue: no file of a store shows an example, and none holds the key of one that was forgotten.

So that a copy of the SQLite file from before a removal shows nothing of it: it is opened by hand, with every key left.
For memory, see test_memory.py.
"""

from __future__ import annotations

import os
import random
import shutil
import signal
import sqlite3
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from canaries import KeysOnceThere, Script, Search, canary, forms, names
from crash_mutants import MUTANTS
from erase_core.erase import Erase
from erase_core.errors import DuplicateIdError, ExampleError, ScrubError
from erase_core.examples.example import Example
from erase_core.receipts.folder import ReceiptFolder
from erase_core.settings import Settings
from erase_core.store.clustering import Clustering
from erase_core.store.key_file import KeyFile
from erase_core.store.schema import FILE
from erase_core.store.store import Store
from erase_core.store.transaction import WriteTransaction
from sealed_by_hand import KEYS, contents_of, key_forms, rows_in, slots_in, store_in
from small_stores import (
    Elsewhere,
    WordEmbedder,
    check_refused,
    create,
    example,
    found,
    new_path,
    read,
    reopened,
    seen,
    some,
)

GONE = Example("canary-id", "canary input tweets", "canary output", "canary reason", "canary-subject")


def canaries(gone: Example, embedder: WordEmbedder) -> dict[str, bytes]:
    """Everything that identifies an example, as a file would contain it."""
    texts = {"id": str(gone.id), "input": gone.input, "output": gone.output}
    texts |= {"rationale": gone.rationale or "", "subject": gone.subject or ""}
    return {name: text.encode() for name, text in texts.items()} | {"vector": embedder.embed([gone.input])[0].tobytes()}


def key_of(path: Path, wanted: Example) -> bytes:
    """The key of an example, found by trying its row: the one whose texts begin with its id."""
    content = read(path / KEYS)
    keys, store = slots_in(content), store_in(content)
    opened = {row.slot: contents_of(row, keys[row.slot].key, store)[1] for row in rows_in(path / FILE)}
    (slot,) = (slot for slot, texts in opened.items() if f'"{wanted.id}"'.encode() in texts)
    return keys[slot].key


@pytest.mark.parametrize("strategy", ["kmeans", "knn", "random"])
@pytest.mark.parametrize("way", ["id", "subject", "with others", "all"])
def test_no_file_holds_what_was_forgotten(path: Path, strategy: Any, way: str) -> None:
    others = [Example(f"row-{i}", f"{i} parcels late", "yes", None, f"subject {i}") for i in range(40)]
    erase = create(path, [*others[:20], GONE, *others[20:]], strategy=strategy)
    reader = reopened(path)
    needles, key = canaries(GONE, WordEmbedder()), key_of(path, GONE)
    keys = dict(key_forms(key))
    assert seen(reader) == seen(erase)
    assert found(path, needles) == {}, "it can be read while it is there"
    assert found(path, keys) == {"bytes": [KEYS]}
    shutil.copytree(path, copy := path.with_name("copy"))
    ids: dict[str, list[str]] = {"with others": ["row-3", "canary-id"], "all": [e.id for e in erase.examples()]}  # type: ignore[misc]
    erase.forget(subject="canary-subject") if way == "subject" else erase.forget(ids.get(way, "canary-id"))
    assert found(path, needles | keys) == {}
    assert seen(reader) == seen(erase)
    reader.close()
    erase.close()
    assert found(path, needles | keys) == {}
    check_copy(copy, path, n_gone=len(ids.get(way, ["canary-id"])))


def check_copy(copy: Path, path: Path, n_gone: int) -> None:
    """With the keys of today, a copy of the SQLite files opens but for what has gone since: no row opens in part."""
    content = read(path / KEYS)
    keys, rows = slots_in(content), rows_in(copy / FILE)
    opened = [max(len(contents_of(row, each.key, store_in(content))) for each in keys.values()) for row in rows]
    assert Counter(opened) == +Counter({0: n_gone, 2: len(rows) - n_gone})


def test_a_reader_does_not_hold_a_removal_up(path: Path) -> None:
    create(path, [GONE, *(Example(f"row-{i}", f"{i} parcels late", "yes") for i in range(40))]).close()
    erase = Erase.open(path, embedder=WordEmbedder(), timeout=0.2)
    key = key_of(path, GONE)
    reader = sqlite3.connect(path / FILE, isolation_level=None)
    reader.execute("BEGIN")
    rows = "SELECT count(*) FROM examples"
    assert reader.execute(rows).fetchone() == (41,)
    erase.forget("canary-id")
    assert reader.execute(rows).fetchone() == (41,), "the reader does not read what was there before"
    assert found(path, canaries(GONE, WordEmbedder()) | dict(key_forms(key))) == {}
    assert erase.verify().ok
    reader.close()
    erase.close()


def test_a_key_that_could_not_be_destroyed_is_destroyed_when_the_store_is_opened_again(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    erase = create(path, [GONE, *(Example(f"row-{i}", f"{i} parcels late", "yes") for i in range(40))])
    key = key_of(path, GONE)

    def fail(*args: Any) -> None:
        raise OSError(5, "Input/output error")

    with monkeypatch.context() as patch:
        patch.setattr(os, "pwrite", fail)
        with pytest.raises(ScrubError, match="the removal is done"):
            erase.forget("canary-id")
    assert "canary-id" not in [example.id for example in erase.examples()]
    assert found(path, {"key": key}) == {"key": [KEYS]}
    assert not erase.status().scrubbed
    assert not erase.verify().ok
    erase.close()
    with Erase.open(path, embedder=WordEmbedder()) as erase:
        assert found(path, dict(key_forms(key))) == {}
        assert erase.verify().ok


def test_an_ingest_that_failed_leaves_nothing_behind(path: Path) -> None:
    erase = create(path, some(10))
    bad = Example(50, "canary input", "canary output", None, "canary-subject")
    check_refused(erase, lambda: erase.ingest([bad, example(3)]), DuplicateIdError)
    check_refused(erase, lambda: erase.ingest([bad, {"id": 51, "input": "", "output": ""}]), ExampleError)
    assert found(path, {"canary": b"canary"}) == {}


def test_an_ingest_that_was_not_committed_leaves_no_key(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    erase = create(path, some(10))
    add, drawn = KeyFile.add, []

    def keeping(keys: KeyFile, first: int, count: int) -> list[bytes]:
        drawn.extend(new := add(keys, first, count))
        return new

    def fail(*args: Any) -> None:
        raise sqlite3.OperationalError("disk I/O error")

    monkeypatch.setattr(KeyFile, "add", keeping)
    monkeypatch.setattr(WriteTransaction, "end", fail)
    with pytest.raises(sqlite3.OperationalError):
        erase.ingest(some(3, 100))
    assert len(drawn) == 3
    assert [found(path, dict(key_forms(key))) for key in drawn] == [{}, {}, {}]


def test_no_file_holds_what_was_forgotten_after_much_coming_and_going(path: Path) -> None:
    rng, store = random.Random(0), Store.create(path, Settings(), "words", 8)

    def text(most: int) -> str:
        return "".join(rng.choices("abcdefghijklmnop", k=rng.randrange(12, most)))

    for _ in range(6):
        rows = [Example(text(400), text(50), "yes", None, text(400)) for _ in range(150)]
        for start in range(0, len(rows), 50):
            with store.writing() as tx:
                tx.insert(rows[start : start + 50], np.zeros((50, 8), np.float32))
        rng.shuffle(rows)
        for row in rows:
            with store.writing() as tx:
                (going,) = tx.rows_of([row.id])
                tx.delete([going], [])
            (key,) = store.keys.of([going.slot])
            store.destroy([going.slot])
            needles = {"id": str(row.id).encode(), "input": row.input.encode(), "key": key}
            assert found(path, needles) == {}


# ---- random scripts ----
@pytest.fixture
def folder() -> Iterator[Path]:
    with new_path() as path:
        path.mkdir()
        yield path


def test_the_search_finds_every_form_wherever_it_begins() -> None:
    rng, embedder = random.Random(0), WordEmbedder(dim=32)
    for numbered in (False, True):
        one, search = canary(rng, numbered=numbered, length=400), Search()
        of_all = [*forms(one, embedder), *((f"key in {form}", key) for form, key in key_forms(rng.randbytes(32)))]
        search.add(str(one.id), of_all)
        for name, content in of_all:
            before = rng.randbytes(rng.randrange(40))
            assert (str(one.id), name, "here") in search.of_bytes(before + content + rng.randbytes(9), "here")
            if len(content) > 60:  # what is left of it when its ends were overwritten
                assert name in names(search.of_bytes(before + content[20:-7]))


def test_the_search_finds_half_a_key() -> None:
    key, search = random.Random(0).randbytes(32), Search()
    search.add("0", key_forms(key))
    for rest in (key[:16] + bytes(16), bytes(16) + key[16:]):
        assert "bytes" in names(search.of_bytes(b"before" + rest))


@pytest.mark.parametrize(("projected", "wrapped"), [(False, False), (True, False), (False, True)])
@pytest.mark.parametrize("strategy", ["kmeans", "knn", "random"])
def test_random_scripts_leave_nothing(folder: Path, strategy: Any, projected: bool, wrapped: bool) -> None:
    script = Script(folder, 1, strategy, projected, wrapped=wrapped)
    for _ in range(30):
        script.step()
        assert script.found() == set()
    script.erase.close()
    assert script.found() == set()
    print(strategy, dict(script.counts))


def test_random_scripts_leave_nothing_where_another_process_reads(folder: Path, other: Elsewhere) -> None:
    script = Script(folder, 2, dim=8)
    other("open", script.path)
    for _ in range(20):
        script.step()
        assert script.found() == set()
        other("text")
        assert script.found() == set()
    print(dict(script.counts))


@pytest.mark.slow
@pytest.mark.parametrize(("projected", "wrapped"), [(False, False), (True, False), (False, True)])
@pytest.mark.parametrize("strategy", ["kmeans", "knn", "random"])
def test_long_random_scripts_leave_nothing(folder: Path, strategy: Any, projected: bool, wrapped: bool) -> None:
    script = Script(folder, 3, strategy, projected, wrapped=wrapped)
    for _ in range(400):
        script.step()
        assert script.found() == set()
    print(strategy, projected, dict(script.counts))


# ---- killed in between ----
DEATHS: dict[str, tuple[type, str]] = {
    "the rows are deleted, but that does not count": (WriteTransaction, "is_to_finish"),
    "it counts": (Clustering, "writing"),
    "the keys are destroyed": (KeyFile, "destroy"),
    "the receipt is published": (ReceiptFolder, "publish"),
}


@pytest.mark.parametrize("death", DEATHS)
def test_a_removal_whose_process_is_killed_leaves_nothing_once_the_store_is_opened(folder: Path, death: str) -> None:
    script = Script(folder, 4)
    for _ in range(3):
        script.ingest()
        script.forget()
    script.erase.close()
    going = script.draw()
    context = get_context("forkserver")
    context.set_forkserver_preload(["erase_core.erase", "pytest"])
    ids = [example.id for example in going]
    process = context.Process(target=_die_forgetting, args=(script.path, script.embedder.dim, ids, *DEATHS[death]))
    process.start()
    process.join()
    assert process.exitcode == -signal.SIGKILL
    script.erase = Erase.open(script.path, embedder=script.embedder)
    counted = len(script.erase.examples()) < len(script.present)
    assert counted == (death != next(iter(DEATHS)))
    if not counted:
        script.erase.forget(ids)
    script.has_gone(going)
    assert script.found() == set()
    assert script.erase.verify().ok


def _die_forgetting(path: Path, dim: int, ids: list[int | str], owner: type, step: str) -> None:
    erase = Erase.open(path, embedder=WordEmbedder(dim=dim))
    real = getattr(owner, step)

    def die(*args: Any, **options: Any) -> None:
        real(*args, **options)
        os.kill(os.getpid(), signal.SIGKILL)

    @contextmanager
    def die_at_the_end(*args: Any, **options: Any) -> Iterator[Any]:
        with real(*args, **options) as tx:
            yield tx
        os.kill(os.getpid(), signal.SIGKILL)

    setattr(owner, step, die_at_the_end if step == "writing" else die)
    erase.forget(ids)


# ---- stores that are broken ----
# What shows each store that was broken on purpose, once an example was forgotten.
FOUND_BY = {
    "keys not overwritten": "key without a row",
    "keys overwritten in memory": "key in bytes",
    "keys half overwritten": "key in bytes",
    "other keys overwritten": "key in bytes",
    "keys in sqlite too": "key in bytes",
    "keys used again": "row that has gone opens",
    "rows sealed with one key": "row that has gone opens",
    "key file copied": "key in bytes",
    "plain vectors in a cache": "vector in float32",
    "plain texts in a file": "output in UTF-8",
}


@pytest.mark.parametrize("mutant", FOUND_BY)
def test_a_store_that_is_broken_is_found_out(folder: Path, monkeypatch: pytest.MonkeyPatch, mutant: str) -> None:
    MUTANTS[mutant](monkeypatch.setattr)
    script = Script(folder, 1)
    script.ingest(20)
    script.forget()
    assert FOUND_BY[mutant] in names(script.found())


def test_a_replaced_key_file_that_is_kept_is_found_out(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    script = Script(folder, 1, wrapped=True)
    script.ingest(20)
    script.rekey()
    assert script.found() == set()
    MUTANTS["replaced keys kept"](monkeypatch.setattr)
    script.rekey()
    assert "key in bytes" in names(script.found())


def test_the_search_knows_rows_that_are_there(folder: Path) -> None:
    script = Script(folder, 1)
    script.ingest(20)
    keys = KeysOnceThere(script.path, folder / "before")
    keys.remember(None)
    assert keys.found(None, script.path) == set()
    slots = slots_in((script.path / KEYS).read_bytes())
    # To one who believes that they have gone they all open, and their keys are where none should be.
    keys._folder = folder / "empty"
    Store.create(keys._folder, Settings(), "words", 8).close()
    shutil.copyfile(script.path / KEYS, keys._folder / KEYS)
    shown = keys.found(None, keys._folder)
    opened = {id_ for id_, what, _ in shown if what == "row that has gone opens"}
    assert opened == {str(slot) for slot in slots if slot >= 0}
    assert {id_.split()[0] for id_, what, _ in shown if what == "key in bytes"} == opened
