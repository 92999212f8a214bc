"""A store with a history: copies of it from before each step, and what was ever removed from it.

Which rows were removed is read past the product: from the files, before and after each step.
"""

from __future__ import annotations

import shutil
import sqlite3
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from erase_core.erase import Erase
from erase_core.errors import OldCopyWarning
from erase_core.examples.example import Example
from receipts_by_hand import fact, key_of, rows_of
from small_stores import CountingLLM, WordEmbedder, contents, create, example, new_path, some

DATABASE, LOG, KEYS = "examples.sqlite", "examples.sqlite-wal", "keys"
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
# What of a copy is put back; the rest is of today. While the copy was made, the store was open, so that a part of it
# was in the log. Without the log, the key file may be younger than the database.
WAYS: dict[str, list[str]] = {
    "the whole folder": [DATABASE, LOG, KEYS, "examples.sqlite-shm"],
    "database, log and keys": [DATABASE, LOG, KEYS],
    "database and keys": [DATABASE, KEYS],
    "database and log": [DATABASE, LOG],
    "database alone": [DATABASE],
}


class History(NamedTuple):
    """A store that has come to its end, its receipts, and copies from before.

    `removed` has the hashes of all rows ever removed, with their keys; `keys` is a key file from which none was.
    """

    store: Path
    receipts: Path
    copies: list[Path]
    removed: dict[bytes, bytes]
    keys: bytes

    def file(self, number: int) -> Path:
        return self.receipts / f"{number:08}.json"


def carry_out(path: Path, receipts: Path | None = None, key: Path | None = None) -> History:
    copies = [path.with_name(f"copy {point}") for point in POINTS]
    removed: dict[bytes, bytes] = {}
    with create(path, some(12), receipts=receipts, signing_key=key) as erase:
        keys = (path / KEYS).read_bytes()
        shutil.copytree(path, copies[0])
        for step, copy in zip(SCRIPT, copies[1:], strict=True):
            before = keys_of(path)
            step(erase)
            removed |= {row: key for row, key in before.items() if row not in keys_of(path)}
            # A slot is used once, so what is longer has only slots more.
            keys += (path / KEYS).read_bytes()[len(keys) :]
            shutil.copytree(path, copy)
        assert erase.verify().ok
        assert len(erase.receipts()) == LAST
    return History(path, receipts or path / "receipts", copies, removed, keys)


def keys_of(path: Path) -> dict[bytes, bytes]:
    """The key of each row, by its hash."""
    db = sqlite3.connect(path / DATABASE)
    rows = db.execute("SELECT slot, hash FROM examples").fetchall()
    db.close()
    return {row_hash: key_of(path / DATABASE, slot) for slot, row_hash in rows}


def put_back(history: History, point: int, way: str, path: Path) -> Path:
    """Make a store of a copy, and return where its receipts of today are: copied too, so that they may be changed."""
    path.mkdir()
    shutil.copy(history.store / KEYS, path / KEYS)
    for name in WAYS[way]:
        if (history.copies[point] / name).exists():
            shutil.copy(history.copies[point] / name, path / name)
    inside = history.receipts.parent == history.store
    return Path(shutil.copytree(history.receipts, path / "receipts" if inside else path.with_name("today's receipts")))


def left(history: History, path: Path) -> tuple[list[Example], list[Example]]:
    """The examples of a copy that were never removed, and those that were and are not there otherwise."""
    with aside(path) as copy:
        (copy / KEYS).write_bytes(history.keys)
        rows = sorted(rows_of(copy / DATABASE).values(), key=lambda row: row.id)
    parts: tuple[list[Example], list[Example]] = ([], [])
    for row in rows:
        parts[row.hash in history.removed].append(Example(*row[:5]))
    return parts


@contextmanager
def aside(path: Path) -> Iterator[Path]:
    """A copy of a store, since SQLite changes the files that it has opened."""
    with new_path() as copy:
        yield Path(shutil.copytree(path, copy))


def opened(path: Path, *, old: bool | None = None, **options: Any) -> Erase:
    """Open a store, which says that it is an old copy just if it is one; whatever it says, if `old` is None."""
    with warnings.catch_warnings():
        if old is None:
            warnings.simplefilter("ignore", OldCopyWarning)
        with pytest.warns(OldCopyWarning, match="removed again") if old else nullcontext():
            return Erase.open(path, embedder=WordEmbedder(), llm=CountingLLM(), **options)


def head(path: Path) -> int:
    """How many removals a store knows of."""
    with aside(path) as copy:
        return int(fact(copy / DATABASE, "head"))


def residue(history: History, path: Path) -> list[str]:
    """Files of a store that hold the key of an example that was ever removed."""
    files = contents(path)
    return [name for name, content in files.items() if any(key in content for key in history.removed.values())]
