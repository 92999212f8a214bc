"""Loads a task: the packaged support desk, a BIG-bench task, or anybody's examples, split into a pool and a test.

What stands where is a function of texts. A group of near twins is wholly on one side, which keyed hashes decide: one
chooses a member of the group, another decides by that member's input. So adding or removing an example moves no other
across the split, except near twins of its own, if it is the chosen member or the only link between two groups.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from erase_core import checks
from erase_core.errors import ParameterError, SourceError
from erase_core.evaluate.tasks.near_twins import THRESHOLD, groups_of, near_twins
from erase_core.evaluate.tasks.task import Scale, Task, TaskReport
from erase_core.examples.content import content_of
from erase_core.examples.example import Example, Reading, counted
from erase_core.examples.reading import read_examples
from erase_core.llm.prompt import Template

__all__ = ["SUPPORT_DESK", "Limits", "distinct", "load_task", "template_of"]

DEMO = Path(__file__).parents[2] / "demo"
SUPPORT_DESK = "support desk"
# The fewest examples of a pool, and the fewest questions of a test.
FEWEST = 8
# More different answers than these, or fewer than four examples for each, are free text.
MOST_OPTIONS = 64
EXAMPLES_OF_OPTION = 4


@dataclass(frozen=True)
class Limits:
    """How a source is split.

    Parameters
    ----------
    test_share : float, default=0.25
        Share of the examples that are questions, about.
    n_pool : int or None, default=None
        Most examples of the pool: those with the smallest keyed hashes. None: all.
    n_test : int or None, default=150
        Most questions of the test, chosen in the same way. The standard error of an accuracy over 150 is at most 0.04.
    twins : float, default=THRESHOLD
        See `near_twins`.
    seed : int, default=0
        Key of all hashes.
    """

    test_share: float = 0.25
    n_pool: int | None = None
    n_test: int | None = 150
    twins: float = THRESHOLD
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("test_share", "twins"):
            value = getattr(self, name)
            if not isinstance(value, float) or not 0 < value <= 1:
                raise ParameterError(f"{name} must be a number above 0 and at most 1, got {value!r}")
        checks.integer("seed", self.seed, 0, 2**64 - 1)
        for name in ("n_pool", "n_test"):
            if getattr(self, name) is not None:
                checks.integer(name, getattr(self, name), FEWEST, 2**31 - 1)

    def draw(self, purpose: str, text: str) -> int:
        """Return the keyed hash of a text, 0 to 2**64 - 1."""
        key = f"erase-core evaluate {self.seed} {purpose}".encode()
        return int.from_bytes(hashlib.blake2b(text.encode(), key=key, digest_size=8).digest(), "big")


def load_task(
    source: Path | None = None,
    *,
    questions: Path | None = None,
    limits: Limits | None = None,
    reading: Mapping[str, Any] | None = None,
) -> Task:
    """Load a task.

    Parameters
    ----------
    source : Path or None, default=None
        A BIG-bench task, or examples in any form that `read_examples` reads. None: the packaged support desk.
    questions : Path or None, default=None
        The test, if it stands in a file of its own. Those with a near twin in the pool are left out.
    limits : Limits or None, default=None
    reading : mapping or None, default=None
        Arguments for `read_examples`, such as `fields`.

    Returns
    -------
    Task
        The ids of the pool are places in the source, from 0. The instruction of a BIG-bench task is left out, since it
        names the options of some tasks and not of others.

    Raises
    ------
    SourceError
        The source cannot be read, or is no task: too few examples, one answer only, or answers that are free text.
    ExampleError, ParameterError, MissingPackageError
        As for `read_examples`.
    """
    chosen = limits or Limits()
    if source is None:
        task = load_task(DEMO / "examples.jsonl", questions=DEMO / "questions.jsonl", limits=chosen)
        return replace(task, name=SUPPORT_DESK)
    path = Path(source)
    found = read_examples(path, **(reading or {}))
    own = None if questions is None else read_examples(Path(questions), **(reading or {}))
    every, asked = distinct(found), [] if own is None else distinct(own)
    options = _options(found, [*every, *asked], path.name)
    pool, test, report = _split(every, chosen) if own is None else _side_by_side(every, asked, chosen)
    n_read = len(found.examples) + (0 if own is None else len(own.examples))
    report = replace(report, n_read=n_read, n_repeated=n_read - len(every) - len(asked), notes=found.notes)
    _check_sizes(pool, test, report, path.name)
    limited = [_smallest(pool, chosen, "pool", chosen.n_pool), _smallest(test, chosen, "test", chosen.n_test)]
    report = replace(report, n_unused=len(pool) + len(test) - sum(map(len, limited)))
    name, scale = path.name.split(".")[0], _scale(path, found, len(options))
    return Task(name, tuple(limited[0]), tuple(limited[1]), options, template_of(found), scale, report)


def distinct(found: Reading) -> list[Example]:
    """Return the examples, each input once: the first. The ids are places in the source, from 0."""
    first: dict[str, Example] = {}
    for place, each in enumerate(found.examples):
        first.setdefault(each.input, Example(place, each.input, each.output, each.rationale, each.subject))
    return list(first.values())


def template_of(found: Reading) -> Template:
    """Return the template of a source, without the instruction if it is a BIG-bench task."""
    texts = {**found.template}
    if _is_bigbench(found):
        texts["instruction"] = ""
    return Template.from_dict(texts)


def _is_bigbench(found: Reading) -> bool:
    return "input_prefix" in found.template


def _options(found: Reading, every: Sequence[Example], name: str) -> tuple[str, ...]:
    """Return the options: those of the file, or all answers, if they are few and repeated."""
    counts = Counter(example.output for example in every)
    if len(counts) == 1:
        raise SourceError(f"{name}: all examples have the same answer. Give examples with at least two answers.")
    if len(found.options) and set(counts) <= set(found.options):
        return found.options
    if len(every) < 2 * FEWEST:
        raise SourceError(_too_few(len(every), name))
    if len(counts) > MOST_OPTIONS or len(counts) * EXAMPLES_OF_OPTION > len(every):
        raise SourceError(
            f"{name}: {counted(len(every), 'example')} have {len(counts)} different answers, so the answers are free "
            f"text. Give examples with at most {MOST_OPTIONS} answers, each of {EXAMPLES_OF_OPTION} or more examples "
            "on average, or a BIG-bench task whose questions share their options."
        )
    return tuple(sorted(counts))


def _too_few(n: int, name: str) -> str:
    return f"{name} has {counted(n, 'example')}. Give at least {2 * FEWEST} with different inputs, better hundreds."


def _split(every: list[Example], limits: Limits) -> tuple[list[Example], list[Example], TaskReport]:
    """Split by groups of near twins."""
    groups = groups_of(len(every), near_twins([example.input for example in every], limits.twins))
    is_test = np.zeros(len(every), dtype=bool)
    for group in groups:
        # Two hashes, since by one alone a large group would be likelier to be tested than a small one.
        member = min(group, key=lambda place: limits.draw("member", every[place].input))
        is_test[group] = limits.draw("split", every[member].input) < limits.test_share * 2**64
    sides = [[e for e, other in zip(every, is_test, strict=True) if other == side] for side in (False, True)]
    sizes = [len(group) for group in groups if len(group) > 1]
    return sides[0], sides[1], TaskReport(0, 0, sum(sizes), len(sizes), max(sizes, default=1))


def _side_by_side(
    pool: list[Example], asked: list[Example], limits: Limits
) -> tuple[list[Example], list[Example], TaskReport]:
    """Leave out questions with a near twin in the pool, and those that are repeated in it."""
    pairs = near_twins([example.input for example in (*pool, *asked)], limits.twins)
    groups = [group for group in groups_of(len(pool) + len(asked), pairs) if len(group) > 1]
    seen = {b - len(pool) for a, b in pairs.tolist() if a < len(pool) <= b}
    test = [example for place, example in enumerate(asked) if place not in seen]
    largest = max(map(len, groups), default=1)
    return pool, test, TaskReport(0, 0, sum(map(len, groups)), len(groups), largest, len(seen))


def _check_sizes(pool: Sequence[Example], test: Sequence[Example], report: TaskReport, name: str) -> None:
    n = len(pool) + len(test)
    if n < 2 * FEWEST:
        raise SourceError(_too_few(n, name))
    if min(len(pool), len(test)) < FEWEST:
        raise SourceError(
            f"{name}: {counted(n, 'example')} give a pool of {len(pool)} and a test of {len(test)}, and each needs "
            f"{FEWEST}. {report.n_twins} are near twins, the largest group has {report.largest_group}, and "
            f"{counted(report.n_left_out, 'question')} with a near twin in the pool are left out. Give more examples, "
            "another test_share, or a higher threshold of twins."
        )
    if len({example.output for example in pool}) == 1:
        raise SourceError(f"{name}: all examples of the pool have the same answer. Give more examples of the others.")


def _smallest(examples: Sequence[Example], limits: Limits, purpose: str, most: int | None) -> list[Example]:
    if most is None or len(examples) <= most:
        return list(examples)
    chosen = sorted(examples, key=lambda example: limits.draw(purpose, example.input))[:most]
    return sorted(chosen, key=lambda example: example.id)


def _scale(path: Path, found: Reading, n_options: int) -> Scale:
    """Return the scale of a BIG-bench task's file where it has one, otherwise from chance to 1."""
    chance = Scale(1 / n_options)
    if not _is_bigbench(found):
        return chance
    task = json.loads(content_of(path).read())
    low, high = task.get("low_score"), task.get("high_score")
    if low is None and high is None:
        return chance
    scale = Scale(chance.low if low is None else low, chance.high if high is None else high, "file")
    if not all(isinstance(each, (int, float)) for each in (scale.low, scale.high)) or scale.low >= scale.high:
        raise SourceError(f"{path.name}: low_score must be a number below high_score. Correct them or leave them out.")
    return scale
