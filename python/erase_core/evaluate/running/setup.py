"""What all cells of a run have in common: the task, the forget set, and models that are loaded once."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from erase_core.errors import LLMError
from erase_core.evaluate.adapters.checkpoints import Checkpoints
from erase_core.evaluate.peers.peer import Entry, Tools
from erase_core.evaluate.running.plan import Sizes
from erase_core.evaluate.tasks.task import Task
from erase_core.evaluate.tasks.world import World
from erase_core.examples.example import Example

__all__ = ["Setup"]

# Peers that never use the adapter.
PLAIN = ("prompt", "classifier")


@dataclass
class Setup:
    """All that cells have in common.

    Parameters
    ----------
    task : Task
    forgotten : tuple of int
        The examples to forget together.
    sizes : Sizes
    llm : TransformersLLM
    embedder : Embedder
    folder : Path
        For checkpoints.
    others : tuple of Example, default=()
        What attacks compare the forgotten examples to. Empty: the test questions.
    """

    task: Task
    forgotten: tuple[int, ...]
    sizes: Sizes
    llm: Any
    embedder: Any
    folder: Path
    others: tuple[Example, ...] = ()

    @cached_property
    def parts(self) -> dict[str, list[Example]]:
        """What every peer is asked: about forgotten and retained examples of the pool, and the test questions."""
        kept = [example.id for example in self.task.pool if example.id not in set(self.forgotten)]
        drawn = np.random.default_rng(0).permutation(len(kept))[: self.sizes.retained].tolist()
        retained = self.task.examples([kept[i] for i in drawn])
        return {
            "forgotten": self.task.examples(self.forgotten),
            "retained": retained,
            "test": list(self.task.test),
            **({"others": list(self.others)} if self.others else {}),
        }

    def world(self, seed: int) -> World:
        """Return the world that has all examples of the pool."""
        return World(self.task, self.ids, seed)

    @property
    def ids(self) -> tuple[int, ...]:
        """The ids of the pool."""
        return tuple(int(example.id) for example in self.task.pool)

    def tools(self, entry: Entry, fresh: bool) -> Tools:
        """Return the models for a peer. A fresh fit uses no checkpoint of another fit, so that it proves something.

        Raises
        ------
        LLMError
            The language model cannot be given an adapter, and the peer may need one.
        """
        if isinstance(self.adapted, LLMError) and entry.kind not in PLAIN:
            raise self.adapted
        return self._tools[fresh]

    def fitting_tools(self) -> Tools:
        """Return the models for training on the pool, with the checkpoints of all fits. Errors are those of `tools`."""
        if isinstance(self.adapted, LLMError):
            raise self.adapted
        return self._tools[False]

    @cached_property
    def _tools(self) -> list[Tools]:
        return [
            Tools(self.llm, self.embedder, self.adapted, Checkpoints(self.folder / name))
            for name in ("fitted", "fresh")
        ]

    @cached_property
    def adapted(self) -> Any:
        """The language model with an adapter, or the error that it cannot have one.

        A network that has one switched off differs in the last bits from one that has none. So all peers share it.
        """
        from erase_core.evaluate.adapters.adapted_model import AdaptedModel

        try:
            return AdaptedModel(self.llm)
        except LLMError as error:
            return error
