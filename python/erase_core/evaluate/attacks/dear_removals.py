"""Removals that an adversary chooses to be dear for ERASE: the worst cost and prompt change beside the mean.

Whoever knows the clustering may ask for the rows that it depends on: seeds, rows on the panel, exemplars, rows that set
the scale, or all rows of a cluster. An adversary who can make every request dear makes the mean the worst case, so both
belong in a table.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from erase_core._core import Model
from erase_core.kmeans import QKMeans
from erase_core.selection import SELECTORS
from erase_core.settings import Strategy
from erase_core.verify.draws import places, row_keys

__all__ = ["RemovalRow", "dear_removals", "removal_requests"]

# Requests of a kind: each a list of ids, removed at once.
Requests = dict[str, list[list[int]]]


@dataclass
class RemovalRow:
    """Removals of one kind, each from the whole model.

    Parameters
    ----------
    kind : str
        How the ids were chosen. "any row" is the mean case.
    n_ids : int
        Most ids of a request.
    work : list of int
        Multiply-adds of each request.
    seconds : list of float
        Wall-clock time of each request in the core.
    changes : list of float
        Share of the demonstrations of all prompts that are others, or gone, after each request.
    paths : dict of str to int
        How many requests took which path; see `UpdateReport`.
    """

    kind: str
    n_ids: int = 0
    work: list[int] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)
    changes: list[float] = field(default_factory=list)
    paths: dict[str, int] = field(default_factory=dict)

    @property
    def mean_work(self) -> float:
        """Mean of `work`."""
        return float(np.mean(self.work))

    @property
    def worst_work(self) -> int:
        """Largest of `work`."""
        return max(self.work)

    @property
    def mean_seconds(self) -> float:
        """Mean of `seconds`."""
        return float(np.mean(self.seconds))

    @property
    def worst_seconds(self) -> float:
        """Largest of `seconds`."""
        return max(self.seconds)

    @property
    def mean_change(self) -> float:
        """Mean of `changes`."""
        return float(np.mean(self.changes))

    @property
    def worst_change(self) -> float:
        """Largest of `changes`."""
        return max(self.changes)


def removal_requests(model: QKMeans, norms: NDArray[np.float64], n_random: int = 100, seed: int = 0) -> Requests:
    """Return requests of each kind that a model's rows allow.

    Parameters
    ----------
    model : QKMeans
        Fitted, with integers as ids.
    norms : ndarray of shape (n_rows,)
        Euclidean norms of the rows, in the order of `ids_`.
    n_random : int, default=100
        Most requests of the kinds that are drawn.
    seed : int, default=0
        Of the draws here.

    Returns
    -------
    dict of str to list of list of int
        "any row" (drawn), "seed", "all seeds", "exemplar", "all exemplars", "row on the panel" (drawn; if some rows are
        not on it), "all rows of a cluster", and "rows that set the scale" (if ``max_norm=None``, and some rows are
        smaller than half of it).
    """
    ids = np.asarray(model.ids_, dtype=np.int64)
    draws = np.random.default_rng(seed)

    def drawn(some: NDArray[np.int64]) -> list[list[int]]:
        return [[id_] for id_ in draws.permutation(some)[:n_random].tolist()]

    seeds = [int(id_) for id_ in _core(model).seeds()]
    exemplars = [int(id_) for id_ in model.exemplars_ if id_ is not None]
    requests = {"any row": drawn(ids), "seed": [[id_] for id_ in seeds], "all seeds": [seeds]}
    requests |= {"exemplar": [[id_] for id_ in exemplars], "all exemplars": [exemplars]}
    panel = _core(model).params()["panel"]
    if panel is not None and panel < len(ids):
        in_order = np.argsort(places(model.seed_, row_keys(ids.tolist())), kind="stable")
        requests["row on the panel"] = drawn(ids[in_order[:panel]])
    labels = np.asarray(model.labels_)
    requests["all rows of a cluster"] = [ids[labels == label].tolist() for label in np.unique(labels)]
    if model.max_norm is None and norms.max() > 0:
        # The scale is the largest norm, rounded up to a power of two: it falls when all rows above half of that go.
        large = norms > 2.0 ** (np.ceil(np.log2(norms.max())) - 1)
        if not large.all():
            requests["rows that set the scale"] = [ids[large].tolist()]
    return requests


def dear_removals(
    model: QKMeans, requests: Requests, *, strategy: Strategy = "kmeans", n_shots: int | None = None, n_steps: int = 20
) -> list[RemovalRow]:
    """Carry out requests, each on a copy of the model, and the requests of an adversary who sees every new model.

    Parameters
    ----------
    model : QKMeans
        It stays as it is.
    requests : dict of str to list of list of int
        As `removal_requests` returns them.
    strategy : {"kmeans", "random", "routed"}, default="kmeans"
        Which prompts are compared before and after.
    n_shots : int or None, default=None
        Demonstrations of a prompt. None: one for each cluster.
    n_steps : int, default=20
        Requests of the adversary, each for the first seed of the model as it then is. 0: no such row.

    Returns
    -------
    list of RemovalRow
        One for each kind, and "first seed, again and again". Reading costs that no removal has, such as embedding, and
        what a language model does for a changed prompt, are not in it.
    """
    shots = model.n_clusters if n_shots is None else n_shots
    rows = []
    for kind, some in requests.items():
        row = RemovalRow(kind)
        for ids in some:
            _carry_out(copy.deepcopy(model), ids, row, strategy, shots)
        rows.append(row)
    attacked = copy.deepcopy(model)
    row = RemovalRow("first seed, again and again")
    for ids in _first_seeds(attacked, n_steps):
        _carry_out(attacked, ids, row, strategy, shots)
    return [*rows, row] if row.work else rows


def _first_seeds(model: QKMeans, n_steps: int) -> Iterator[list[int]]:
    for _ in range(n_steps):
        if _core(model).n_rows <= 1:
            return
        yield [int(_core(model).seeds()[0])]


def _carry_out(model: QKMeans, ids: Sequence[int], row: RemovalRow, strategy: Strategy, n_shots: int) -> None:
    before = SELECTORS[strategy].prompts(_core(model), n_shots, model.seed_)
    report = model.remove(ids)
    after = SELECTORS[strategy].prompts(_core(model), n_shots, model.seed_) if _core(model).n_rows else []
    row.n_ids = max(row.n_ids, len(ids))
    row.work.append(report.work)
    row.seconds.append(report.seconds)
    row.changes.append(_changed(before, after))
    row.paths[report.path] = row.paths.get(report.path, 0) + 1


def _changed(before: Sequence[Sequence[int | str]], after: Sequence[Sequence[int | str]]) -> float:
    """Return the share of the demonstrations that are not at their place, prompt by prompt."""
    here = {(i, j, id_) for i, prompt in enumerate(before) for j, id_ in enumerate(prompt)}
    there = {(i, j, id_) for i, prompt in enumerate(after) for j, id_ in enumerate(prompt)}
    return len(here - there) / len(here) if here else 0.0


def _core(model: QKMeans) -> Model:
    return model._fitted()
