"""What lay in a store before each step of a run that nobody stopped: keys and sealed rows, as if copies had been made.

Every run draws the same random numbers in the same order (crash_server.py). So another run has, up to the step in which
it was stopped, the same keys in the same slots, and these copies are copies of its own past.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

from canaries import Search
from crash_workload import KEYS_OF_STATES, USER_KEYS
from sealed_by_hand import DATABASE, KEYS, TOKENS, SealedRow, Slot, key_forms, openable, rows_in, slots_in, store_in


class Moment(NamedTuple):
    """A store between two steps: its keys by slots, and its rows."""

    keys: dict[int, Slot]
    rows: list[SealedRow]

    @property
    def slots(self) -> set[int]:
        """The slots in which keys belong."""
        return {TOKENS, *(row.slot for row in self.rows)}


class Trace(NamedTuple):
    """What of a key was found in a file: which key, as kept in which slot or as it is, in which form and file."""

    slot: int
    value: bytes
    form: str
    file: str

    def __str__(self) -> str:
        return f"key {self.slot} in {self.form} in {self.file}"


class Film:
    """The moments before each step and after the last, from copies of the folder: none where there was no store."""

    def __init__(self, folder: Path) -> None:
        copies = [folder / str(number) / "store" for number in range(len(KEYS_OF_STATES))]
        self.moments = [
            Moment(slots_in((copy / KEYS).read_bytes(), USER_KEYS[number]), rows_in(copy / DATABASE))
            if (copy / KEYS).exists()
            else Moment({}, [])
            for copy, number in zip(copies, KEYS_OF_STATES, strict=True)
        ]
        self.store = store_in((copies[-1] / KEYS).read_bytes())
        self._search = Search()
        self._of_bytes = functools.lru_cache(maxsize=64)(self._search.of_bytes)
        for slot, value in {each for moment in self.moments for each in values_of(moment.keys)}:
            self._search.add(f"{slot} {value.hex()}", key_forms(value))

    def keys_in(self, files: dict[str, bytes], until: int) -> Iterator[Trace]:
        """Every key up to a moment that is found in files, as it was kept, and as it was."""
        known = {each for moment in self.moments[: until + 1] for each in values_of(moment.keys)}
        for file, content in files.items():
            for id_, form, _ in sorted(self._of_bytes(content)):
                slot, value = id_.split()
                if (int(slot), bytes.fromhex(value)) in known:
                    yield Trace(int(slot), bytes.fromhex(value), form, file)

    def opens(self, keys: dict[int, Slot], present: Iterable[int], until: int) -> list[str]:
        """Rows of copies up to a moment that can be opened with the keys that are left, and are not in the store."""
        there = {*present}
        rows = {row for moment in self.moments[: until + 1] for row in moment.rows if row.slot not in there}
        found = openable(sorted(rows), keys, self.store)
        return [f"the row that was in slot {row} opens with key {key}" for row, key in found]


def values_of(keys: dict[int, Slot]) -> set[tuple[int, bytes]]:
    """All that must not be found of keys when they are destroyed: what was kept of them, and what they were."""
    return {(slot, value) for slot, each in keys.items() for value in each}
