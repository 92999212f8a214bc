"""Selection strategies: which examples become demonstrations.

Each strategy is a pure function of the examples in the store, the seed and the query. So each is exact under removal:
afterwards it selects what it would have selected if the removed example had never existed.

A *prompt* is here the list of the ids of its demonstrations, in order.
"""

from __future__ import annotations

import hashlib
import heapq
import math
from collections.abc import Callable, Sequence
from typing import Literal, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from erase_core._core import Model
from erase_core.errors import ParameterError
from erase_core.settings import Settings, Strategy

__all__ = [
    "SELECTORS",
    "KMeansSelector",
    "NeighbourSelector",
    "RandomSelector",
    "RoutedSelector",
    "Routing",
    "Selector",
    "possible_prompts",
    "prompts_after_adding",
    "router_of",
    "select_demonstrations",
]


class Selector(Protocol):
    """A selection strategy."""

    per_query: bool
    """Whether the selection depends on the query."""
    is_shared: bool
    """Whether many queries get the same prompt."""
    is_calibrated: bool
    """Whether choices are better if they are calibrated. If demonstrations are like the query, they are not."""
    keeps: Literal["first", "last"]
    """Which demonstrations stay in a prompt that is too long."""

    def prompts(self, model: Model, n_shots: int, seed: int) -> list[list[int | str]]:
        """Return all prompts that a query can get; none if every query gets one of its own.

        Parameters
        ----------
        model, n_shots, seed
            See `select`.
        """

    def select(self, model: Model, n_shots: int, seed: int, query: NDArray[np.float32] | None) -> list[int | str]:
        """Return the ids of at most `n_shots` examples, in the order in which they are shown.

        Parameters
        ----------
        model : Model
            The model of all examples.
        n_shots : int
        seed : int
        query : ndarray of shape (dim,) or None
            The vector of the query; needed only if `per_query`.
        """


class KMeansSelector:
    """Selects the example nearest to each centre, cluster by cluster (ERASE, section 4; Auto-CoT)."""

    per_query = False
    is_shared = True
    is_calibrated = True
    keeps: Literal["first", "last"] = "first"

    def prompts(self, model: Model, n_shots: int, seed: int) -> list[list[int | str]]:
        """Return the one prompt."""
        return [self.select(model, n_shots, seed, None)]

    def select(self, model: Model, n_shots: int, seed: int, query: NDArray[np.float32] | None) -> list[int | str]:
        """Return the exemplars of the clusters that have one."""
        return [id_ for id_ in model.exemplars() if id_ is not None]


class NeighbourSelector:
    """Selects the examples nearest to the query. The nearest comes last, next to the question."""

    per_query = True
    is_shared = False
    is_calibrated = False
    keeps: Literal["first", "last"] = "last"

    def prompts(self, model: Model, n_shots: int, seed: int) -> list[list[int | str]]:
        """Return no prompts, because they are not known without a query."""
        return []

    def select(self, model: Model, n_shots: int, seed: int, query: NDArray[np.float32] | None) -> list[int | str]:
        """Return the ids of the nearest examples."""
        if query is None:
            raise TypeError("query must be a vector for the strategy 'knn', got None")
        _, ids = model.neighbours(np.ascontiguousarray(query)[None], n_shots)
        return list(ids[::-1])


class RandomSelector:
    """Selects the examples with the smallest keyed hashes: a random draw in which examples are independent."""

    per_query = False
    is_shared = True
    is_calibrated = True
    keeps: Literal["first", "last"] = "first"

    def prompts(self, model: Model, n_shots: int, seed: int) -> list[list[int | str]]:
        """Return the one prompt."""
        return [self.select(model, n_shots, seed, None)]

    def select(self, model: Model, n_shots: int, seed: int, query: NDArray[np.float32] | None) -> list[int | str]:
        """Return the ids of the drawn examples."""
        return self.drawn(np.asarray(model.ids(), dtype=object).tolist(), n_shots, seed)

    def drawn(self, ids: Sequence[int | str], n_shots: int, seed: int) -> list[int | str]:
        """Return the ids that are drawn of all."""
        return heapq.nsmallest(n_shots, ids, key=_draw(seed))


class Routing(NamedTuple):
    """Which prompt a query gets.

    Parameters
    ----------
    prompt : int
        Its index among all prompts, which is the cluster's.
    distance : float or None
        Distance of the query to the cluster's centre, after projection. None if there is no centre.
    margin : float or None
        How much farther the second nearest centre of a cluster with examples is. None if there is only one.
    """

    prompt: int
    distance: float | None
    margin: float | None


