"""Many processes at one store: each prompt is of a moment within its call, and what is forgotten stays forgotten.

Readers and writers note what they did and when, by the one clock of the machine; the laws are checked afterwards. The
prompts that are expected come from models fitted anew to what each write left behind.
"""

from __future__ import annotations

import re
import sqlite3
import sys
import time
from bisect import bisect_left, bisect_right
from collections import Counter
from collections.abc import Callable
from functools import cache, partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from erase_core.erase import Erase
from erase_core.errors import StoreLockedError
from erase_core.llm.prompt import Prompt, Template
from erase_core.selection import select_demonstrations
from erase_core.store.transaction import KEPT, WriteTransaction
from processes import HANG
from small_stores import (
    QUERIES,
    Elsewhere,
    WordEmbedder,
    create,
    example,
    fresh,
    new_path,
    parts_of,
    reopened,
    seen,
    seen_anew,
    some,
)

Ids = tuple[int, ...]
ANSWER = re.compile(r"answer (\d+)$", re.MULTILINE)
# What a verification may say while another process is in the middle of a removal.
UNFINISHED = (
    "keys of removed examples may still be there, or a receipt is not published: a removal is in progress or was "
    "interrupted. If this persists, open the store again."
)


class Call(NamedTuple):
    """A prompt that a reader got."""

    begin: int
    end: int
    query: str
    text: str


class State(NamedTuple):
    """What a write left: the ids present, and between which times it came to count."""

    generation: int
    begin: int
    acknowledged: int
    ids: Ids


class Record(NamedTuple):
    """What all processes together did."""

    calls: list[Call]
    states: list[State]
    removals: dict[int, int]
    counts: Counter[str]


# ---- the processes ----
def read(path: Path, reopening: bool, ready: Any, stop: Any, results: Any) -> None:
    """Ask for prompts until told to stop, by one handle or by a new one each time."""
    calls: list[Call] = []
    counts: Counter[str] = Counter()
    try:
        erase = Erase.open(path, embedder=WordEmbedder())
        ready.wait()
        while not stop.is_set() or len(calls) < 10:
            if reopening:
                erase.close()
            begin, query = time.monotonic_ns(), QUERIES[len(calls) % 2]
            if reopening:
                erase = Erase.open(path, embedder=WordEmbedder())
            text = erase.prompt(query).text
            calls.append(Call(begin, time.monotonic_ns(), query, text))
            if len(calls) % 100 == 0:
                counts["verifications"] += 1
                problems = set(erase.verify().problems)
                assert problems <= {UNFINISHED}, problems
        erase.close()
        results.put((calls, counts, None))
    except BaseException as error:
        results.put((calls, counts, repr(error)))


def write(path: Path, first: int, rounds: int, ready: Any, results: Any) -> None:
    """Ingest three and forget two of them, again and again; the ids are this writer's own."""
    states: list[State] = []
    removals: dict[int, int] = {}
    counts: Counter[str] = Counter()
    try:
        erase = Erase.open(path, embedder=WordEmbedder(), timeout=HANG)
        ready.wait()
        for i in range(first, first + 3 * rounds, 3):
            rows = [example(i), example(i + 1, subject=f"subject {i}"), example(i + 2, subject=f"subject {i}")]
            _write_until_done(erase, states, counts, partial(erase.ingest, rows))
            way: dict[str, Any] = {"subject": f"subject {i}"} if i % 2 else {"ids": [i + 1, i + 2]}
            acknowledged = _write_until_done(erase, states, counts, partial(erase.forget, **way))
            removals |= {i + 1: acknowledged, i + 2: acknowledged}
        erase.close()
        results.put((states, removals, counts, None))
    except BaseException as error:
        results.put((states, removals, counts, repr(error)))


def _write_until_done(erase: Erase, states: list[State], counts: Counter[str], call: Callable[[], object]) -> int:
    """Make a write, again if it was refused; note the state that it left, and return when it was acknowledged."""
    noted: list[tuple[int, int, Ids]] = []
    end = WriteTransaction.end

    def note(tx: WriteTransaction) -> None:
        end(tx)
        model = parts_of(erase).clustering._model
        ids: Ids = () if model is None else tuple(int(id_) for id_ in model.ids())
        noted[:] = [(tx.state.generation, time.monotonic_ns(), ids)]

    WriteTransaction.end = note  # type: ignore[assignment, method-assign]
    try:
        while not _is_done(call):
            counts["refused"] += 1
    finally:
        WriteTransaction.end = end  # type: ignore[method-assign]
    counts["done"] += 1
    acknowledged = time.monotonic_ns()
    generation, begin, ids = noted[-1]
    states.append(State(generation, begin, acknowledged, ids))
    return acknowledged


