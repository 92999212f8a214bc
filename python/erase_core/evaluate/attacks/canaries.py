"""Canaries: made-up examples with random answers, put into a pool to measure what a model remembers of an example.

Nothing but having seen a canary helps to know its answer. As many are made that no world has: members and others are of
one distribution, so a model that never saw either has an area of 0.5 in expectation.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from erase_core.evaluate.tasks.task import Task
from erase_core.examples.example import Example

__all__ = ["Canaries", "with_canaries"]

CONSONANTS, VOWELS = "bdfgklmnprstvz", "aeiou"


@dataclass(frozen=True)
class Canaries:
    """A task with canaries in its pool, and canaries that are not.

    Parameters
    ----------
    task : Task
        The pool's examples, and after them the inserted canaries.
    inserted : tuple of int
        Their ids.
    held_out : tuple of Example
        As many that no world has, with ids that are not in the pool.
    """

    task: Task
    inserted: tuple[int, ...]
    held_out: tuple[Example, ...]


def with_canaries(task: Task, n: int, seed: int, *, n_words: int = 6) -> Canaries:
    """Put canaries into the pool of a task.

    Parameters
    ----------
    task : Task
        Its ids are integers.
    n : int
        Number of canaries to insert, 1 or more. As many are held out.
    seed : int
    n_words : int, default=6
        Words of a canary's question, each of three random syllables.
    """
    draws = np.random.default_rng(seed)
    first = max((int(example.id) for example in task.pool), default=0) + 1
    inputs: dict[str, None] = {}
    while len(inputs) < 2 * n:  # no two are equal
        inputs[" ".join(_word(draws) for _ in range(n_words)) + "?"] = None
    answers = draws.integers(len(task.options), size=2 * n)
    made = tuple(
        Example(first + place, text, task.options[answer])
        for place, (text, answer) in enumerate(zip(inputs, answers, strict=True))
    )
    inserted, held_out = made[:n], made[n:]
    return Canaries(
        replace(task, pool=(*task.pool, *inserted)), tuple(int(example.id) for example in inserted), held_out
    )


def _word(draws: np.random.Generator) -> str:
    return "".join(letters[draws.integers(len(letters))] for _ in range(3) for letters in (CONSONANTS, VOWELS))
