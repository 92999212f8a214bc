"""Fits a model whose rows are in two shards, removes one row, and counts how often it is in the process's memory.

A program of its own, run by test_erasure.py, like search_memory.py. What Python holds of a message belongs to the
engine that carries it. Here it is overwritten after use, so that only the core's copies are left to be found.
"""

from __future__ import annotations

import ctypes
import gc
import sys

import numpy as np
from erase_core._core import Coordinator, Shard, merge_parts
from search_memory import DIM, occurrences

PANEL = 200


def overwrite(message: bytes) -> None:
    """Overwrite a message in place."""
    ctypes.memset(id(message) + bytes.__basicsize__ - 1, 0, len(message))


def main(where: str) -> None:
    """Print whether the centres moved, and the counts before and after the removal."""
    rng = np.random.default_rng(5)
    X = rng.integers(-1000, 1000, size=(2000, DIM)) / 8192.0
    X[:, 0] = 0.9
    model = Coordinator(
        DIM, n_clusters=4, epsilon=(1, 1000), gamma=(1, 5), max_iter=5, panel=PANEL, projection=None, max_norm=2.0,
        center=None, seed=0, n_threads=1, cache_bytes=None,
    )  # fmt: skip
    shards = [Shard(model.parameters(), 1, None) for _ in range(2)]
    for number, shard in enumerate(shards):
        shard.add(np.ascontiguousarray(X[number::2]), list(range(number, 2000, 2)))
    candidates = [shard.smallest(None, PANEL) for shard in shards]
    model.fit(candidates, merge_parts([shard.part() for shard in shards]))
    for message in candidates:
        overwrite(message)
    for shard in shards:
        shard.assign(model.frame_message())
    model.complete(merge_parts([shard.part() for shard in shards]))
    panel = set(model.panel_ids())
    victim = next(i for i in range(2000) if (i in panel) == (where == "on the panel"))
    # The row as two parts that show nothing of it each.
    mask = rng.integers(-30000, 30000, size=DIM)
    rest = np.rint(X[victim] * 2.0**13).astype(np.int64) - mask
    if where == "moved":
        message = shards[victim % 2].rows_of([victim])
        shards[victim % 2].remove([victim])
        shards[1 - victim % 2].take(message)
        overwrite(message)
    del X, candidates, message
    gc.collect()

    def count() -> int:
        row = rest + mask
        found = occurrences(row)
        row[:] = 0
        return found

    before = count()
    mark, leaving = model.mark(), model.on_panel([victim])
    for shard in shards:
        shard.remove([victim])
    more = [shard.smallest(mark, len(leaving)) for shard in shards]
    _, moved = model.exchange([victim], more, merge_parts([shard.part() for shard in shards]))
    if moved:
        for shard in shards:
            shard.assign(model.frame_message())
        model.complete(merge_parts([shard.part() for shard in shards]))
    gc.collect()
    print(moved, before, count())


if __name__ == "__main__":
    main(sys.argv[1])
