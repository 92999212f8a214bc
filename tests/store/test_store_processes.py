"""One store, several processes: one writes at a time, others see what counts, one that is killed leaves nothing.

Locks are held by real processes or real connections; handles in one process are test_pipeline's business.
"""

from __future__ import annotations

import sqlite3
import threading
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from erase_core._core import Model
from erase_core.erase import Erase
from erase_core.errors import ScrubError, ScrubWarning, StoreLockedError, UnknownIdError
from erase_core.store.model_cache import Clustering
from erase_core.store.reads import Reads
from erase_core.store.store import Store
from erase_core.store.transaction import WriteTransaction
from processes import HANG
from small_stores import (
    QUERIES,
    WRITES,
    Elsewhere,
    WordEmbedder,
    check_refused,
    contents,
    create,
    found,
    fresh,
    parts_of,
    refused,
    reopened,
    seen,
    seen_anew,
    some,
    write,
)


@pytest.fixture(scope="module")
def other() -> Iterator[Elsewhere]:
    other = Elsewhere()
    yield other
    other.end()


# ---- readers ----
@pytest.mark.parametrize("strategy", ["kmeans", "knn", "random"])
def test_another_process_sees_a_removal_at_its_next_prompt(path: Path, other: Elsewhere, strategy: str) -> None:
    examples = some(12)
    erase = create(path, examples, strategy=strategy)
    other("open", path)
    assert other("text") == erase.prompt(QUERIES[0]).text
    while examples:
        shown = erase.demonstrations(QUERIES[0])[0]
        forgotten = other("llm_forgotten")
        erase.forget(shown.id)
        examples.remove(shown)
        text = other("text")
        assert text == fresh(examples, strategy=strategy).prompts[0]
        assert shown.input not in text.splitlines()
        assert other("llm_forgotten") > forgotten
    erase.ingest(some(2, 50))
    assert other("text") == fresh(some(2, 50), strategy=strategy).prompts[0]


def test_what_another_process_wrote_counts_here(path: Path, other: Elsewhere) -> None:
    erase = create(path, some(12))
    before = seen(erase)
    other("open", path)
    other("forget", [0, 1, 2])
    assert seen(erase) == fresh(some(9, 3)) != before
    check_refused(erase, lambda: erase.forget(1), UnknownIdError)
    erase.ingest(some(2), on_forgotten="allow")
    with pytest.raises(UnknownIdError):
        other("forget", 2)
    assert other("text") == erase.prompt(QUERIES[0]).text


# ---- writers ----
@pytest.mark.parametrize("name", WRITES)
def test_a_second_writer_is_refused_while_the_first_writes(path: Path, other: Elsewhere, name: str) -> None:
    create(path, some(12)).close()
    other("open", path)
    erase = reopened(path)
    other("begin_write")
    files = contents(path)
    check_refused(erase, lambda: write(erase, name), StoreLockedError, f"process {other.pid} ", "is writing")
    assert seen_anew(path) == fresh(some(12))
    assert contents(path) | {"examples.sqlite-shm": b""} == files | {"examples.sqlite-shm": b""}
    other("end_write")
    write(erase, name)
    assert other("text") == erase.prompt(QUERIES[0]).text
    assert seen(erase) == fresh(erase.examples())


def test_two_processes_that_write_at_once_lose_nothing(path: Path, other: Elsewhere) -> None:
    create(path, some(12)).close()
    other("open", path)
    (path / "model.qkm").unlink()
    erase = reopened(path, timeout=HANG)
    erase.prompt(QUERIES[0])  # and makes the snapshot good, for which it waits for nobody: for a write it does

    def churn(call: Callable[..., object], first: int) -> None:
        for i in range(first, first + 60, 3):
            call("ingest", some(3, i))
            call("forget", [i, i + 1])

    thread = threading.Thread(target=churn, args=(other, 100))
    thread.start()
    churn(lambda method, *args: getattr(erase, method)(*args), 1000)
    thread.join()
    assert len(erase.examples()) == 12 + 40
    assert seen(erase) == seen_anew(path) == fresh(erase.examples())


def test_many_threads_share_a_handle(path: Path) -> None:
    erase = create(path, some(12))
    errors: list[BaseException] = []

    def churn(first: int) -> None:
        try:
            for i in range(first, first + 20):
                erase.ingest(some(2, 2 * i))
                erase.forget(2 * i)
                assert erase.verify().ok
                erase.prompt(QUERIES[0])
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=churn, args=(first,)) for first in (100, 200, 300)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    assert len(erase.examples()) == 12 + 60
    assert seen(erase) == fresh(erase.examples())


# ---- a reader in the way ----
def test_a_removal_is_done_but_not_vouched_for_while_another_reads_from_before_it(path: Path) -> None:
    erase = create(path, some(12))
    erase.close()
    erase = reopened(path)
    erase.ingest([{"id": 77, "input": "canary input", "output": "yes"}])
    slow = sqlite3.connect(path / "examples.sqlite", isolation_level=None)
    slow.execute("BEGIN")
    slow.execute("SELECT count(*) FROM examples").fetchone()
    with pytest.raises(ScrubError, match="the removal is done") as caught:
        erase.forget(77)
    assert "database is locked" not in str(caught.value)
    with pytest.warns(ScrubWarning, match="still reads from before it"):
        Erase.open(path, embedder=WordEmbedder(), timeout=0.05).close()
    assert erase.examples() == some(12)
    assert not erase.verify().ok
    assert found(path, {"canary": b"canary input"}), "then there would be nothing to vouch for"
    slow.close()
    erase.close()
    Erase.open(path, embedder=WordEmbedder()).close()
    assert seen_anew(path) == fresh(some(12))
    assert found(path, {"canary": b"canary input"}) == {}


