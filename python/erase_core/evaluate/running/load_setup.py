"""Makes what all cells have in common: the task, the models, and which examples are forgotten. Runs in each process."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from erase_core.errors import ParameterError
from erase_core.evaluate.attacks.canaries import with_canaries
from erase_core.evaluate.running.adversaries import hard_forget_set
from erase_core.evaluate.running.measure_cell import CANDIDATES
from erase_core.evaluate.running.plan import Sizes
from erase_core.evaluate.running.setup import Setup
from erase_core.evaluate.tasks.forget_sets import at_random, by_subject
from erase_core.evaluate.tasks.loading import Limits, load_task
from erase_core.evaluate.tasks.task import Task
from erase_core.evaluate.tasks.world import World
from erase_core.examples.example import Example
from erase_core.libraries import torch_threads

__all__ = ["Choice", "Forget", "load_setup"]

# An attack on one example alone has no area.
FEWEST = 2
Forget = Literal["random", "subject", "worst", "canaries"]


@dataclass(frozen=True)
class Choice:
    """What a user chose to measure. It is pickled for other processes.

    Parameters
    ----------
    data : Path or None
        None: the packaged support desk.
    llm : str or None
        None: the packaged language model.
    pool, test : int
        Most examples and questions.
    forget : {"random", "subject", "worst", "canaries"}
        How the examples to forget together are chosen. Canaries are put into the pool for it.
    forget_size : int
    sizes : Sizes
    folder : Path
        For checkpoints.
    """

    data: Path | None
    llm: str | None
    pool: int
    test: int
    forget: Forget
    forget_size: int
    sizes: Sizes
    folder: Path

    def task(self) -> Task:
        """Load the task."""
        return load_task(self.data, limits=Limits(n_pool=self.pool, n_test=self.test))


def load_setup(choice: Choice, forgotten: tuple[int, ...] | None = None) -> Setup:
    """Load task and models.

    Parameters
    ----------
    choice : Choice
    forgotten : tuple of int, optional
        The examples to forget together, if they have been chosen.
    """
    from erase_core.embedding.sentence import SentenceEmbedder
    from erase_core.llm.transformers import TransformersLLM

    task = choice.task()
    others: tuple[Example, ...] = ()
    if choice.forget == "canaries":
        made = with_canaries(task, choice.forget_size, 0)
        task, forgotten, others = made.task, made.inserted, made.held_out
    ids = forgotten_of(choice, task) if forgotten is None else forgotten
    llm, embedder = TransformersLLM(choice.llm), SentenceEmbedder()
    embedder.embed([task.pool[0].input])
    setup = Setup(task, ids, choice.sizes, llm, embedder, choice.folder, others)
    if ids:
        return setup
    n = max(CANDIDATES, 2 * choice.forget_size)
    with torch_threads(1):  # as in the processes that use its checkpoint, so that it is found again
        hard = hard_forget_set(setup.fitting_tools(), setup.world(0), choice.forget_size, n_candidates=n, n_random=0)
    return replace(setup, forgotten=tuple(hard["ids"]))


def forgotten_of(choice: Choice, task: Task) -> tuple[int, ...]:
    """Return the ids of the examples to forget together; none if they have to be searched for.

    Raises
    ------
    ParameterError
        Too many are asked for, or the examples have no subjects.
    """
    most = len(task.pool) // 2
    if not FEWEST <= choice.forget_size <= most:
        raise ParameterError(
            f"--forget-size must be from {FEWEST} to {most}, half of the pool, got {choice.forget_size}"
        )
    world = World(task, tuple(int(example.id) for example in task.pool), 0)
    if choice.forget == "random":
        return at_random(world, choice.forget_size, 0)
    if choice.forget == "subject":
        # Whole subjects, as many as do not exceed the number of examples, but as many as are needed.
        subjects = {example.subject for example in task.pool if example.subject is not None}
        sets = [by_subject(world, n, 0) for n in range(1, max(len(subjects), 2))]
        fitting = [ids for ids in sets if FEWEST <= len(ids) <= choice.forget_size]
        enough = fitting[-1:] or [ids for ids in sets if len(ids) >= FEWEST]
        if not enough:
            raise ParameterError(f"too few examples of {task.name} have a subject. Draw the forget set at random.")
        return enough[0]
    return ()
