"""S3T: blocks of layers trained on growing parts of a shard, so that a removal cuts off the blocks that saw it.

Basu Roy Chowdhury et al., Towards Scalable Exact Machine Unlearning Using Parameter-Efficient Fine-Tuning,
arXiv 2406.16257.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace

import numpy as np

from erase_core import checks
from erase_core.errors import ParameterError
from erase_core.evaluate.adapters.adapted_model import AdaptedModel, State, layer_of
from erase_core.evaluate.adapters.training import Stage, TrainingSettings
from erase_core.evaluate.peers.peer import Entry, Exactness, Tools
from erase_core.evaluate.peers.retraining import examples_bytes, state_bytes
from erase_core.evaluate.peers.sisa import slice_passes, voted
from erase_core.evaluate.tasks.draws import derived, part_of
from erase_core.evaluate.tasks.task import Scores
from erase_core.evaluate.tasks.world import World
from erase_core.examples.example import Example

__all__ = ["PEERS", "S3T", "Orders", "blocks"]


class Orders:
    """Which slices each adapter still has: the bookkeeping of removals, without any weights.

    An adapter belongs to a shard and to an order of its slices. The orders are cyclic rotations, so their first slices
    differ. Deleting a slice cuts every order of its shard before that slice.

    Parameters
    ----------
    n_shards, n_slices, n_orders : int
        `n_orders` of each shard, at most `n_slices`.

    Attributes
    ----------
    left : dict from (int, int) to int
        For each shard and order, the number of slices before the first deleted one. 0: the order is dead.

    Raises
    ------
    ParameterError
        A number is out of range.
    """

    def __init__(self, n_shards: int, n_slices: int, n_orders: int) -> None:
        self.n_shards = checks.integer("n_shards", n_shards, 1, 2**16)
        self.n_slices = checks.integer("n_slices", n_slices, 1, 2**16)
        self.n_orders = checks.integer("n_orders", n_orders, 1, n_slices)
        self.left = {(shard, order): n_slices for shard in range(n_shards) for order in range(n_orders)}

    def slices(self, order: int) -> tuple[int, ...]:
        """Return the slices of an order: a rotation. The first slices are as far apart as possible."""
        return tuple((self._start(order) + place) % self.n_slices for place in range(self.n_slices))

    def _start(self, order: int) -> int:
        return order * self.n_slices // self.n_orders

    def delete(self, shard: int, slice_: int) -> None:
        """Cut all orders of a shard before a slice."""
        for order in range(self.n_orders):
            place = (slice_ - self._start(order)) % self.n_slices
            self.left[shard, order] = min(self.left[shard, order], place)

    def best(self, shard: int) -> int | None:
        """Return the order of a shard with the most slices left, the first of several; None if all are dead."""
        longest = max(range(self.n_orders), key=lambda order: self.left[shard, order])
        return longest if self.left[shard, longest] else None

    @property
    def dead(self) -> bool:
        """Whether all orders of all shards are dead, so that everything has to be trained again."""
        return not any(self.left.values())


def blocks(layers: Sequence[int], n_blocks: int) -> list[tuple[int, ...]]:
    """Return layers in groups of nearly equal size, the top one first.

    Raises
    ------
    ParameterError
        There are fewer layers than blocks.
    """
    if len(layers) < n_blocks:
        raise ParameterError(
            f"n_slices must be at most the number of the model's layers, {len(layers)}, got {n_blocks}"
        )
    return [tuple(map(int, block)) for block in np.array_split(sorted(layers, reverse=True), n_blocks)]


class S3T:
    """LoRA adapters for shards and orders of slices. Of each shard, the one with the most slices left answers.

    Block i of layers, counted from the top, is trained on slices 1..i of the order while all others are frozen. So the
    blocks above a deleted slice have never seen it, and they stay as they are. The others are reset.

    Parameters
    ----------
    tools : Tools
    n_shards : int, default=1
    n_slices : int, default=4
        At most the number of the model's layers.
    n_orders : int, default=4
        Adapters of each shard, at most `n_slices`.
    settings : TrainingSettings or None, default=None
        None: the default ones. The passes are those over a shard for each order, all stages together.
    name : str, default="s3t"

    Raises
    ------
    ParameterError
        A number is out of range.
    """

    exactness: Exactness = "exact-on-fewer"

    def __init__(
        self,
        tools: Tools,
        n_shards: int = 1,
        n_slices: int = 4,
        n_orders: int = 4,
        *,
        settings: TrainingSettings | None = None,
        name: str = "s3t",
    ) -> None:
        self.name = name
        self.orders = Orders(n_shards, n_slices, n_orders)
        self._model, self._checkpoints = tools.adapted, tools.checkpoints
        self._blocks = blocks(self._model.layers, n_slices)
        chosen = settings or TrainingSettings()
        self._settings = replace(chosen, passes=slice_passes(chosen.passes, n_slices))
        # By shard and order.
        self.states: dict[tuple[int, int], State] = {}

    def fit(self, world: World) -> None:
        """Train an adapter for each shard and each order."""
        self.world = world
        self.orders = Orders(self.orders.n_shards, self.orders.n_slices, self.orders.n_orders)
        self.states = {}
        for key in self.orders.left:
            seed, stages = self.stages(*key)
            self.states[key] = self._checkpoints.stages(self._model, world.task.template, seed, stages)[-1]
        for shard in {*range(self.orders.n_shards)} - {self.place(id_)[0] for id_ in world.ids}:
            for slice_ in range(self.orders.n_slices):  # a shard without examples has nothing to say
                self._cut(shard, slice_)

    def place(self, id_: int | str) -> tuple[int, int]:
        """Return the shard and the slice of an example, from 0. They depend on its id and the seed alone."""
        seed = self.world.seed
        return part_of(seed, "shard", id_, self.orders.n_shards), part_of(seed, "slice", id_, self.orders.n_slices)

    def stages(self, shard: int, order: int) -> tuple[int, list[Stage]]:
        """Return the seed of an adapter and the stages of its training."""
        seed = derived(self.world.seed, "s3t", shard, order)
        slices = self.orders.slices(order)
        examples = [(self.place(each.id), each) for each in self.world.examples]
        return seed, [
            Stage(
                tuple(each for (own, slice_), each in examples if own == shard and slice_ in slices[: stage + 1]),
                derived(seed, "stage", stage),
                self._settings,
                block,
            )
            for stage, block in enumerate(self._blocks)
        ]

    def forget(self, ids: Collection[int]) -> None:
        """Reset the blocks that saw these examples. If none is left, train everything again on the other examples."""
        survivors = self.world.without(ids)
        for place in sorted({self.place(id_) for id_ in {*self.world.ids} - {*survivors.ids}}):
            self._cut(*place)
        self.world = survivors
        if self.orders.dead and survivors.ids:
            self.fit(survivors)

    def _cut(self, shard: int, slice_: int) -> None:
        before = dict(self.orders.left)
        self.orders.delete(shard, slice_)
        for key in self.states:
            n_blocks = self.orders.left[key]
            if n_blocks < before[key]:
                seed = derived(self.world.seed, "s3t", *key)
                self.states[key] = _first_blocks(self._model, self.states[key], seed, self._blocks[:n_blocks])
        self.states = {key: state for key, state in self.states.items() if self.orders.left[key]}

    def scores(self, questions: Sequence[Example]) -> Scores:
        """Return the mean over shards of their log-probabilities, shape (n, k). Without examples: the model's."""
        task = self.world.task
        best = [(shard, self.orders.best(shard)) for shard in range(self.orders.n_shards)]
        each = []
        for shard, order in best:
            if order is not None:
                self._model.load(self.states[shard, order])
                with self._model.active():
                    each.append(self._model.scores(questions, task.options, task.template))
        if not each:
            return self._model.scores(questions, task.options, task.template)
        return voted(np.stack(each), "mean")

    def kept_bytes(self) -> int:
        """Return the size of all adapters, and of the examples, which have to be kept for training again."""
        return sum(map(state_bytes, self.states.values())) + examples_bytes(self.world.examples)


def _first_blocks(model: AdaptedModel, state: State, seed: int, kept: Sequence[tuple[int, ...]]) -> State:
    """Return an adapter with all layers but those of some blocks as they were before training."""
    model.reset(seed)
    layers = {layer for block in kept for layer in block}
    return {name: state[name] if layer_of(name) in layers else fresh for name, fresh in model.state().items()}


_SOURCE = "Basu Roy Chowdhury et al., arXiv 2406.16257"
_DIFFERENT = (
    "Orders are cyclic rotations; the paper also has orders by matching, for deletions that are not equally likely. "
    "Slices are drawn by id, so their sizes differ. The adapter with the most slices left answers."
)

PEERS = [
    Entry("s3t", S3T, _SOURCE, "exact-on-fewer", "fine-tuning", _DIFFERENT),
    Entry(
        "s3t-2",
        lambda tools: S3T(tools, n_orders=2, name="s3t-2"),
        _SOURCE,
        "exact-on-fewer",
        "fine-tuning",
        _DIFFERENT,
    ),
]