def _is_done(call: Callable[[], object]) -> bool:
    """Make a write; what is documented and can be tried again is no error, nothing else is excused."""
    try:
        call()
    except StoreLockedError as error:
        if "is writing to the store" in str(error):
            return False
        raise
    return True


def run(path: Path, writers: int, rounds: int) -> Record:
    """Let four readers and some writers at a store; return what they did, if none of them saw an error."""
    # Neither threads nor locks come along, and what takes long to import is imported once.
    context = get_context("forkserver")
    context.set_forkserver_preload(["erase_core.erase", "pytest"])
    stop, ready, read_by, written_by = context.Event(), context.Barrier(4 + writers), context.Queue(), context.Queue()
    processes = [context.Process(target=read, args=(path, i % 2 == 1, ready, stop, read_by)) for i in range(4)]
    for i in range(writers):
        args = (path, 100_000 * (i + 1) + i, rounds, ready, written_by)
        processes.append(context.Process(target=write, args=args))
    for process in processes:
        process.daemon = True
        process.start()
    wrote = [written_by.get() for _ in range(writers)]
    stop.set()
    was_read = [read_by.get() for _ in range(4)]
    for process in processes:
        process.join()
    assert [result[-1] for result in [*wrote, *was_read]] == [None] * (writers + 4)
    counts: Counter[str] = sum((result[-2] for result in [*wrote, *was_read]), Counter())
    return Record(
        sorted(call for calls, _, _ in was_read for call in calls),
        sorted(state for states, _, _, _ in wrote for state in states),
        {id_: when for _, removals, _, _ in wrote for id_, when in removals.items()},
        counts,
    )


# ---- the laws ----
def stale(record: Record) -> list[Call]:
    """The prompts that show an example whose removal had been acknowledged before they were asked for."""
    return [
        call
        for call in record.calls
        if any(call.begin > record.removals.get(int(id_), call.begin) for id_ in ANSWER.findall(call.text))
    ]


def unexplained(record: Record, expected: Callable[[Ids, str], str]) -> list[Call]:
    """The prompts that are not those of any state that counted at some time during the call."""
    ended = [state.acknowledged for state in record.states[1:]]
    # Commits follow one another as generations do; the acknowledgements of two writers may not.
    for i in reversed(range(len(ended) - 1)):
        ended[i] = min(ended[i], ended[i + 1])
    begun = [state.begin for state in record.states]
    unlike = []
    for call in record.calls:
        first, last = bisect_left(ended, call.begin), bisect_right(begun, call.end)
        states = record.states[first:last]
        if not any(expected(state.ids, call.query) == call.text for state in reversed(states)):
            unlike.append(call)
    return unlike


def anew(path: Path) -> Callable[[Ids, str], str]:
    """What the prompt for a query is, by a model that is fitted to some ids; settings are those of a store."""
    erase = Erase.open(path, embedder=WordEmbedder())

    @cache
    def model_of(ids: Ids) -> Any:
        return parts_of(erase).clustering.fit(ids, WordEmbedder().embed([example(id_).input for id_ in ids]))

    @cache
    def prompt(ids: Ids, query: str) -> str:
        vector = WordEmbedder().embed([query])[0]
        shown = [example(id_) for id_ in select_demonstrations(erase.settings, model_of(ids), vector)]
        return Prompt(Template(), tuple(shown), query).text

    return prompt


def check(path: Path, record: Record, first: Ids) -> None:
    """Check all laws of a run, and that they would notice if they were broken."""
    states = [State(1, 0, 0, first), *record.states]
    record = record._replace(states=states)
    generations = [state.generation for state in states]
    assert generations == list(range(1, len(states) + 1)), "a write was lost, or one counted twice"
    expected = anew(path)
    assert stale(record) == []
    assert unexplained(record, expected) == []
    # A prompt of the past, asked for now.
    shown = [call for call in record.calls if set(map(int, ANSWER.findall(call.text))) & record.removals.keys()]
    assert shown, "nobody ever saw what was to be forgotten"
    late = shown[0]._replace(begin=states[-1].acknowledged + 1, end=states[-1].acknowledged + 2)
    assert stale(record._replace(calls=[late])) == [late]
    assert unexplained(record._replace(calls=[late]), expected) == [late]
    with Erase.open(path, embedder=WordEmbedder()) as erase:
        assert tuple(e.id for e in erase.examples()) == states[-1].ids
        assert erase.verify().ok
        assert len(erase.receipts()) == len(record.removals) // 2