class RoutedSelector:
    """Selects the examples of a cluster that are nearest to its centre: of the cluster whose centre the query is near.

    The nearest comes first. So if the last ones are left out, or change, the prompt begins as before, and what a
    language model has kept of its beginning stays valid. What the other order is worth: docs/accuracy.md.
    """

    per_query = True
    is_shared = True
    is_calibrated = False
    keeps: Literal["first", "last"] = "first"

    def prompts(self, model: Model, n_shots: int, seed: int) -> list[list[int | str]]:
        """Return the prompt of each cluster. One that has fewer rows than `n_shots` shows all of them."""
        return model.nearest(n_shots)

    def route(self, model: Model, query: NDArray[np.float32]) -> Routing:
        """Return the cluster whose centre is nearest to the query, ties to the lower index.

        A cluster without examples has a centre, but no query gets its prompt.
        """
        nearest = self._cluster(model, query)
        distances = self._distances(model, query)
        own = float(distances[nearest])
        margin = float(np.delete(distances, nearest).min(initial=np.inf)) - own
        return Routing(nearest, own, margin if math.isfinite(margin) else None)

    def select(self, model: Model, n_shots: int, seed: int, query: NDArray[np.float32] | None) -> list[int | str]:
        """Return the prompt of the query's cluster."""
        if query is None:
            raise TypeError("query must be a vector for the strategy 'routed', got None")
        return self.prompts(model, n_shots, seed)[self._cluster(model, query)]

    def _cluster(self, model: Model, query: NDArray[np.float32]) -> int:
        nearest = int(model.predict(np.ascontiguousarray(query)[None])[0])
        is_empty = model.exemplars()[nearest] is None
        return int(self._distances(model, query).argmin()) if is_empty else nearest

    def _distances(self, model: Model, query: NDArray[np.float32]) -> NDArray[np.float64]:
        """Return the distance of a query to each centre; infinity for clusters without examples."""
        distances = model.transform(np.ascontiguousarray(query)[None])[0]
        return np.where([id_ is None for id_ in model.exemplars()], np.inf, distances)


def _draw(seed: int) -> Callable[[int | str], tuple[bytes, int | str]]:
    key = seed.to_bytes(8, "little")
    # The type is hashed too: 1 and "1" are different ids.
    return lambda id_: (hashlib.blake2b(f"{type(id_).__name__}:{id_}".encode(), key=key, digest_size=16).digest(), id_)


SELECTORS: dict[Strategy, Selector] = {
    "kmeans": KMeansSelector(),
    "knn": NeighbourSelector(),
    "random": RandomSelector(),
    "routed": RoutedSelector(),
}


def possible_prompts(settings: Settings, model: Model | None) -> list[list[int | str]]:
    """Return all prompts that a query can get; none if every query gets one of its own.

    Parameters
    ----------
    settings : Settings
    model : Model or None
        The model of all examples; None for a store without examples, which has one prompt without demonstrations.
    """
    if model is None:
        return [[]]
    return SELECTORS[settings.strategy].prompts(model, settings.n_shots, settings.seed)


def prompts_after_adding(
    settings: Settings, model: Model, before: list[list[int | str]], added: Sequence[int | str]
) -> list[list[int | str]]:
    """Return all prompts that a query can get after examples were added. See `possible_prompts`.

    Parameters
    ----------
    settings : Settings
    model : Model
        The model with the added examples.
    before : list of lists of int or str
        The prompts without them.
    added : sequence of int or str
        Their ids.
    """
    selector = SELECTORS[settings.strategy]
    if isinstance(selector, RandomSelector):  # what was not drawn before is not drawn among more
        return [selector.drawn([*before[0], *added], settings.n_shots, settings.seed)]
    return possible_prompts(settings, model)


def router_of(settings: Settings) -> RoutedSelector:
    """Return the strategy that routes queries.

    Raises
    ------
    ParameterError
        The strategy of the store has no routes.
    """
    selector = SELECTORS[settings.strategy]
    if isinstance(selector, RoutedSelector):
        return selector
    what = "every query gets a prompt of its own" if selector.per_query else "all queries get the same prompt"
    raise ParameterError(
        f"a store with the strategy {settings.strategy!r} has no routes: {what}. Create one with "
        'strategy="routed" (--strategy routed).'
    )


def select_demonstrations(
    settings: Settings, model: Model | None, query: NDArray[np.float32] | None = None
) -> list[int | str]:
    """Return the ids of the demonstrations for a query.

    Parameters
    ----------
    settings : Settings
    model : Model or None
        The model of all examples; None for a store without examples.
    query : ndarray of shape (dim,) or None, default=None
        The vector of the query. Without it, a strategy that depends on the query selects nothing.
    """
    selector = SELECTORS[settings.strategy]
    if model is None or (selector.per_query and query is None):
        return []
    return selector.select(model, settings.n_shots, settings.seed, query)
