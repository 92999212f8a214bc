"""Forget sets: a function of world and seed, nested, and whole subjects."""

from __future__ import annotations

import pytest
from erase_core.errors import ParameterError
from erase_core.evaluate.tasks.forget_sets import at_random, by_subject
from erase_core.evaluate.tasks.task import Task
from erase_core.evaluate.tasks.world import World
from erase_core.examples.example import Example
from erase_core.llm.prompt import Template
from hypothesis import given
from hypothesis import strategies as st

SUBJECTS = (None, "ann", "bob", "cem", "dua")


def world(n: int, subjects: tuple[str | None, ...] = SUBJECTS) -> World:
    pool = tuple(Example(i, f"question {i}", "yes", subject=subjects[i % len(subjects)]) for i in range(n))
    return World(Task("some", pool, pool[:1], ("yes", "no"), Template()), tuple(range(n)), 0)


@given(n=st.integers(1, 29), seed=st.integers(0, 2**64 - 1))
def test_random_sets_are_reproducible_nested_and_keyed(n: int, seed: int) -> None:
    drawn = at_random(world(30), n, seed)
    assert drawn == at_random(world(30), n, seed)
    assert len(set(drawn)) == n
    assert n == 29 or set(drawn) < set(at_random(world(30), n + 1, seed))
    # An example that was not drawn changes nothing when it goes.
    other = next(i for i in range(30) if i not in drawn)
    assert n == 29 or at_random(world(30).without([other]), n, seed) == drawn


def test_every_example_is_drawn_equally_often() -> None:
    n = 2000
    counts = [0] * 20
    for seed in range(n):
        for id_ in at_random(world(20), 5, seed):
            counts[id_] += 1
    spread = (n * 0.25 * 0.75) ** 0.5
    assert all(abs(count - n / 4) < 5 * spread for count in counts)


@given(n=st.integers(1, 4), seed=st.integers(0, 2**64 - 1))
def test_a_subject_goes_as_a_whole(n: int, seed: int) -> None:
    gone = set(by_subject(world(33), n, seed))
    of = {e.id: e.subject for e in world(33).examples}
    subjects = {of[id_] for id_ in gone}
    assert len(subjects) == n
    assert gone == {id_ for id_, subject in of.items() if subject in subjects}
    assert n == 4 or gone < set(by_subject(world(33), n + 1, seed))


def test_what_cannot_be_drawn_is_refused() -> None:
    with pytest.raises(ParameterError, match="have no subjects"):
        by_subject(world(10, (None,)), 1, 0)
    with pytest.raises(ParameterError, match="leave examples"):
        by_subject(world(10, ("ann", "bob")), 2, 0)
    for n in (0, 10):
        with pytest.raises(ParameterError, match="n must be"):
            at_random(world(10), n, 0)
