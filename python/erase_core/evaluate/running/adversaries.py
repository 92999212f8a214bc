"""What an adversary can do to a peer: an attack with shadow worlds, a hard forget set, and dear removals.

A run measures these for few peers, since each takes as long as a fit or more. What is returned is plain dicts and lists
for JSON, without any text of an example.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from erase_core.evaluate.adapters.training import TrainingSettings
from erase_core.evaluate.attacks.dear_removals import dear_removals, removal_requests
from erase_core.evaluate.attacks.membership import (
    AttackResult,
    compare_areas,
    lira,
    shadow_members,
)
from erase_core.evaluate.attacks.worst_forget_sets import AscentLosses, unlearned_loss, worst_forget_set
from erase_core.evaluate.measures.distance import margins
from erase_core.evaluate.peers.peer import Entry, Tools
from erase_core.evaluate.peers.prompts import N_SHOTS
from erase_core.evaluate.peers.selections import clustered
from erase_core.evaluate.tasks.draws import derived
from erase_core.evaluate.tasks.task import labels_of
from erase_core.evaluate.tasks.world import World
from erase_core.settings import N_PROMPTS, Strategy

__all__ = ["attack_with_shadows", "hard_forget_set", "worst_removals"]

Record = dict[str, Any]


def attack_with_shadows(
    entry: Entry, tools: Tools, world: World, forgotten: Sequence[int], *, n_worlds: int = 4, never: Entry | None = None
) -> AttackResult:
    """Run LiRA on the margins of answers, which every peer has, with a few shadow worlds.

    Parameters
    ----------
    entry : Entry
    tools : Tools
    world : World
        Of some examples of the pool. Those that it does not have are what members are compared to, two or more.
    forgotten : sequence of int
        The members, two or more.
    n_worlds : int, default=4
        An even number, 4 or more. Each takes a fit, on the world's other examples and on half of the candidates.
    never : Entry or None, default=None
        What is fitted to the world that never had the examples. None: `entry`. For approximate peers, the one that
        they start from.

    Returns
    -------
    AttackResult
        With few worlds the attack is weaker than the paper's, which uses up to 256.
    """
    task = world.task
    held_out = [int(example.id) for example in task.pool if example.id not in set(world.ids)]
    candidates = [*forgotten, *held_out]
    of = {example.id: example for example in task.pool}
    examples = [of[id_] for id_ in candidates]
    labels = labels_of(examples, task.options)
    rest = world.without(forgotten)

    def statistic(made: Entry, fitted: World, forget: Sequence[int] = ()) -> NDArray[np.float64]:
        peer = made.make(tools)
        peer.fit(fitted)
        if forget:
            peer.forget(forget)
        return margins(peer.scores(examples), labels)

    base = never or entry
    is_in = shadow_members(len(candidates), n_worlds, derived(world.seed, "shadows"))
    shadows = []
    for number, row in enumerate(is_in):
        some = [id_ for id_, inside in zip(candidates, row, strict=True) if inside]
        seed = derived(world.seed, "shadow", number)
        ids = tuple(int(example.id) for example in task.examples([*rest.ids, *some]))
        shadows.append(statistic(base, World(task, ids, seed)))
    states = statistic(entry, world), statistic(entry, world, forgotten), statistic(base, rest)
    had, forgot, lacks = (lira(each, shadows, is_in) for each in states)
    is_member = [True] * len(forgotten) + [False] * len(held_out)
    return compare_areas(f"LiRA, {n_worlds} shadow worlds", had, forgot, lacks, is_member)


def hard_forget_set(
    tools: Tools,
    world: World,
    size: int,
    *,
    settings: TrainingSettings | None = None,
    n_candidates: int = 32,
    steps: int = 8,
    n_random: int = 4,
) -> Record:
    """Search for a forget set that gradient ascent on the fine-tuned adapter does not unlearn.

    Parameters
    ----------
    tools : Tools
    world : World
    size : int
        Of the set.
    settings : TrainingSettings or None, default=None
        Of the adapter, which comes from the checkpoints.
    n_candidates : int, default=32
        Examples that are searched, drawn by the world's seed; `size` at least. A step of the search takes two passes
        over them, one with gradients.
    steps : int, default=8
    n_random : int, default=4
        Random sets of the same size that are unlearned in the same way, for comparison.

    Returns
    -------
    dict
        "ids" (ascending), "loss" (their mean loss after unlearning), and "random" (that of each random set).
    """
    draws = np.random.default_rng(derived(world.seed, "hard forget set"))
    n = min(max(n_candidates, size), len(world.ids))
    ids = sorted(draws.permutation(np.array(world.ids, dtype=np.int64))[:n].tolist())
    examples = world.task.examples(ids)
    state = tools.checkpoints.trained(tools.adapted, world, settings or TrainingSettings())
    losses = AscentLosses(tools.adapted, state, examples, world.task.template)
    found = worst_forget_set(losses, n, size, steps=steps)
    random = [unlearned_loss(losses, n, draws.permutation(n)[:size].tolist()) for _ in range(n_random)]
    chosen = sorted(int(examples[place].id) for place in found.chosen)
    return {"ids": chosen, "loss": unlearned_loss(losses, n, found.chosen), "random": random}


def worst_removals(tools: Tools, world: World, *, n_random: int = 100) -> list[Record]:
    """Return what removals cost that are chosen to be dear for ERASE, with its single prompt and with routed ones.

    Parameters
    ----------
    tools : Tools
    world : World
    n_random : int, default=100
        Removals of any row, for comparison.

    Returns
    -------
    list of dict
        A row for each strategy and kind of request: their number, the most ids of one, mean and worst work, seconds in
        the core and share of changed demonstrations, and how many requests took which path.
    """
    examples = world.examples
    vectors = tools.vectors([example.input for example in examples])
    norms = np.linalg.norm(vectors.astype(np.float64), axis=1)
    rows = []
    strategies: tuple[tuple[Strategy, int], ...] = (("kmeans", N_SHOTS), ("routed", N_PROMPTS))
    for strategy, n_clusters in strategies:
        model = clustered([int(example.id) for example in examples], vectors, n_clusters, world.seed)
        requests = removal_requests(model, norms, n_random)
        for row in dear_removals(model, requests, strategy=strategy, n_shots=N_SHOTS):
            worst = {name: getattr(row, name) for name in ("mean_work", "worst_work", "mean_seconds", "worst_seconds")}
            changes = {"mean_change": row.mean_change, "worst_change": row.worst_change}
            named = {"strategy": strategy, "kind": row.kind, "requests": len(row.work), "ids": row.n_ids}
            rows.append({**named, **worst, **changes, "paths": row.paths})
    return rows
