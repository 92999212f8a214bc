"""One store, several processes: one writes at a time, others see what counts, one that is killed leaves nothing.

Locks are held by real processes or real connections.
"""

from __future__ import annotations

import os
import sqlite3
import threading
import warnings
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from erase_core._core import Model
from erase_core.erase import Erase
from erase_core.erasure import recovery
from erase_core.errors import StoreLockedError, UnknownIdError
from erase_core.examples.example import Example
from erase_core.store import key_file
from erase_core.store.clustering import Clustering
from erase_core.store.key_file import CODE_BYTES, HEAD_BYTES, KEY_BYTES, KeyFile
from erase_core.store.reads import Reads
from erase_core.store.store import Store
from erase_core.store.transaction import WriteTransaction
from erase_core.verify import search as searching
from erase_core.verify import verification
from processes import HANG
from receipts_by_hand import key_of
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
    erase = reopened(path, timeout=HANG)

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


# ---- readers in the middle ----
def test_a_reader_from_before_a_removal_holds_up_nobody(path: Path) -> None:
    """The row stays in the log for the reader's sake, but its key does not."""
    erase = create(path, [*some(12), Example(77, "canary input", "yes")])
    key = key_of(path / "examples.sqlite", 12)
    slow = sqlite3.connect(path / "examples.sqlite", isolation_level=None)
    slow.execute("BEGIN")
    [row] = slow.execute("SELECT slot, texts, vector FROM examples WHERE slot = 12").fetchall()
    assert found(path, {"key": key}) == {"key": ["keys"]}
    report = erase.forget(77)
    assert report.receipt is not None
    assert erase.receipts() == [report.receipt]
    assert erase.status().scrubbed
    assert erase.verify(absent=["canary input"]).ok
    with Erase.open(path, embedder=WordEmbedder(), timeout=0) as again:
        assert again.examples() == some(12)
    assert slow.execute("SELECT slot, texts, vector FROM examples WHERE slot = 12").fetchall() == [row]
    assert found(path, {"sealed": row[2], "key": key, "text": b"canary input"}).keys() == {"sealed"}
    slow.close()
    assert seen_anew(path) == seen(erase) == fresh(some(12))


def test_a_call_that_began_before_a_removal_returns_what_is_left(path: Path, other: Elsewhere) -> None:
    """Its state has an example whose key is gone, so it begins again, with the newer state."""
    erase = create(path, some(12))
    other("open", path)
    states = []

    def read_slowly(reads: Reads) -> list[Example]:
        states.append(len(reads))
        if len(states) == 1:
            other("forget", [1, 2])
        return reads.all_examples()

    kept = [each for each in some(12) if each.id not in (1, 2)]
    assert parts_of(erase).read(read_slowly) == kept
    assert states == [12, 10]
    # Not if it does not need the keys that are gone: then all of it is of the moment at which it began.
    states.clear()

    def count_slowly(reads: Reads) -> tuple[int, int]:
        before = len(reads.taken_slots())
        other("forget", 3)
        return before, len(reads.taken_slots())

    assert parts_of(erase).read(count_slowly) == (10, 10)
    assert seen(erase) == seen_anew(path) == fresh([each for each in kept if each.id != 3])


