"""A task: examples to adapt to, questions about them, and the options of an answer. Loading is left to `loading`."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Literal, TypeVar

import numpy as np
from numpy.typing import NDArray

from erase_core.examples.example import Example
from erase_core.llm.prompt import Template

__all__ = ["Scale", "Task", "TaskReport", "labels_of"]

Scores = NDArray[np.float64]
Raw = TypeVar("Raw", float, NDArray[np.float64])


@dataclass(frozen=True)
class Scale:
    """The raw scores that become 0 and 100 (BIG-bench: Srivastava et al., TMLR 2023, normalised aggregate score).

    Parameters
    ----------
    low, high : float, default=0.0, 1.0
    source : {"file", "chance"}, default="chance"
        Where they are from. "file": the task's own ``low_score`` and ``high_score``. "chance": the accuracy of a guess
        among the options, and 1.
    """

    low: float = 0.0
    high: float = 1.0
    source: Literal["file", "chance"] = "chance"

    def normalised(self, raw: Raw) -> Raw:
        """Return 100 (raw - low) / (high - low). It is below 0 for a raw score below `low`."""
        return 100 * (raw - self.low) / (self.high - self.low)


@dataclass(frozen=True)
class TaskReport:
    """How a task was made from its source.

    Parameters
    ----------
    n_read : int
        Examples of the source, bad rows left out.
    n_repeated : int
        Examples whose input stands earlier, left out.
    n_twins : int
        Examples that have a near twin: see `near_twins`.
    n_groups : int
        Groups of two or more near twins, each wholly in the pool or wholly in the test.
    largest_group : int
        Examples of the largest group, 1 if there are no twins.
    n_left_out : int
        Questions that were left out since the pool has a near twin of theirs. 0 unless the questions are from a file of
        their own.
    n_unused : int
        Examples beyond the limits of pool and test.
    notes : tuple of str
        What the reader noted.
    """

    n_read: int
    n_repeated: int = 0
    n_twins: int = 0
    n_groups: int = 0
    largest_group: int = 1
    n_left_out: int = 0
    n_unused: int = 0
    notes: tuple[str, ...] = ()


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
    scale : Scale, default=Scale()
        How an accuracy is normalised.
    report : TaskReport or None, default=None
        How it was made from a source.
    """

    name: str
    pool: tuple[Example, ...]
    test: tuple[Example, ...]
    options: tuple[str, ...]
    template: Template
    scale: Scale = Scale()
    report: TaskReport | None = None

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
