"""Residue: no file of a store holds what was forgotten, neither its texts nor its id nor its vector.

Memory is test_memory.py's business.
"""

from __future__ import annotations

import os
import random
import signal
import sqlite3
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from canaries import Script, Search, canary, forms, names
from erase_core.erase import Erase
from erase_core.errors import DuplicateIdError, ExampleError, ScrubError
from erase_core.examples.example import Example
from erase_core.receipts.folder import ReceiptFolder
from erase_core.settings import Settings
from erase_core.store import database
from erase_core.store.database import Database
from erase_core.store.model_cache import Clustering
from erase_core.store.schema import FILE, PRAGMAS
from erase_core.store.store import Store
from erase_core.store.transaction import WriteTransaction
from small_stores import (
    Elsewhere,
    WordEmbedder,
    check_refused,
    create,
    example,
    found,
    new_path,
    parts_of,
    reopened,
    seen,
    some,
)


def canaries(gone: Example, embedder: WordEmbedder) -> dict[str, bytes]:
    """Everything that tells of an example, as it stands in a file."""
    texts = {"id": str(gone.id), "input": gone.input, "output": gone.output}
    texts |= {"rationale": gone.rationale or "", "subject": gone.subject or ""}
    return {name: text.encode() for name, text in texts.items()} | {"vector": embedder.embed([gone.input])[0].tobytes()}


@pytest.mark.parametrize("strategy", ["kmeans", "knn", "random"])
@pytest.mark.parametrize("way", ["id", "subject", "with others", "all"])
def test_no_file_holds_what_was_forgotten(path: Path, strategy: Any, way: str) -> None:
    gone = Example("canary-id", "canary input tweets", "canary output", "canary reason", "canary-subject")
    others = [Example(f"row-{i}", f"{i} parcels late", "yes", None, f"subject {i}") for i in range(40)]
    erase = create(path, [*others[:20], gone, *others[20:]], strategy=strategy)
    reader = reopened(path)
    needles = canaries(gone, WordEmbedder())
    assert seen(reader) == seen(erase)
    assert set(found(path, needles)) == set(needles), "the search does not find what is there"
    assert any("-wal" in file for file in found(path, needles)["input"])
    ids: dict[str, list[str]] = {"with others": ["row-3", "canary-id"], "all": [e.id for e in erase.examples()]}  # type: ignore[misc]
    erase.forget(subject="canary-subject") if way == "subject" else erase.forget(ids.get(way, "canary-id"))
    assert found(path, needles) == {}
    assert seen(reader) == seen(erase)
    reader.close()
    erase.close()
    assert found(path, needles) == {}


def test_a_removal_that_a_reader_held_up_is_scrubbed_when_the_store_is_opened_again(path: Path) -> None:
    gone = Example("canary-id", "canary input tweets", "canary output", "canary reason", "canary-subject")
    create(path, [gone, *(Example(f"row-{i}", f"{i} parcels late", "yes") for i in range(40))]).close()
    erase = Erase.open(path, embedder=WordEmbedder(), timeout=0.2)
    needles = canaries(gone, WordEmbedder())
    reader = sqlite3.connect(path / FILE, isolation_level=None)
    reader.execute("BEGIN")
    reader.execute("SELECT count(*) FROM examples").fetchone()
    parts_of(erase).store._db.timeout = 0.2
    with pytest.raises(ScrubError, match="the removal is done"):
        erase.forget("canary-id")
    assert "canary-id" not in [example.id for example in erase.examples()]
    assert found(path, needles), "nothing was held up"
    assert not erase.status().scrubbed
    assert not erase.verify().ok
    erase.close()
    reader.close()
    with Erase.open(path, embedder=WordEmbedder()) as erase:
        assert found(path, needles) == {}
        assert erase.verify().ok


def test_an_ingest_that_failed_leaves_nothing_behind(path: Path) -> None:
    erase = create(path, some(10))
    bad = Example(50, "canary input", "canary output", None, "canary-subject")
    check_refused(erase, lambda: erase.ingest([bad, example(3)]), DuplicateIdError)
    check_refused(erase, lambda: erase.ingest([bad, {"id": 51, "input": "", "output": ""}]), ExampleError)
    assert found(path, {"canary": b"canary"}) == {}


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
                tx.delete([str(row.id)])
            store.scrub()
            assert found(path, {"id": str(row.id).encode(), "input": row.input.encode()}) == {}


