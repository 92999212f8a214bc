"""Forget sets: which examples a peer has to forget, at random or all those of some subjects, keyed by a seed.

Draws are the smallest keyed hashes. So sets of one seed are nested: a larger one has all of a smaller one. Sets that
are chosen to be hard are left to `attacks.worst_forget_sets`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from typing import TypeVar

from erase_core import checks
from erase_core.errors import ParameterError
from erase_core.evaluate.tasks.world import World

__all__ = ["at_random", "by_subject"]

T = TypeVar("T", int, str)


def at_random(world: World, n: int, seed: int) -> tuple[int, ...]:
    """Return the ids of `n` examples that are drawn from a world, ascending.

    Parameters
    ----------
    world : World
    n : int
        From 1 to one less than all: an empty world answers nothing.
    seed : int
        Independent of the world's, which is that of the peers.

    Raises
    ------
    ParameterError
        `n` or `seed` is out of range.
    """
    checks.integer("n", n, 1, len(world.ids) - 1)
    return tuple(sorted(_drawn(world.ids, n, seed, "example")))


def by_subject(world: World, n: int, seed: int) -> tuple[int, ...]:
    """Return the ids of all examples that are about one of `n` subjects that are drawn from a world, ascending.

    Parameters
    ----------
    world : World
    n : int
        Subjects, from 1 to all; but some examples must be left.
    seed : int

    Raises
    ------
    ParameterError
        No example has a subject, `n` or `seed` is out of range, or nothing would be left.
    """
    subjects = {e.subject for e in world.examples if e.subject is not None}
    if not subjects:
        raise ParameterError(
            f"the examples of {world.task.name} have no subjects, so none can be forgotten. Draw forget sets at "
            "random, or give examples with a field 'subject'."
        )
    checks.integer("n", n, 1, len(subjects))
    drawn = set(_drawn(subjects, n, seed, "subject"))
    ids = tuple(sorted(e.id for e in world.examples if e.subject in drawn and isinstance(e.id, int)))
    if len(ids) == len(world.ids):
        raise ParameterError(f"n must leave examples, got {n}, which takes all {len(ids)} of {world.task.name}")
    return ids


def _drawn(values: Iterable[T], n: int, seed: int, purpose: str) -> list[T]:
    key = f"erase-core forget {checks.seed(seed)} {purpose}".encode()

    def draw(value: T) -> bytes:
        return hashlib.blake2b(str(value).encode(), key=key, digest_size=16).digest()

    return sorted(values, key=draw)[:n]