def test_nobody_joins_in_a_removal_that_is_under_way(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Or two would hold up each other, and those that read them both."""
    erase, other = create(path, some(12)), reopened(path)
    committed, go_on, scrub = threading.Event(), threading.Event(), Store.scrub

    def slowly(store: Store) -> Any:
        committed.set()
        assert go_on.wait(HANG)
        return scrub(store)

    with monkeypatch.context() as patch, ThreadPoolExecutor() as pool:
        patch.setattr(Store, "scrub", slowly)
        removal = pool.submit(erase.forget, 1)
        assert committed.wait(HANG)
        try:
            with Erase.open(path, embedder=WordEmbedder(), timeout=0) as third, warnings.catch_warnings():
                warnings.simplefilter("error")
                assert not third.status().scrubbed
                assert third.examples() == [example for example in some(12) if example.id != 1]
            refused(lambda: other.forget(2), StoreLockedError, "another handle of this process is writing to the store")
            other.ingest(some(1, 50))  # which waits for nobody
        finally:
            go_on.set()
        assert removal.result().receipt is not None
    other.forget(50)
    assert seen(other) == seen(erase) == fresh([example for example in some(12) if example.id != 1])


# ---- a process that is killed ----
@pytest.mark.parametrize("name", WRITES)
def test_a_process_killed_before_its_write_counts_has_written_nothing(path: Path, name: str) -> None:
    create(path, some(12)).close()
    other = Elsewhere()
    other("open", path)
    snapshot = contents(path)["model.qkm"]
    other("die_before_commit")
    method, options = WRITES[name]
    with pytest.raises(EOFError):
        other(method, **options)
    other.end()
    assert contents(path)["model.qkm"] != snapshot
    erase = reopened(path)
    assert seen(erase) == fresh(some(12))
    assert contents(path)["model.qkm"] == snapshot
    write(erase, name)
    assert seen(erase) == fresh(erase.examples())


def test_a_process_killed_while_it_writes_lets_go_of_the_lock(path: Path) -> None:
    erase = create(path, some(12))
    other = Elsewhere()
    other("open", path)
    other("begin_write")
    other.end()
    erase.forget([1, 2])
    assert seen(erase) == fresh([example for example in some(12) if example.id not in (1, 2)])


# ---- a write that does not count yet ----
def test_a_reader_sees_nothing_of_a_write_until_it_counts(path: Path) -> None:
    erase = create(path, some(12))
    before = fresh(some(12))
    with reopened(path) as reader:
        assert seen(reader) == before
        with parts_of(erase).clustering.writing() as tx:
            parts_of(erase).clustering.remove(tx, [1, 2])
            tx.delete([1, 2])
            snapshot = contents(path)["model.qkm"]
            assert seen(reader) == seen_anew(path) == before
            assert contents(path)["model.qkm"] == snapshot
        parts_of(erase).removals.finish()
        assert seen(reader) == seen_anew(path) == seen(erase) == fresh(erase.examples()) != before
        assert contents(path)["model.qkm"] == snapshot


def test_what_is_read_within_one_reading_is_of_one_moment(path: Path) -> None:
    erase = create(path, some(12))
    with parts_of(erase).store.reading() as reads:
        assert len(reads) == 12
        with reopened(path) as other:
            other.ingest(some(3, 100))
        assert len(reads) == 12
    with parts_of(erase).store.reading() as reads:
        assert len(reads) == 15


STEPS = {
    "ingest": [(WriteTransaction, "insert"), (Clustering, "add"), (Model, "add")],
    "forget": [(WriteTransaction, "delete"), (Clustering, "remove"), (Model, "remove"), (Reads, "check_present")],
    "forget subject": [
        (WriteTransaction, "set_digest"),
        (Clustering, "_save"),
        (Clustering, "_unlink"),
        (Model, "save"),
    ],
}


class Failing:
    """A model, whose class no test can change, that fails after one of its methods."""

    def __init__(self, model: Model, step: str, error: BaseException) -> None:
        self.model, self.step, self.error = model, step, error

    def __getattr__(self, name: str) -> Any:
        real = getattr(self.model, name)
        return self._then_fail if name == self.step else real

    def _then_fail(self, *args: Any) -> None:
        getattr(self.model, self.step)(*args)
        raise self.error


@pytest.mark.parametrize("error", [KeyboardInterrupt(), MemoryError("no more")], ids=["interrupted", "failed"])
@pytest.mark.parametrize(
    ("name", "owner", "step"), [(name, *step) for name, steps in STEPS.items() for step in steps], ids=str
)
def test_a_write_that_is_interrupted_after_any_step_changes_nothing(
    path: Path, monkeypatch: pytest.MonkeyPatch, name: str, owner: type, step: str, error: BaseException
) -> None:
    real = getattr(owner, step)

    def then_fail(*args: Any, **options: Any) -> None:
        real(*args, **options)
        raise error

    erase = create(path, some(12))
    snapshot = contents(path)["model.qkm"]
    with monkeypatch.context() as patch:
        if owner is Model:
            model: Any = Failing(parts_of(erase).clustering._model, step, error)  # type: ignore[arg-type]
            patch.setattr(parts_of(erase).clustering, "_model", model)
        else:
            patch.setattr(owner, step, then_fail)
        refused(lambda: write(erase, name), type(error))
    assert contents(path).get("model.qkm") in (None, snapshot)
    assert seen(erase) == seen_anew(path) == fresh(some(12))
    write(erase, name)
    assert seen(erase) == seen_anew(path) == fresh(erase.examples())
