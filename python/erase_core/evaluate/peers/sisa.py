"""SISA: an adapter for each shard of the examples, so that a removal trains one shard again (Bourtoule et al., 2021).

*Strike* drops the shard instead, which costs nothing and loses its other examples.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace
from functools import partial
from typing import Literal

import numpy as np
from scipy.special import softmax

from erase_core import checks
from erase_core.evaluate.adapters.adapted_model import State
from erase_core.evaluate.adapters.training import Stage, TrainingSettings
from erase_core.evaluate.peers.peer import Entry, Exactness, Tools
from erase_core.evaluate.peers.retraining import examples_bytes, state_bytes
from erase_core.evaluate.tasks.draws import derived, part_of
from erase_core.evaluate.tasks.task import Scores
from erase_core.evaluate.tasks.world import World
from erase_core.examples.example import Example

__all__ = ["PEERS", "SISA", "Vote", "retrained", "slice_passes", "voted"]

Vote = Literal["mean", "majority"]


def slice_passes(passes: float, n_slices: int) -> float:
    """Return the passes of each stage, so that all stages see as many examples as `passes` over the shard.

    Stage i trains on slices 1..i, so it is ``2 * passes / (n_slices + 1)``, as in the paper.
    """
    return 2 * passes / (n_slices + 1)


def retrained(sizes: Sequence[int], first: int, passes: float) -> int:
    """Return how many examples a shard's training sees from a stage on, counted each time.

    Parameters
    ----------
    sizes : sequence of int
        Examples of each slice.
    first : int
        The first stage that is trained again, from 0.
    passes : float
        Over the shard, if all stages are trained.
    """
    each = slice_passes(passes, len(sizes))
    return sum(round(each * sum(sizes[: stage + 1])) for stage in range(first, len(sizes)))


def voted(scores: Scores, vote: Vote) -> Scores:
    """Return the scores of shards together.

    Parameters
    ----------
    scores : ndarray of shape (m, n, k)
        Log-probabilities of each of m shards.
    vote : {"mean", "majority"}
        "majority": logarithms of the shares of votes. All shards together have one vote more, which is divided in the
        proportion of their mean probabilities and so decides between options with equal votes.
    """
    mean = scores.mean(axis=0)
    if vote == "mean":
        return np.asarray(mean)
    votes = np.eye(scores.shape[2])[scores.argmax(axis=2)].sum(axis=0)
    return np.asarray(np.log((votes + softmax(mean, axis=1)) / (len(scores) + 1)))


class SISA:
    """One LoRA adapter a shard. An example's shard and slice depend on its id and the seed alone.

    Parameters
    ----------
    tools : Tools
    n_shards : int
        1 or more.
    n_slices : int, default=1
        Slices of each shard. Stage i trains on slices 1..i, with an optimiser of its own. Forgetting trains again from
        the stage that first saw a forgotten example.
    strike : bool, default=False
        Whether forgetting drops a shard instead of training it again. When all are dropped, they are trained again.
    vote : {"mean", "majority"}, default="mean"
    settings : TrainingSettings or None, default=None
        None: the default ones. The passes are those over a shard, all stages together.
    name : str or None, default=None
        None: ``sisa-`` and the number of shards.

    Raises
    ------
    ParameterError
        A number is below 1.
    """

    def __init__(
        self,
        tools: Tools,
        n_shards: int,
        n_slices: int = 1,
        *,
        strike: bool = False,
        vote: Vote = "mean",
        settings: TrainingSettings | None = None,
        name: str | None = None,
    ) -> None:
        self.n_shards = checks.integer("n_shards", n_shards, 1, 2**16)
        self.n_slices = checks.integer("n_slices", n_slices, 1, 2**16)
        self.name = name or f"sisa-{n_shards}"
        self.exactness: Exactness = "exact-on-fewer" if strike else "exact"
        self._model, self._checkpoints = tools.adapted, tools.checkpoints
        self._strike, self._vote = strike, vote
        chosen = settings or TrainingSettings()
        self._settings = replace(chosen, passes=slice_passes(chosen.passes, n_slices))
        # The adapters after each stage, by shard. Shards without examples have none.
        self.states: dict[int, list[State]] = {}

    def fit(self, world: World) -> None:
        """Train an adapter on each shard."""
        self.world = world
        shards = {self.place(id_, world)[0] for id_ in world.ids}
        self.states = {shard: self._train(shard) for shard in sorted(shards)}

    def place(self, id_: int | str, world: World) -> tuple[int, int]:
        """Return the shard and the slice of an example, from 0."""
        seed = world.seed
        return part_of(seed, "shard", id_, self.n_shards), part_of(seed, "slice", id_, self.n_slices)

    def _train(self, shard: int, done: Sequence[State] = ()) -> list[State]:
        """Train a shard, after the stages whose adapters are known."""
        seed = self.world.seed if self.n_shards == 1 else derived(self.world.seed, "shard", shard)
        examples = [(*self.place(each.id, self.world), each) for each in self.world.examples]
        stages = [
            Stage(
                tuple(each for own, slice_, each in examples if own == shard and slice_ <= stage),
                seed if self.n_slices == 1 else derived(seed, "stage", stage),
                self._settings,
            )
            for stage in range(self.n_slices)
        ]
        return self._checkpoints.stages(self._model, self.world.task.template, seed, stages, done)

    def forget(self, ids: Collection[int]) -> None:
        """Train the shards of these examples again, each once, or drop them.

        A shard is trained again from the last adapter that had seen none of them.
        """
        survivors = self.world.without(ids)
        gone = [self.place(id_, survivors) for id_ in {*self.world.ids} - {*survivors.ids}]
        first = {shard: min(slice_ for own, slice_ in gone if own == shard) for shard, _ in sorted(gone)}
        left = {self.place(id_, survivors)[0] for id_ in survivors.ids}
        self.world = survivors
        if self._strike:
            self.states = {shard: states for shard, states in self.states.items() if shard not in first}
            if not self.states and left:
                self.fit(survivors)
            return
        for shard, stage in first.items():
            done = self.states.pop(shard)[:stage]
            if shard in left:
                self.states[shard] = self._train(shard, done)

    def scores(self, questions: Sequence[Example]) -> Scores:
        """Return the scores of all shards together, shape (n, k). See `voted`. Without examples: those of the model."""
        task = self.world.task
        if not self.states:
            return self._model.scores(questions, task.options, task.template)
        each = []
        for shard in sorted(self.states):
            self._model.load(self.states[shard][-1])
            with self._model.active():
                each.append(self._model.scores(questions, task.options, task.template))
        return voted(np.stack(each), self._vote)

    def kept_bytes(self) -> int:
        """Return the size of all adapters, and of the examples, which have to be kept for training again."""
        adapters = sum(state_bytes(state) for states in self.states.values() for state in states)
        return adapters + examples_bytes(self.world.examples)


def _entry(name: str, n_shards: int, n_slices: int = 1, *, strike: bool = False, vote: Vote = "mean") -> Entry:
    return Entry(
        name,
        partial(_make, name=name, n_shards=n_shards, n_slices=n_slices, strike=strike, vote=vote),
        "Bourtoule et al., Machine Unlearning, IEEE S&P 2021",
        "exact-on-fewer" if strike else "exact",
        "fine-tuning",
        "Shards are drawn by id, so their sizes differ. An adapter is trained, not the whole model."
        + (" A stage has an optimiser of its own." if n_slices > 1 else "")
        + (" Dropping shards is not in the paper." if strike else ""),
    )


def _make(tools: Tools, *, name: str, n_shards: int, n_slices: int, strike: bool, vote: Vote) -> SISA:
    return SISA(tools, n_shards, n_slices, strike=strike, vote=vote, name=name)


PEERS = [
    _entry("sisa-1", 1),
    _entry("sisa-2", 2),
    _entry("sisa-4", 4),
    _entry("sisa-1-sliced", 1, 4),
    _entry("sisa-4-sliced", 4, 4),
    _entry("sisa-4-majority", 4, vote="majority"),
    _entry("sisa-2-strike", 2, strike=True),
    _entry("sisa-4-strike", 4, strike=True),
]
