"""Fits a model, removes one row, and counts how often that row is found in the process's memory, before and after.

A program of its own, run by test_erasure.py: other tests' memory would be searched too. The row is looked for as the
16-bit integers that the core keeps, in either of its layouts; it is never assembled here except while searching. Its
squared distances to the rows that the seeding proposed are looked for too: the row could be computed from them.
"""

from __future__ import annotations

import gc
import os
import re
import sys
import tempfile
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from erase_core import QKMeans
from numpy.typing import NDArray
from process_memory import readable

DIM = 64
LANES = 16
# At the finest pitch a removal from the panel is never certified, and one off it always.
FINE: dict[str, Any] = {"epsilon": 0.001, "max_norm": 2.0, "panel": None}
SETTINGS: dict[str, dict[str, Any]] = {
    "certified": {"epsilon": 3.0, "max_norm": 2.0, "panel": None},
    "replayed": FINE,
    "reseeded": {"epsilon": 0.5, "max_norm": 2.0},
    "rescaled": {"epsilon": 0.5},
    "grown": FINE,
    "emptied": {"epsilon": 0.5, "max_norm": 2.0},
    "loaded": FINE,
    "saved": FINE,
    "on the panel": FINE | {"panel": 1900},
    "off the panel": FINE | {"panel": 100},
    "pushed off the panel": FINE | {"panel": 1900},
    "digested": FINE | {"panel": 100},
}


def occurrences(row: NDArray[np.int64]) -> int:
    """Count the row in all writable memory, plain or in a block: its pairs side by side, or 16 pairs apart."""

    def pair(i: int) -> int:
        # One at a time: all of them would be found.
        return int(row[2 * i]) % 2**16 + 2**16 * (int(row[2 * i + 1]) % 2**16)

    count = len(row) // 2
    found = 0
    for block in writable():
        # A plain row may begin at any even address, one in a block at any multiple of 4.
        for offset, stride in ((0, 1), (2, 1), (0, LANES)):
            words = np.frombuffer(block, "<u4", offset=offset, count=(len(block) - offset) // 4)
            starts = np.flatnonzero(words[: max(0, len(words) - (count - 1) * stride)] == pair(0))
            for i in range(1, count):
                starts = starts[words[starts + i * stride] == pair(i)]
            found += len(starts)
    return found


def distances_found(row: Callable[[], NDArray[np.int64]], others: NDArray[np.int64]) -> int:
    """Count the squared distances of a row to others that are in memory.

    In a process of its own, which copies the memory before the distances are known: they are left nowhere by this.
    """
    out, into = os.pipe()
    child = os.fork()
    if child == 0:
        blocks = list(writable())
        wanted = np.unique(((others - row()) ** 2).sum(axis=1)).astype(np.uint32)
        words = [np.frombuffer(block, "<u4", count=len(block) // 4) for block in blocks]
        found = len(np.unique(np.concatenate([each[np.isin(each, wanted)] for each in words])))
        os.write(into, bytes([found]))
        os._exit(0)
    os.close(into)
    with open(out, "rb") as pipe:
        found = pipe.read()[0]
    os.waitpid(child, 0)
    return found


def writable() -> Iterator[bytes]:
    """Copies of all writable memory."""
    with open("/proc/self/maps") as maps, open("/proc/self/mem", "rb", 0) as memory:
        for line in maps.readlines():
            match = re.match(r"(\w+)-(\w+) rw", line)
            if match is not None and "[v" not in line:
                yield readable(memory, int(match[1], 16), int(match[2], 16))


def main(scenario: str) -> None:
    """Print the path that the removal took, and the counts before and after it."""
    rng = np.random.default_rng(5)
    X = rng.integers(-1000, 1000, size=(2000, DIM)) / 8192.0
    X[:, 0] = 0.9
    names = [f"row-{i}" for i in range(len(X))]
    victim, exponent = 123, 1
    if scenario == "rescaled":
        X[victim] *= 2
        exponent = 2
    model = QKMeans(n_clusters=4, **SETTINGS[scenario]).fit(X, ids=names)
    if scenario == "reseeded":
        victim = names.index(str(model._model.seeds()[1]))
    # What the core keeps of the row, as two parts that show nothing of it each.
    mask = rng.integers(-30000, 30000, size=DIM)
    rest = np.rint(X[victim] * 2.0 ** (14 - exponent)).astype(np.int64) - mask
    name = names[victim]
    proposed = {str(id_) for ids in model._model.proposals() for id_ in ids} - {name}
    others = np.rint(X[[names.index(id_) for id_ in sorted(proposed)]] * 2.0 ** (14 - exponent)).astype(np.int64)
    if scenario == "digested":
        model.digest()
    if scenario in ("grown", "pushed off the panel"):
        model.add(rng.integers(-1000, 1000, size=(5000, DIM)) / 8192.0, ids=[f"more-{i}" for i in range(5000)])
    if scenario in ("loaded", "saved"):
        with tempfile.TemporaryDirectory() as folder:
            model.save(f"{folder}/model")
            if scenario == "loaded":
                model = QKMeans.load(f"{folder}/model")
    del X, names
    gc.collect()

    def count() -> int:
        row = rest + mask
        found = occurrences(row)
        row[:] = 0
        return found

    before, distances = count(), distances_found(lambda: rest + mask, others)
    report = model.remove(list(model.ids_) if scenario == "emptied" else name)
    gc.collect()
    print(report.path, before, count(), distances, distances_found(lambda: rest + mask, others))


if __name__ == "__main__":
    main(sys.argv[1])
