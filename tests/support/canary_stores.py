"""A store whose examples have texts that are nowhere else, for the laws of what holds a removed text."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from erase_core.erase import Erase
from erase_core.examples.example import Example
from reachable import canary, renew_canaries
from small_stores import WordEmbedder

COUNT = 6
GONE = "ann"


class UnrecordedEmbedder(WordEmbedder):
    """An embedder that keeps none of the texts, and does not see the words that differ from run to run."""

    def _vector(self, text: str) -> Any:
        vector = super()._vector(" ".join(word for word in text.split() if not word.startswith("canary-")))
        self.texts.clear()
        return vector

    def __reduce__(self) -> Any:
        return type(self), ()


def query(number: int) -> str:
    """What is asked to get an example: all its words but the one that is nowhere else."""
    return f"where is parcel number {number}"


def canary_store(path: Path, **settings: Any) -> Erase:
    """A store whose demonstrations for `query(0)` begin or end with the example of the subject `GONE`.

    Its input and output both have the word `canary(0)`, and those of the others `canary(1)` and so on. Each store has
    words of its own, so ask for them when it is made.
    """
    renew_canaries()
    erase = Erase.create(path, **{"n_shots": 2, "embedder": UnrecordedEmbedder(), **settings})
    erase.ingest(
        [
            Example(i, f"{query(i)} {canary(i)}", f"answer {i} {canary(i)}", subject=GONE if i == 0 else f"subject {i}")
            for i in range(COUNT)
        ]
    )
    return erase
