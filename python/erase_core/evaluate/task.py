"""A task: examples to adapt to, questions about them, and the options of an answer."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from erase_core.examples.example import Example
from erase_core.llm.prompt import Template

__all__ = ["Task", "labels_of"]

Scores = NDArray[np.float64]


@dataclass(frozen=True)
class Task:
    """Examples and questions with one fixed set of options.

    Parameters
    ----------
    name : str
    pool : tuple of Example
        What can be adapted to. The ids are unique integers.
    test : tuple of Example
        Questions with their answers. None is in the pool, nor a near twin of an example of the pool.
    options : tuple of str
        Each example's output is one of them.
    template : Template
    """

    name: str
    pool: tuple[Example, ...]
    test: tuple[Example, ...]
    options: tuple[str, ...]
    template: Template

    def examples(self, ids: Collection[int]) -> list[Example]:
        """Return the examples of the pool with these ids, in the order of the pool."""
        wanted = set(ids)
        return [example for example in self.pool if example.id in wanted]

    def labels(self, examples: Sequence[Example]) -> NDArray[np.int64]:
        """Return the place of each example's output among the options, shape (n,)."""
        return labels_of(examples, self.options)


def labels_of(examples: Sequence[Example], options: Sequence[str]) -> NDArray[np.int64]:
    """Return the place of each example's output among some options, shape (n,)."""
    places = {option: place for place, option in enumerate(options)}
    return np.array([places[example.output] for example in examples], dtype=np.int64)