def test_a_verification_ends_however_often_others_forget(
    path: Path, other: Elsewhere, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It takes seconds, so it reads first what a removal destroys, and need not begin again."""
    erase = create(path, some(12))
    erase.status()  # the model is in memory
    other("open", path)
    coming, read, search, began = iter(range(6)), Reads.vectors, searching.search, []

    def forgetting(reads: Reads, *among: Any) -> Any:
        if not among:
            began.append("read")
            other("forget", next(coming))
        return read(reads, *among)

    def forgetting_first(*what: Any) -> Any:
        began.append("search")
        other("forget", next(coming))
        return search(*what)

    monkeypatch.setattr(Reads, "vectors", forgetting)
    monkeypatch.setattr(verification, "search", forgetting_first)
    assert erase.verify(absent=["not in any file"]).n_examples == 12
    assert began == ["read", "search"]
    monkeypatch.undo()
    assert seen(erase) == seen_anew(path) == fresh(some(10, 2))


def test_a_key_that_was_read_half_overwritten_is_one_that_is_gone(
    path: Path, other: Elsewhere, monkeypatch: pytest.MonkeyPatch
) -> None:
    """File systems do not promise more. Nothing is damaged, so the call begins again, with the newer state."""
    erase, read = create(path, some(12)), os.pread
    other("open", path)
    kept = [each for each in some(12) if each.id != 1]
    start, half = HEAD_BYTES + KEY_BYTES, [bytes(KEY_BYTES // 2)]
    states: list[int] = []

    def torn(descriptor: int, count: int, at: int) -> bytes:
        content = read(descriptor, count, at)
        if states and half and at <= start < at + count:
            zeros = half.pop()
            other("forget", 1)
            return content[: start - at] + zeros + content[start - at + len(zeros) :]
        return content

    def all_of(reads: Reads) -> list[Example]:
        states.append(len(reads))
        return reads.all_examples()

    monkeypatch.setattr(os, "pread", torn)
    assert parts_of(erase).read(all_of) == kept
    assert states == [12, 11]


def test_a_secret_that_was_read_half_overwritten_is_read_again(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    erase, read, times = create(path, some(12)), os.pread, []

    def torn(descriptor: int, count: int, at: int) -> bytes:
        content = read(descriptor, count, at)
        if at == CODE_BYTES:
            times.append(at)
        return bytes(count // 2) + content[count // 2 :] if len(times) == 1 and at == CODE_BYTES else content

    erase.forget(1)
    monkeypatch.setattr(os, "pread", torn)
    assert erase.verify().ok
    assert len(times) > 1


def test_an_ingest_never_brings_back_a_secret_that_a_removal_has_overwritten(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It destroys the keys of an ingest that was killed, and needs no lock for removals to do so."""
    erase, other = create(path, some(12)), reopened(path)
    parts_of(erase).store.keys.add(12, 1)  # what an ingest leaves that is killed
    before = contents(path)["keys"][CODE_BYTES:HEAD_BYTES]
    destroy, write = Store.destroy, KeyFile._write
    pending: list[Callable[[], None]] = []
    with monkeypatch.context() as patch:
        patch.setattr(Store, "destroy", lambda *what: pending.append(lambda: destroy(*what)))
        erase.forget(1)

    def overtaken(keys: KeyFile, start: int, content: bytes) -> None:
        if start == CODE_BYTES and pending:
            pending.pop()()
        write(keys, start, content)

    monkeypatch.setattr(KeyFile, "_write", overtaken)
    other.ingest(some(1, 50))
    for finish in pending:
        finish()
    assert contents(path)["keys"][CODE_BYTES:HEAD_BYTES] != before
    assert erase.status().scrubbed
    assert seen(erase) == seen_anew(path) == fresh([*(each for each in some(12) if each.id != 1), *some(1, 50)])


def test_writes_without_a_removal_never_make_the_secret_unreachable(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each is one more hash from the secret in the file to that of the model, of which there may not be too many."""
    monkeypatch.setattr(key_file, "MOST_GENERATIONS", 8)
    monkeypatch.setattr(recovery, "MANY_GENERATIONS", 4)
    erase = create(path, some(12))
    for start in range(12, 36, 4):
        for each in some(4, start):
            erase.ingest([each])
        Erase.open(path, embedder=WordEmbedder()).close()
        assert seen_anew(path) == seen(erase)
    erase.forget(1)
    assert seen(erase) == seen_anew(path) == fresh([each for each in some(36) if each.id != 1])
    assert erase.verify().ok


def test_nobody_joins_in_a_removal_that_is_under_way(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Or two would publish the same receipt, and one could note as finished what the other has not done yet."""
    erase, other = create(path, some(12)), reopened(path)
    committed, go_on, destroy = threading.Event(), threading.Event(), Store.destroy

    def slowly(store: Store, slots: Iterable[int], generation: int | None = None) -> None:
        committed.set()
        assert go_on.wait(HANG)
        destroy(store, slots, generation)

    with monkeypatch.context() as patch, ThreadPoolExecutor() as pool:
        patch.setattr(Store, "destroy", slowly)
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
    keys = contents(path)["keys"]
    other("die_before_commit")
    method, options = WRITES[name]
    with pytest.raises(EOFError):
        other(method, **options)
    other.end()
    # An ingest has written its keys already, which no example has. Nobody uses their slots again.
    assert (contents(path)["keys"] == keys) == (method == "forget")
    assert contents(path)["keys"].startswith(keys)
    with reopened(path) as erase:
        assert erase.examples() == some(12)
        assert erase.verify().ok
    Erase.open(path, embedder=WordEmbedder()).close()
    assert contents(path)["keys"].rstrip(b"\0") == keys.rstrip(b"\0")
    erase = reopened(path)
    assert seen(erase) == fresh(some(12))
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
            rows = tx.rows_of([1, 2])
            parts_of(erase).clustering.remove(tx, [row.slot for row in rows], [1, 2])
            tx.delete(rows, [])
            tx.is_to_finish()
            assert seen(reader) == seen_anew(path) == before
        # From here on it counts, though the keys are still there.
        assert reader.examples() == [each for each in some(12) if each.id not in (1, 2)]
        assert not reader.verify().ok
        parts_of(erase).removals.finish()
        assert seen(reader) == seen_anew(path) == seen(erase) == fresh(erase.examples()) != before


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
    "ingest": [(KeyFile, "add"), (WriteTransaction, "insert"), (Clustering, "add"), (Model, "add")],
    "forget": [(WriteTransaction, "delete"), (Clustering, "remove"), (Model, "remove"), (Reads, "check_present")],
    "forget subject": [
        (WriteTransaction, "is_to_finish"),
        (WriteTransaction, "end"),
        (WriteTransaction, "set_model"),
        (Model, "digest"),
        (Reads, "subjects_like"),
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
    keys = contents(path)["keys"]
    with monkeypatch.context() as patch:
        if owner is Model:
            model: Any = Failing(parts_of(erase).clustering._model, step, error)  # type: ignore[arg-type]
            patch.setattr(parts_of(erase).clustering, "_model", model)
        else:
            patch.setattr(owner, step, then_fail)
        refused(lambda: write(erase, name), type(error))
    assert contents(path)["keys"].rstrip(b"\0") == keys.rstrip(b"\0")
    assert seen(erase) == seen_anew(path) == fresh(some(12))
    write(erase, name)
    assert seen(erase) == seen_anew(path) == fresh(erase.examples())
