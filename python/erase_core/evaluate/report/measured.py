"""The finished cells of a folder, by peer: what all tables are made from."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from erase_core.evaluate.measures.distance import bits_equal
from erase_core.evaluate.running.plan import Record

__all__ = ["Answers", "Measured", "same_bits"]

# The scores of each part: a row for each question.
Answers = Mapping[str, Sequence[Sequence[float]]]


def same_bits(ours: Answers, theirs: Answers) -> bool:
    """Whether the scores of all parts, of which both have the same, have equal bits."""
    return ours.keys() == theirs.keys() and all(
        bits_equal(np.array(ours[part]), np.array(theirs[part])) for part in ours
    )


class Measured:
    """The finished cells of a folder, by peer.

    Parameters
    ----------
    setting : mapping
        What `Folder.setting` has.
    records : sequence of Record
    """

    def __init__(self, setting: Mapping[str, Any], records: Sequence[Record]) -> None:
        self.setting = setting
        self._of: dict[tuple[str, str], dict[int, Record]] = {}
        self.failed: dict[str, str] = {}
        """Why a cell of a peer failed: of one of them."""
        for record in records:
            if record["status"] == "measured":
                self._of.setdefault((record["what"], record["peer"]), {})[record["seed"]] = record
            else:
                self.failed[record["peer"]] = record["why"]

    def peer(self, name: str) -> dict[int, Record]:
        """Return the cells of a peer that was made to forget, by seed."""
        return dict(sorted(self._of.get(("peer", name), {}).items()))

    def fresh(self, name: str) -> dict[int, Record]:
        """Return the cells of a peer that never had the forgotten examples, by seed."""
        return dict(sorted(self._of.get(("fresh", name), {}).items()))

    def names(self) -> set[str]:
        """Return the names of all peers of which there is a cell, finished or failed."""
        return {name for _, name in self._of} | self.failed.keys()

    def worst(self, name: str) -> Record | None:
        """Return the cell of the worst case of a peer."""
        return self._of.get(("worst", name), {}).get(0)

    def shadows(self, name: str) -> Record | None:
        """Return the cell of the attack with shadow worlds on a peer."""
        return self._of.get(("shadows", name), {}).get(0)

    def correct(self, name: str, state: str, part: str) -> NDArray[np.bool_]:
        """Return whether each question of a part is answered rightly, shape (n_seeds, n_questions)."""
        labels = np.array(self.setting["labels"][part])
        every = [np.array(record[state][part]) for record in self.peer(name).values()]
        return np.array([scores.argmax(axis=1) == labels for scores in every])

    def costs(self, name: str, of: Callable[[Record], Sequence[Mapping[str, float]]], field: str) -> list[float]:
        """Return a field of some costs of all seeds."""
        return [cost[field] for record in self.peer(name).values() for cost in of(record)]