def go(path: Path, strategy: str, writers: int, rounds: int) -> None:
    create(path, some(12), strategy=strategy, n_shots=6).close()
    record = run(path, writers, rounds)
    print(f"{strategy}: {len(record.calls)} prompts, {len(record.states)} writes, {dict(record.counts)}")
    check(path, record, tuple(range(12)))


@pytest.mark.parametrize(("strategy", "writers"), [("kmeans", 2), ("knn", 1)])
def test_each_prompt_is_of_a_moment_within_its_call(path: Path, strategy: str, writers: int) -> None:
    go(path, strategy, writers, rounds=60)


@pytest.mark.slow
@pytest.mark.parametrize("writers", [1, 2])
@pytest.mark.parametrize("strategy", ["kmeans", "knn", "random"])
def test_each_of_thousands_of_prompts_is_of_a_moment_within_its_call(strategy: str, writers: int) -> None:
    with new_path() as path:
        go(path, strategy, writers, rounds=150)


# ---- long readers, and a writer in the way ----
def _name(pid: int | None) -> str:
    return f"process {pid} ({Path(f'/proc/{pid}/comm').read_text().strip()})"


def test_a_reader_of_another_process_holds_up_no_removal(path: Path) -> None:
    """As long as it reads, the log keeps what it may still look at. What is forgotten of it has no key."""
    create(path, some(12)).close()
    context = get_context("spawn")
    ours, theirs = context.Pipe()
    reader = context.Process(target=_read_for_long, args=(path / "examples.sqlite", theirs), daemon=True)
    erase = reopened(path, timeout=0)
    erase.ingest([example(77)])
    reader.start()
    assert ours.recv() == 13
    report = erase.forget(77)
    with Erase.open(path, embedder=WordEmbedder(), timeout=0) as again:
        assert again.status().scrubbed
        assert again.verify().ok
        assert again.receipts() == erase.receipts() == [report.receipt]
    ours.send("again")
    assert ours.recv() == 13, "the reader was not in the middle of reading"
    reader.kill()
    reader.join()
    assert seen_anew(path) == seen(erase) == fresh(some(12))


def test_a_reader_far_behind_sees_the_newest(path: Path, other: Elsewhere) -> None:
    """Further than the log of changes goes back, so that it loads all anew; and just as far."""
    with create(path, some(12)) as erase:
        for n_writes in (KEPT, KEPT + 1):
            other("open", path)
            other("text")
            for i in range(n_writes // 2):
                erase.ingest([example(1000 + i)], on_forgotten="allow")
                erase.forget(1000 + i)
            if n_writes % 2:
                erase.ingest([example(50)])
            assert other("text") == erase.prompt(QUERIES[0]).text
            assert other("verify").ok
        assert seen(erase) == seen_anew(path) == fresh([*some(12), example(50)])


def _read_for_long(file: Path, ready: Any) -> None:
    connection = sqlite3.connect(file, isolation_level=None)
    connection.execute("BEGIN")
    for _ in range(2):
        ready.send(connection.execute("SELECT count(*) FROM examples").fetchone()[0])
        ready.recv()


@pytest.mark.skipif(sys.platform != "linux", reason="locks are told by /proc/locks")
@pytest.mark.parametrize("call", [lambda erase: erase.ingest([example(77)]), lambda erase: erase.forget(1)])
def test_a_writer_in_the_way_is_named(path: Path, other: Elsewhere, call: Callable[[Erase], object]) -> None:
    create(path, some(12)).close()
    other("open", path)
    other("begin_write")
    with Erase.open(path, embedder=WordEmbedder(), timeout=0.1) as erase:
        with pytest.raises(StoreLockedError) as caught:
            call(erase)
        assert _name(other._process.pid) in str(caught.value)
        other("end_write")
        call(erase)


# ---- locks ----
@pytest.mark.parametrize("before", ["verify", "status", "receipts"])
def test_a_handle_that_looked_at_the_files_still_keeps_others_from_deleting_them(
    path: Path, other: Elsewhere, before: str
) -> None:
    erase = create(path, some(12))
    getattr(erase, before)()
    other("open", path)
    other("close")
    erase.ingest(some(3, 100))
    other("open", path)
    assert other("examples") == erase.examples()
    assert other("ingest", [example(200)]).n_examples == 16
    assert len(erase.examples()) == 16
