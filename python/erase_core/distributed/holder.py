"""What runs on a worker: it reads its parts, and holds their rows in a shard. It knows nothing of engines."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple, cast

import numpy as np
from numpy.typing import NDArray

from erase_core._core import Shard, __version__, read_part
from erase_core.checks import MAX_ID, MIN_ID
from erase_core.distributed.parts import Batch, Ids, Measure, Part
from erase_core.errors import EraseError, PartError

__all__ = ["Change", "Holder", "Loaded"]

Id = int | str


class Loaded(NamedTuple):
    """Rows that were taken in: how many, a hash of them if the shard is hashed, the smallest and largest integer id."""

    n_rows: int
    row_hash: bytes
    least: int | None
    largest: int | None


class Change(NamedTuple):
    """What a change of the rows did to a shard: ids removed, candidates for the panel, and its part, if it changed."""

    removed: Ids
    candidates: list[bytes]
    part: bytes | None


class Holder:
    """The rows of one shard. Every call can be repeated: done twice, it does what it does once."""

    def __init__(self) -> None:
        # Since `open`.
        self._shard: Shard
        self._parameters: bytes
        self._n_features: int
        self._limits: tuple[int | None, int | None]
        # Ids that parts still have, by the number of the first part that may have them.
        self._gone: Mapping[Id, int] = {}
        # What came in since `begin`.
        self._added: list[Any] = []
        self._keys: NDArray[np.uint64] | None = None

    def ping(self) -> None:
        """Answer."""

    def open(self, parameters: bytes, n_features: int, limits: tuple[int | None, int | None]) -> str:
        """Make an empty shard, and return the version of this package."""
        self._parameters, self._n_features, self._limits = parameters, n_features, limits
        self._shard = Shard(parameters, *limits)
        # Whether the hash of the rows is known, and follows each row. To compute it takes as long as a fit.
        self._is_hashed = False
        return __version__

    # ---- rows come in ----
    @staticmethod
    def measure(part: Part) -> Measure:
        """Return the measure of a part."""
        return part.measure()

    def begin(self, gone: Mapping[Id, int], expected: int) -> None:
        """Note that parts will be loaded.

        Parameters
        ----------
        gone : mapping of int or str to int
            The ids that were removed, each with the number of the next part at the time.
        expected : int
            How many rows the parts may have, as far as is known. Memory for them is taken at once.
        """
        self._gone = gone
        self._added = []
        self._shard.expect(expected)

    def load(self, number: int, part: Part, first: int | None) -> Loaded:
        """Read a part, and take in its rows but for those that were removed."""
        return self._take_all(number, part.name, part.read(first))

    def take(self, number: int, name: str, ids: Ids, rows: NDArray[np.floating]) -> Loaded:
        """Take in rows that were given as an array."""
        return self._take_all(number, name, iter([(ids, rows)]))

    def _take_all(self, number: int, name: str, batches: Iterator[Batch]) -> Loaded:
        n_rows, least, largest = 0, MAX_ID, MIN_ID
        before = _row_hash(self._shard) if self._is_hashed else None
        for given, floats in batches:
            ids, rows = self._without_gone(number, given or [], floats)
            if len(rows) == 0:
                continue
            self._take_in(self._shard, name, ids, rows)
            self._added += ids
            n_rows += len(rows)
            if isinstance(ids[0], int):
                least, largest = min(least, *ids), max(largest, *ids)
        change = None if before is None else hashlib.sha256((_row_hash(self._shard) - before).tobytes()).digest()
        return Loaded(n_rows, change or b"", *((least, largest) if least <= largest else (None, None)))

    def _take_in(self, shard: Shard, name: str, ids: Ids, rows: NDArray[np.floating]) -> None:
        if rows.shape[1] != self._n_features:
            raise PartError(f"{name}: its rows have {rows.shape[1]} numbers, those of the model {self._n_features}")
        try:
            shard.add(cast("NDArray[np.float64]", rows), ids)
        except EraseError as error:
            raise type(error)(f"{name}: {error}") from None

    def hash_of(self, part: Part, first: int | None) -> bytes:
        """Return the hash of all rows that a part has, removed or not, without keeping them."""
        shard = Shard(self._parameters, *self._limits)
        before = _row_hash(shard)
        for ids, rows in part.read(first):
            if len(rows):
                self._take_in(shard, part.name, ids or [], rows)
        return hashlib.sha256((_row_hash(shard) - before).tobytes()).digest()

    def _without_gone(self, number: int, ids: Ids, rows: NDArray[np.floating]) -> tuple[Ids, NDArray[np.floating]]:
        if not self._gone:
            return ids, rows
        gone: Mapping[Any, int] = self._gone
        kept = [at for at, id_ in enumerate(ids) if gone.get(id_, -1) <= number]
        if len(kept) == len(ids):
            return ids, rows
        return [ids[at] for at in kept], np.ascontiguousarray(rows[kept])  # type: ignore[return-value]

    def added(self) -> NDArray[np.int64] | list[str]:
        """Return the ids that came in since `begin`."""
        if self._added and isinstance(self._added[0], int):
            return np.array(self._added, dtype=np.int64)
        return list(self._added)

    def undo(self, centres: bytes | None) -> None:
        """Take out what came in since `begin`, and assign the rows to the model's centres again if that ended it."""
        if self._added:
            self._shard.remove(self._added)
        self._added = []
        if centres is not None:
            self._shard.assign(centres)

    def settle(self) -> None:
        """Keep what came in."""
        self._added, self._gone = [], {}

    # ---- what the coordinator needs ----
    def smallest(self, count: int) -> tuple[bytes, bytes]:
        """Return the rows of smallest place, and the part."""
        return self._shard.smallest(None, count), self._shard.part(row_hash=False)

    def change(self, leaving: Ids, mark: bytes | None, n_places: int, again: bool) -> Change:
        """Remove those of these rows that are here.

        Parameters
        ----------
        leaving : list of int or str
        mark : bytes or None
            Where the panel ends. None: all rows that came in belong on it.
        n_places : int
            How many rows behind the mark are wanted, for the places of rows that leave the panel.
        again : bool
            Whether the part is wanted even if nothing changed, because an earlier call may have changed it.
        """
        removed = self._shard.remove(leaving) if leaving else []
        candidates = []
        if self._added:
            candidates.append(self._shard.candidates(self._added, mark))
        if n_places:
            candidates.append(self._shard.smallest(mark, n_places))
        is_changed = removed or self._added or again
        return Change(removed, candidates, self._shard.part(row_hash=False) if is_changed else None)

    def assign(self, centres: bytes) -> bytes:
        """Assign the rows to centres, and return the part."""
        self._shard.assign(centres)
        return self._shard.part(row_hash=False)

    def hash(self) -> None:
        """Hash the rows. The hash is kept up to date from here on."""
        self.hashed()

    def hashed(self) -> bytes:
        """Return the part with the hash of the rows, which is kept up to date from here on."""
        self._is_hashed = True
        return self._shard.part()

    def part(self, nearest: int) -> bytes:
        """Return the part, with so many nearest rows of each cluster."""
        return self._shard.part(nearest, row_hash=False)

    # ---- questions ----
    def has(self, ids: Ids) -> list[bool]:
        """Return for each id whether its row is here."""
        return self._shard.has(ids)

    def labels(self, ids: Ids) -> list[tuple[int, int]]:
        """Return the clusters of those of these rows that are here, each with the position of its id."""
        here = [at for at, is_here in enumerate(self._shard.has(ids)) if is_here]
        if not here:
            return []
        return list(zip(here, self._shard.labels([ids[at] for at in here]).tolist(), strict=True))  # type: ignore[arg-type]

    def largest(self) -> int | None:
        """Return the largest id, if ids are integers and there are any."""
        ids = self._shard.ids()
        return int(ids[-1]) if isinstance(ids, np.ndarray) and len(ids) else None

    def rows(self, start: int, stop: int) -> bytes:
        """Return rows by position, for `gather`."""
        return self._shard.rows(start, stop)

    # ---- ids that two shards have ----
    def sort_keys(self) -> int:
        """Make a 64-bit key of every id, in order, and return how many there are."""
        self._keys = np.sort(keys_of(self._shard.ids()))
        return len(self._keys)

    def keys(self, window: int, windows: int) -> NDArray[np.uint64]:
        """Return the keys in one of so many equal windows of their range."""
        assert self._keys is not None
        first, last = (np.uint64(2**64 * at // windows - (at == windows)) for at in (window, window + 1))
        start = np.searchsorted(self._keys, first, "left")
        stop = np.searchsorted(self._keys, last, "right" if window + 1 == windows else "left")
        return self._keys[start:stop]

    def drop_keys(self) -> None:
        """Free the keys."""
        self._keys = None

    def ids_with(self, keys: NDArray[np.uint64]) -> list[Id]:
        """Return the ids that have one of these keys."""
        ids = self._shard.ids()
        found = np.flatnonzero(np.isin(keys_of(ids), keys))
        return [ids[at] if isinstance(ids, list) else int(ids[at]) for at in found.tolist()]


def _row_hash(shard: Shard) -> NDArray[np.uint16]:
    return np.frombuffer(read_part(shard.part())["row_hash"] or b"", dtype="<u2")


def keys_of(ids: NDArray[np.int64] | list[str]) -> NDArray[np.uint64]:
    """Return a key for each id: distinct for distinct integers, and nearly always for distinct strings."""
    if isinstance(ids, list):
        hashes = b"".join(hashlib.blake2b(each.encode(), digest_size=8).digest() for each in ids)
        return np.frombuffer(hashes, dtype="<u8").astype(np.uint64)
    # splitmix64, a permutation of the 64-bit numbers: consecutive ids spread over all windows.
    keys = np.asarray(ids, dtype=np.int64).view(np.uint64).copy()
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
        keys = (keys ^ (keys >> np.uint64(shift))) * np.uint64(factor)
    return keys ^ (keys >> np.uint64(31))
