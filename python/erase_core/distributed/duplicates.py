"""Ids that two shards have: each shard finds its own. Ids of different shards are compared here, in bounded memory."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from itertools import pairwise

import numpy as np

from erase_core.distributed.holder import Id
from erase_core.distributed.shards import Shards
from erase_core.errors import DuplicateIdError

__all__ = ["check_added", "check_all"]

# Keys of ids that are compared at once, of all shards together; and ids that are asked for at once.
WINDOW, BATCH = 2**20, 2**16
SHOWN = 5


def check_all(shards: Shards, n_rows: int) -> None:
    """Check that no two shards have the same id.

    If the ids of parts are integers in ranges that do not overlap, the ranges show it. Otherwise the shards send 64-bit
    keys of their ids, one window of the keys' range after the other.

    Raises
    ------
    DuplicateIdError
        The message names some of the ids.
    """
    if len(shards.records) < 2 or _are_apart(shards):
        return
    shards.ask("sort_keys")
    windows = max(1, -(-n_rows // WINDOW))
    for window in range(windows):
        keys = np.sort(np.concatenate(shards.ask("keys", window, windows)))
        twice = np.unique(keys[1:][keys[1:] == keys[:-1]])
        if len(twice):
            found = Counter(id_ for ids in shards.ask("ids_with", twice[:SHOWN]) for id_ in ids)
            # Two strings may have the same key.
            _refuse(id_ for id_, count in found.items() if count > 1)
    shards.ask("drop_keys")


def _are_apart(shards: Shards) -> bool:
    """Whether each part has integer ids in a range of its own."""
    loaded = [each for each in shards.loaded if each is not None and each.n_rows]
    ranges = sorted(
        (each.least, each.largest) for each in loaded if each.least is not None and each.largest is not None
    )
    apart = all(before[1] < after[0] for before, after in pairwise(ranges))
    return len(ranges) == len(loaded) and apart


def check_added(shards: Shards) -> None:
    """Check that ids which just came in are at one shard only.

    Raises
    ------
    DuplicateIdError
    """
    if len(shards.records) < 2:
        return
    added = [[*each] for each in shards.ask("added")]
    count = Counter(id_ if isinstance(id_, str) else int(id_) for ids in added for id_ in ids)
    _refuse(id_ for id_, times in count.items() if times > 1)
    ids = list(count)
    for start in range(0, len(ids), BATCH):
        batch = ids[start : start + BATCH]
        here = np.sum(shards.ask("has", batch), axis=0)
        _refuse(id_ for id_, times in zip(batch, here, strict=True) if times > 1)


def _refuse(ids: Iterable[Id]) -> None:
    twice = sorted(ids, key=str)
    if twice:
        shown = ", ".join(repr(id_) for id_ in twice[:SHOWN])
        more = f" and {len(twice) - SHOWN} more" if len(twice) > SHOWN else ""
        raise DuplicateIdError(f"ids are given twice, in different parts: {shown}{more}")
