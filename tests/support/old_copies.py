"""A store with a history: copies of it from before each step, and what was ever removed from it.

Which rows were removed is read past the product: from the SQLite file, before and after each step.
"""

from __future__ import annotations

import shutil
import warnings
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from erase_core.erase import Erase
from erase_core.errors import OldCopyWarning
from erase_core.examples.example import Example
from receipts_by_hand import rows_of
from small_stores import CountingLLM, WordEmbedder, contents, create, example, new_path, reopened, some

DATABASE, LOG, SNAPSHOT = "examples.sqlite", "examples.sqlite-wal", "model.qkm"
SCRIPT: list[Callable[[Erase], object]] = [
    lambda erase: erase.forget(1),
    lambda erase: erase.ingest(some(4, 20)),
    lambda erase: erase.forget(subject="bob"),
    lambda erase: erase.ingest([example(1, subject="ann"), example(50)], on_forgotten="allow"),
    lambda erase: erase.forget([50, 3]),
    lambda erase: erase.forget(subject="ann"),
    lambda erase: erase.ingest([example(60, subject="ann"), example(61)], on_forgotten="allow"),
    lambda erase: erase.forget([each.id for each in erase.examples() if each.id is not None]),
]
POINTS = range(len(SCRIPT) + 1)
# Removals among them.
LAST = 5
# What of a copy is put back. While the copy was made, the store was open, so that a part of it was in the log.
WAYS: dict[str, list[str]] = {
    "the whole folder": [DATABASE, LOG, SNAPSHOT, "examples.sqlite-shm"],
    "database and log": [DATABASE, LOG],
    "database alone": [DATABASE],
    "database and snapshot": [DATABASE, SNAPSHOT],
}


class History(NamedTuple):
    """A store that has come to its end, its receipts, copies from before, and the hashes of all rows ever removed."""

    store: Path
    receipts: Path
    copies: list[Path]
    removed: frozenset[bytes]

    def file(self, number: int) -> Path:
        return self.receipts / f"{number:08}.json"


def carry_out(path: Path, receipts: Path | None = None, key: Path | None = None) -> History:
    copies = [path.with_name(f"copy {point}") for point in POINTS]
    removed: set[bytes] = set()
    with create(path, some(12), receipts=receipts, signing_key=key) as erase:
        shutil.copytree(path, copies[0])
        for step, copy in zip(SCRIPT, copies[1:], strict=True):
            before = hashes_of(path)
            step(erase)
            removed |= before - hashes_of(path)
            shutil.copytree(path, copy)
        assert erase.verify().ok
        assert len(erase.receipts()) == LAST
    return History(path, receipts or path / "receipts", copies, frozenset(removed))


def hashes_of(path: Path) -> set[bytes]:
    return {row.hash for row in rows_of(path / DATABASE).values()}


def put_back(history: History, point: int, way: str, path: Path) -> Path:
    """Make a store of a copy, and return where its receipts of today are: copied too, so that they may be changed."""
    path.mkdir()
    for name in WAYS[way]:
        if (history.copies[point] / name).exists():
            shutil.copy(history.copies[point] / name, path / name)
    inside = history.receipts.parent == history.store
    return Path(shutil.copytree(history.receipts, path / "receipts" if inside else path.with_name("today's receipts")))


def left(history: History, path: Path) -> tuple[list[Example], list[Example]]:
    """The examples of a copy that were never removed, and those that were and are not there otherwise."""
    with new_path() as aside:
        shutil.copytree(path, aside)
        rows = sorted(rows_of(aside / DATABASE).values(), key=lambda row: row.id)
    parts: tuple[list[Example], list[Example]] = ([], [])
    for row in rows:
        parts[row.hash in history.removed].append(Example(*row[:5]))
    return parts


def opened(path: Path, *, old: bool | None = None, **options: Any) -> Erase:
    """Open a store, which says that it is an old copy just if it is one; whatever it says, if `old` is None."""
    with warnings.catch_warnings():
        if old is None:
            warnings.simplefilter("ignore", OldCopyWarning)
        with pytest.warns(OldCopyWarning, match="removed again") if old else nullcontext():
            return Erase.open(path, embedder=WordEmbedder(), llm=CountingLLM(), **options)


def head(path: Path) -> int:
    """How many removals a store knows of."""
    with reopened(path) as erase:
        return erase.status().n_receipts


def residue(path: Path, examples: list[Example]) -> list[str]:
    """Files of a store that hold an answer of these examples."""
    needles = [each.output.encode() + end for each in examples for end in (b"\0", b'"', b"\n")]
    needles += [each.output.encode() for each in examples if len(str(each.id)) > 1]
    return [name for name, content in contents(path).items() if any(needle in content for needle in needles)]
