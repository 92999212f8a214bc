"""The worst case beside the mean: forget sets that are hard to unlearn, and removals that are dear for ERASE."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import numpy as np

from erase_core.evaluate.peer import Tools, World
from erase_core.evaluate.plan import BASE, DEAR

if TYPE_CHECKING:
    from erase_core.evaluate.bench import Bench

__all__ = ["hard_set", "worst_of"]

# Candidates and steps of the search: one step runs all candidates forward and backward.
CANDIDATES, STEPS = 32, 8
RANDOM_SETS = 5
# Removals of each kind that are drawn.
REMOVALS = 50


def worst_of(peer: str, bench: Bench, tools: Tools, seed: int) -> dict[str, Any]:
    """Return the worst case of the two peers that have one: `DEAR` and `BASE`."""
    return {DEAR: _dear, BASE: _hard}[peer](bench, tools, seed)


def _dear(bench: Bench, tools: Tools, seed: int) -> dict[str, Any]:
    """Return the cost of removals that an adversary chooses who knows the clustering. See `dear_removals`."""
    from erase_core.evaluate.dear_removals import dear_removals, removal_requests
    from erase_core.evaluate.peers.prompts import N_SHOTS
    from erase_core.evaluate.selections import clustered

    X = tools.vectors([example.input for example in bench.task.pool])
    model = clustered(bench.ids, X, N_SHOTS, seed)
    requests = removal_requests(model, np.linalg.norm(X.astype(np.float64), axis=1), REMOVALS, seed)
    return {"kinds": [asdict(row) for row in dear_removals(model, requests, n_shots=N_SHOTS)]}


def _hard(bench: Bench, tools: Tools, seed: int) -> dict[str, Any]:
    """Return the loss after unlearning of a set that was searched for, and of sets at random, all of one size."""
    size = max(1, round(CANDIDATES * len(bench.forgotten) / len(bench.ids)))
    candidates = np.random.default_rng([seed, 2]).permutation(bench.ids)[:CANDIDATES].tolist()
    losses, found = _searched(bench, tools, candidates, size, seed)
    draws = np.random.default_rng([seed, 3])
    others = [draws.permutation(len(candidates))[:size].tolist() for _ in range(RANDOM_SETS)]
    from erase_core.evaluate.worst_case import unlearned_loss

    n = len(candidates)
    return {
        "candidates": n,
        "size": size,
        "steps": STEPS,
        "chosen": unlearned_loss(losses, n, found.chosen),
        "random": [unlearned_loss(losses, n, each) for each in others],
    }


def hard_set(bench: Bench, size: int) -> tuple[int, ...]:
    """Return the ids of a forget set that is hard to unlearn from the fine-tuned model of seed 0, ascending.

    It is searched for among at most 32 examples, or as many more as it needs to be a half of them.
    """
    n = max(CANDIDATES, 2 * size)
    candidates = np.random.default_rng([0, 2]).permutation(bench.ids)[:n].tolist()
    _, found = _searched(bench, bench.fitting_tools(), candidates, size, 0)
    return tuple(sorted(candidates[place] for place in found.chosen))


def _searched(bench: Bench, tools: Tools, candidates: Sequence[int], size: int, seed: int) -> Any:
    from erase_core.evaluate.training import TrainingSettings
    from erase_core.evaluate.worst_case import AscentLosses, worst_forget_set

    of = {example.id: example for example in bench.task.pool}
    state = tools.checkpoints.trained(tools.adapted, World(bench.task, bench.ids, seed), TrainingSettings())
    losses = AscentLosses(tools.adapted, state, [of[id_] for id_ in candidates], bench.task.template)
    return losses, worst_forget_set(losses, len(candidates), size, steps=STEPS)