# ---- random scripts ----
IN_FILES = {*(f"{name} in UTF-8" for name in ("input", "output", "rationale", "subject")), "vector in float32"}


@pytest.fixture(scope="module")
def other() -> Iterator[Elsewhere]:
    other = Elsewhere()
    yield other
    other.end()


@pytest.fixture
def folder() -> Iterator[Path]:
    with new_path() as path:
        path.mkdir()
        yield path


def test_the_search_finds_what_is_there(folder: Path) -> None:
    for seed, projected in enumerate((False, True)):
        script = Script(folder / str(seed), seed, projected=projected)
        script.ingest(60)
        script.has_gone(script.present)
        fixed = "vector in fixed point, projected" if projected else "vector in fixed point"
        ids = {"id in 8 bytes", "id in 8 bytes, big-endian"} if script.numbered else {"id in UTF-8"}
        assert names(script.found()) >= {*IN_FILES, fixed, *ids}


def test_the_search_finds_every_form_wherever_it_begins() -> None:
    rng, embedder = random.Random(0), WordEmbedder(dim=32)
    for numbered in (False, True):
        example, search = canary(rng, numbered=numbered, length=400), Search(embedder)
        search.add(example)
        for name, content in forms(example, embedder):
            before = rng.randbytes(rng.randrange(40))
            assert (str(example.id), name, "here") in search.of_bytes(before + content + rng.randbytes(9), "here")
            if len(content) > 60:  # what is left of it when its ends were overwritten
                assert name in names(search.of_bytes(before + content[20:-7]))


@pytest.mark.parametrize("projected", [False, True])
@pytest.mark.parametrize("strategy", ["kmeans", "knn", "random"])
def test_random_scripts_leave_nothing(folder: Path, strategy: Any, projected: bool) -> None:
    script = Script(folder, 1, strategy, projected)
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
@pytest.mark.parametrize("projected", [False, True])
@pytest.mark.parametrize("strategy", ["kmeans", "knn", "random"])
def test_long_random_scripts_leave_nothing(folder: Path, strategy: Any, projected: bool) -> None:
    script = Script(folder, 3, strategy, projected)
    for _ in range(400):
        script.step()
        assert script.found() == set()
    print(strategy, projected, dict(script.counts))


# ---- killed in between ----
DEATHS: dict[str, tuple[type, str]] = {
    "the rows are deleted, but that does not count": (WriteTransaction, "append_receipt"),
    "it counts": (Clustering, "writing"),
    "the files are written anew": (Database, "rewrite"),
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
    def die_at_the_end(*args: Any) -> Iterator[Any]:
        with real(*args) as tx:
            yield tx
        os.kill(os.getpid(), signal.SIGKILL)

    setattr(owner, step, die_at_the_end if step == "writing" else die)
    erase.forget(ids)


# ---- without what keeps files clean ----
def _log_alone(db: Database) -> None:
    db._cut_log(time.monotonic() + db.timeout)


def _vacuum_alone(db: Database) -> None:
    db._connection.execute("VACUUM")


def _nothing_overwritten(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(database, "PRAGMAS", PRAGMAS.replace("secure_delete = ON", "secure_delete = OFF"))


def _no_vacuum(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Database, "rewrite", _log_alone)


def _log_not_cut(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Database, "rewrite", _vacuum_alone)
    patch.setattr(Database, "_cut_log", lambda db, deadline: None)


# Whether it shows by itself: a file that is written anew as a whole needs no overwriting besides.
BROKEN: dict[str, tuple[bool, list[Callable[[pytest.MonkeyPatch], None]]]] = {
    "nothing overwritten, no VACUUM": (True, [_nothing_overwritten, _no_vacuum]),
    "nothing overwritten": (False, [_nothing_overwritten]),
    "no VACUUM": (True, [_no_vacuum]),
    "log not cut off": (True, [_log_not_cut]),
}


@pytest.mark.parametrize("broken", BROKEN)
def test_what_keeps_files_clean_is_missed(folder: Path, monkeypatch: pytest.MonkeyPatch, broken: str) -> None:
    shows, patches = BROKEN[broken]
    for patch in patches:
        patch(monkeypatch)
    script, dirty = Script(folder, 1), Counter[str]()
    for _ in range(25):
        script.step()
        found = script.found()
        dirty["searches that found something"] += bool(found)
        dirty.update({file for _, _, file in found})
    print(broken, dict(script.counts), dict(dirty))
    assert bool(dirty["searches that found something"]) == shows
