"""Choosing hyperparameters on a forget set that the peer is not judged on, by the distance to its own retraining."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np

from erase_core.errors import ParameterError
from erase_core.evaluate.measures.cost import Cost, measured
from erase_core.evaluate.measures.distance import option_kl
from erase_core.evaluate.peers.approximate.frame import Rule, Unlearner
from erase_core.evaluate.peers.retraining import FineTuned
from erase_core.evaluate.tasks.world import World

__all__ = ["Tuned", "tune"]


@dataclass(frozen=True)
class Tuned:
    """What tuning found.

    Parameters
    ----------
    rule : Rule
        The nearest to retraining; the first of them if several are.
    tried : tuple of (Rule, float)
        All rules with their distances.
    held_out : tuple of int
        Ids of the forget set that it was tuned on.
    cost : Cost
        Of fitting, of the retraining, and of all that was tried.
    """

    rule: Rule
    tried: tuple[tuple[Rule, float], ...]
    held_out: tuple[int, ...]
    cost: Cost


def tune(
    peer: Unlearner,
    world: World,
    n_forgotten: int,
    *,
    judged: Collection[int] = (),
    grid: Sequence[Rule] | None = None,
    n_retained: int = 32,
) -> Tuned:
    """Set a peer's rule to the one of a grid that comes nearest to retraining, on a forget set that is held out.

    The distance is KL(retrained || peer) of the distributions over options, its mean over the held-out examples plus
    its mean over some retained ones, so that neither forgetting too little nor destroying the model is rewarded.

    Parameters
    ----------
    peer : Unlearner
        Is fitted to the world; has to be fitted again afterwards.
    world : World
    n_forgotten : int
        Size of the forget set to tune on, drawn by the world's seed.
    judged : collection of int, default=()
        Ids that peers will be judged on: none of them is drawn.
    grid : sequence of Rule or None, default=None
        Differ in what requests use only. None: the grid of the peer's rule.
    n_retained : int, default=32
        Most retained examples to compare on.

    Raises
    ------
    ParameterError
        The world has too few examples that are not judged, or the grid is empty.
    """
    rules = list(peer.rule.grid() if grid is None else grid)
    free = np.array(sorted(set(world.ids) - set(judged)))
    if not rules or not 0 < n_forgotten < len(free):
        raise ParameterError(
            f"n_forgotten must be between 1 and {len(free) - 1} (examples that are not judged, less one), and the grid "
            f"must have a rule; got {n_forgotten} and {len(rules)} rules"
        )
    drawn = np.random.default_rng([world.seed, 3]).permutation(free)
    held_out = tuple(int(id_) for id_ in drawn[:n_forgotten])
    parts = [world.task.examples(ids.tolist()) for ids in np.split(drawn[: n_forgotten + n_retained], [n_forgotten])]
    with measured() as meter:
        retrained = FineTuned(peer.tools, peer.training)
        retrained.fit(world.without(held_out))
        targets = [retrained.scores(part) for part in parts]
        peer.fit(world)
        tried = []
        for rule in rules:
            peer.reset()
            peer.rule = rule
            peer.forget(held_out)
            far = [option_kl(target, peer.scores(part)).mean() for part, target in zip(parts, targets, strict=True)]
            tried.append((rule, float(sum(far))))
    peer.rule = min(tried, key=lambda each: each[1] if np.isfinite(each[1]) else np.inf)[0]
    peer.reset()
    return Tuned(peer.rule, tuple(tried), held_out, meter.cost)
