"""Which examples become demonstrations. Each strategy is a function of the examples that are there and of the seed.

So each is exact under removal: what it selects after one is what it would select had the example never been there.
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

__all__ = ["SELECTORS", "KMeansSelector", "NeighbourSelector", "RandomSelector", "Selector", "selected"]


class Selector(Protocol):
    """A strategy."""

    per_query: bool
    """Whether the selection depends on the query."""

    def select(self, model: Model, n_shots: int, seed: int, query: NDArray[np.float32] | None) -> list[int | str]:
        """Return the ids of at most `n_shots` examples, in the order in which they are shown.

        Parameters
        ----------
        model : Model
            Of all examples.
        n_shots : int
        seed : int
        query : ndarray of shape (dim,) or None
            The query's vector, where the selection depends on it.
        """


class KMeansSelector:
    """The example nearest to each centre, cluster by cluster (ERASE, section 4; Auto-CoT)."""

    per_query = False

    def select(self, model: Model, n_shots: int, seed: int, query: NDArray[np.float32] | None) -> list[int | str]:
        """Return the exemplars of the clusters that have one."""
        return [id_ for id_ in model.exemplars() if id_ is not None]


class NeighbourSelector:
    """The examples nearest to the query; the nearest comes last, next to the question."""

    per_query = True

    def select(self, model: Model, n_shots: int, seed: int, query: NDArray[np.float32] | None) -> list[int | str]:
        """Return the neighbours."""
        if query is None:
            raise TypeError("neighbours are those of a query")
        _, ids = model.neighbours(np.ascontiguousarray(query)[None], n_shots)
        return list(ids[::-1])


class RandomSelector:
    """Those whose keyed hash is smallest: a draw in which each example takes part by itself."""

    per_query = False

    def select(self, model: Model, n_shots: int, seed: int, query: NDArray[np.float32] | None) -> list[int | str]:
        """Return the draw."""
        ids: Sequence[int | str] = np.asarray(model.ids(), dtype=object).tolist()
        return heapq.nsmallest(n_shots, ids, key=_draw(seed))


def _draw(seed: int) -> Callable[[int | str], tuple[bytes, int | str]]:
    key = seed.to_bytes(8, "little")
    # The kind is hashed too: 1 and "1" are two ids.
    return lambda id_: (hashlib.blake2b(f"{type(id_).__name__}:{id_}".encode(), key=key, digest_size=16).digest(), id_)


SELECTORS: dict[Strategy, Selector] = {
    "kmeans": KMeansSelector(),
    "knn": NeighbourSelector(),
    "random": RandomSelector(),
}


def selected(settings: Settings, model: Model | None, query: NDArray[np.float32] | None = None) -> list[int | str]:
    """Return the ids of the demonstrations; without a query's vector those that do not depend on it."""
    selector = SELECTORS[settings.strategy]
    if model is None or (selector.per_query and query is None):
        return []
    return selector.select(model, settings.n_shots, settings.seed, query)
