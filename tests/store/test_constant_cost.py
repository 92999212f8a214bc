"""What forgetting costs does not depend on how many examples there are: what is executed, read and written is counted.

SQLite tells how many instructions of its machine it executes: a look-up by an index has as many in a large table as in
a small one, and a scan has some for each row.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest
from erase_core.erase import Erase
from erase_core.examples.example import Example
from small_stores import create, parts_of, reopened

SMALL, LARGE = 60, 1500
# The target of docs/performance.md, in bytes. It holds at a million examples, whose trees are two pages deeper.
MOST_WRITTEN = 64 * 1024


# Tokens are random. Their order changes the instructions by a few, and a scan by one for each row at least.
FEW = 40


def is_alike(small: dict[str, int], large: dict[str, int]) -> bool:
    return small.keys() == large.keys() and all(abs(small[name] - large[name]) < FEW for name in small)


def some_of(n: int) -> list[Example]:
    return [Example(f"mail-{i}", f"{i} where is my parcel", "late", None, f"customer {i // 3}") for i in range(n)]


class Cost:
    """Counts what a handle does: instructions of SQLite, and bytes that are read from the key file and written."""

    def __init__(self, erase: Erase, monkeypatch: pytest.MonkeyPatch) -> None:
        self._erase, self._counts = erase, Counter[str]()
        parts_of(erase).store._db._connection.set_progress_handler(self._step, 1)
        pread = os.pread

        def counted(descriptor: int, length: int, start: int) -> bytes:
            self._counts["read from the key file"] += length
            return pread(descriptor, length, start)

        monkeypatch.setattr(os, "pread", counted)

    def _step(self) -> int:
        self._counts["instructions"] += 1
        return 0

    def of(self, call: Callable[[], object]) -> dict[str, int]:
        self._counts.clear()
        call()
        return dict(self._counts)


CALLS: dict[str, Callable[[Erase], object]] = {
    "forget by id": lambda erase: erase.forget("mail-7"),
    "forget by subject": lambda erase: erase.forget(subject="customer 5"),
    "forget, normalised": lambda erase: erase.forget(subject="Customer  6", match="normalised"),
    "ingest": lambda erase: erase.ingest([Example("new", "a late parcel", "late", None, "customer 9")]),
    "prompt": lambda erase: erase.prompt("where is my parcel"),
}


@pytest.mark.parametrize("name", CALLS)
def test_a_call_does_as_much_in_a_large_store(path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    costs = []
    for n in (SMALL, LARGE):
        with create(path.with_name(f"of {n}"), some_of(n)) as erase:
            erase.forget("mail-1")
            cost = Cost(erase, monkeypatch)
            costs.append(cost.of(lambda erase=erase: CALLS[name](erase)))  # type: ignore[misc]
    assert is_alike(*costs)
    assert costs[0]["instructions"]


def test_a_reader_follows_at_the_cost_of_the_change(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    costs = []
    for n in (SMALL, LARGE):
        with create(path.with_name(f"of {n}"), some_of(n)) as erase:
            reader = reopened(path.with_name(f"of {n}"))
            reader.prompt("where is my parcel")
            erase.forget("mail-1")
            erase.ingest([Example("new", "a late parcel", "late"), Example("newer", "a broken parcel", "broken")])
            cost = Cost(reader, monkeypatch)
            costs.append(cost.of(lambda reader=reader: reader.prompt("where is my parcel")))  # type: ignore[misc]
            reader.close()
    assert is_alike(*costs)


def test_a_scan_would_be_seen(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    costs = []
    for n in (SMALL, LARGE):
        with create(path.with_name(f"of {n}"), some_of(n)) as erase:
            costs.append(Cost(erase, monkeypatch).of(erase.examples))
    assert costs[1]["instructions"] - costs[0]["instructions"] >= LARGE - SMALL
    assert costs[1]["read from the key file"] - costs[0]["read from the key file"] == 32 * (LARGE - SMALL)


@pytest.mark.skipif(not Path("/proc/self/io").exists(), reason="the system does not tell what a process writes")
@pytest.mark.parametrize("n", [SMALL, LARGE])
def test_a_removal_writes_little(path: Path, n: int) -> None:
    with create(path, some_of(n)) as erase:
        erase.forget("mail-1")
        before = written()
        for number in range(10, 30):
            erase.forget(f"mail-{number}")
        assert (written() - before) / 20 < MOST_WRITTEN


def written() -> int:
    lines = Path("/proc/self/io").read_text().splitlines()
    return int(dict(line.split(": ") for line in lines)["wchar"])
