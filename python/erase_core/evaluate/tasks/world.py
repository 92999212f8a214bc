"""A world: the examples of a task that exist in it, and a seed. A peer is fitted to a world."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from erase_core.evaluate.tasks.task import Task
from erase_core.examples.example import Example

__all__ = ["World"]


@dataclass(frozen=True)
class World:
    """What a peer is fitted to: some examples of a task, and a seed.

    Parameters
    ----------
    task : Task
    ids : tuple of int
        The examples of the pool that exist in this world.
    seed : int
        Of all that the peer draws.
    """

    task: Task
    ids: tuple[int, ...]
    seed: int

    @property
    def examples(self) -> list[Example]:
        """The examples of this world, in the order of the pool."""
        return self.task.examples(self.ids)

    def without(self, ids: Collection[int]) -> World:
        """Return the world that never had some examples."""
        gone = set(ids)
        return World(self.task, tuple(id_ for id_ in self.ids if id_ not in gone), self.seed)
