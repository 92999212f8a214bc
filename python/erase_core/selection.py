"""Selection strategies: which examples become demonstrations.

Each strategy is a pure function of the examples in the store, the seed and the query. So each is exact under removal:
afterwards it selects what it would have selected if the removed example had never existed.
"""

from __future__ import annotations

import hashlib
import heapq
from collections.abc import Callable, Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from erase_core._core import Model
from erase_core.settings import Settings, Strategy

__all__ = ["SELECTORS", "KMeansSelector", "NeighbourSelector", "RandomSelector", "Selector", "select_demonstrations"]


class Selector(Protocol):
    """A selection strategy."""

    per_query: bool
    """Whether the selection depends on the query."""

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

    def select(self, model: Model, n_shots: int, seed: int, query: NDArray[np.float32] | None) -> list[int | str]:
        """Return the exemplars of the clusters that have one."""
        return [id_ for id_ in model.exemplars() if id_ is not None]


class NeighbourSelector:
    """Selects the examples nearest to the query. The nearest comes last, next to the question."""

    per_query = True

    def select(self, model: Model, n_shots: int, seed: int, query: NDArray[np.float32] | None) -> list[int | str]:
        """Return the ids of the nearest examples."""
        if query is None:
            raise TypeError("query must be a vector for the strategy 'knn', got None")
        _, ids = model.neighbours(np.ascontiguousarray(query)[None], n_shots)
        return list(ids[::-1])


class RandomSelector:
    """Selects the examples with the smallest keyed hashes: a random draw in which examples are independent."""

    per_query = False

    def select(self, model: Model, n_shots: int, seed: int, query: NDArray[np.float32] | None) -> list[int | str]:
        """Return the ids of the drawn examples."""
        ids: Sequence[int | str] = np.asarray(model.ids(), dtype=object).tolist()
        return heapq.nsmallest(n_shots, ids, key=_draw(seed))


def _draw(seed: int) -> Callable[[int | str], tuple[bytes, int | str]]:
    key = seed.to_bytes(8, "little")
    # The type is hashed too: 1 and "1" are different ids.
    return lambda id_: (hashlib.blake2b(f"{type(id_).__name__}:{id_}".encode(), key=key, digest_size=16).digest(), id_)


SELECTORS: dict[Strategy, Selector] = {
    "kmeans": KMeansSelector(),
    "knn": NeighbourSelector(),
    "random": RandomSelector(),
}


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
