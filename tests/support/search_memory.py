"""Fits a model, removes one row, and counts how often that row is found in the process's memory, before and after.

A program of its own, run by test_erasure.py: other tests' memory would be searched too. The row is looked for as the
16-bit integers that the core keeps, in either of its layouts; it is never assembled here except while searching.
"""

from __future__ import annotations

import gc
import re
import sys
import tempfile
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
    with open("/proc/self/maps") as maps, open("/proc/self/mem", "rb", 0) as memory:
        for line in maps:
            match = re.match(r"(\w+)-(\w+) rw", line)
            if match is None or "[v" in line:
                continue
            start, end = (int(address, 16) for address in match.groups())
            block = readable(memory, start, end)
            # A plain row may begin at any even address, one in a block at any multiple of 4.
            for offset, stride in ((0, 1), (2, 1), (0, LANES)):
                words = np.frombuffer(block, "<u4", offset=offset, count=(len(block) - offset) // 4)
                starts = np.flatnonzero(words[: max(0, len(words) - (count - 1) * stride)] == pair(0))
                for i in range(1, count):
                    starts = starts[words[starts + i * stride] == pair(i)]
                found += len(starts)
            del block
    return found


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

    before = count()
    report = model.remove(list(model.ids_) if scenario == "emptied" else name)
    gc.collect()
    print(report.path, before, count())


if __name__ == "__main__":
    main(sys.argv[1])
