"""Selections of demonstrations: which examples a prompt shows, fitted to examples, with their removal.

Those of the product are the product's own code: `erase_core.selection` over `QKMeans`, fitted as a store fits it.
"""

from __future__ import annotations

import warnings
from abc import ABC, abstractmethod
from collections.abc import Collection, Sequence
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from erase_core.kmeans import QKMeans
from erase_core.selection import SELECTORS, RandomSelector
from erase_core.settings import N_PROMPTS, Strategy

__all__ = [
    "AutoCoTSelection",
    "LeakingSelection",
    "NoSelection",
    "RandomSelection",
    "Selection",
    "StoreSelection",
    "clustered",
]

Vectors = NDArray[np.float32]
Ids = tuple[int, ...]


def clustered(ids: Sequence[int], X: Vectors, n_clusters: int, seed: int) -> QKMeans:
    """Return the clustering of a store: at least one row of at most unit norm, and clusters beyond the rows are empty.

    Parameters
    ----------
    ids : sequence of int
    X : ndarray of shape (n, dim)
    n_clusters, seed : int
    """
    return QKMeans(n_clusters, max_norm=1.0, random_state=seed)._fit(X, ids, at_least=1)


class Selection(ABC):
    """Selects demonstrations.

    Parameters
    ----------
    n_shots : int
    """

    per_query = False
    """Whether the selection depends on the query."""
    keeps: Literal["first", "last"] = "first"
    """Which demonstrations stay in a prompt that is too long."""

    def __init__(self, n_shots: int) -> None:
        self.n_shots = n_shots

    @abstractmethod
    def fit(self, ids: Sequence[int], X: Vectors, seed: int) -> None:
        """Fit to examples, at least one. It is called once."""

    @abstractmethod
    def remove(self, ids: Collection[int]) -> None:
        """Remove examples, perhaps all. A selection of nothing is not asked for prompts."""

    @abstractmethod
    def prompts(self) -> list[Ids]:
        """Return all prompts that many queries share; none if each query gets one of its own."""

    def select(self, vector: Vectors | None) -> Ids:
        """Return the demonstrations for the vector of a query, which is needed only if `per_query`."""
        return self.prompts()[0]

    def kept_bytes(self) -> int:
        """Return the size of what is kept of vectors."""
        return 0


class NoSelection(Selection):
    """No demonstrations."""

    def fit(self, ids: Sequence[int], X: Vectors, seed: int) -> None:
        """Do nothing."""

    def remove(self, ids: Collection[int]) -> None:
        """Do nothing."""

    def prompts(self) -> list[Ids]:
        """Return the prompt without demonstrations."""
        return [()]


class RandomSelection(Selection):
    """The product's strategy "random": the smallest keyed hashes of ids."""

    def fit(self, ids: Sequence[int], X: Vectors, seed: int) -> None:
        """Keep the ids."""
        self._ids, self._seed = set(ids), seed

    def remove(self, ids: Collection[int]) -> None:
        """Drop the ids."""
        self._ids.difference_update(ids)

    def prompts(self) -> list[Ids]:
        """Return the one prompt."""
        return [_integers(RandomSelector().drawn(sorted(self._ids), self.n_shots, self._seed))]


class StoreSelection(Selection):
    """A strategy of the product over its clustering.

    Parameters
    ----------
    strategy : {"kmeans", "routed", "knn"}
    n_shots : int
    """

    def __init__(self, strategy: Strategy, n_shots: int) -> None:
        super().__init__(n_shots)
        self._selector = SELECTORS[strategy]
        self._n_clusters = N_PROMPTS if strategy == "routed" else n_shots
        self.per_query, self.keeps = self._selector.per_query, self._selector.keeps

    def fit(self, ids: Sequence[int], X: Vectors, seed: int) -> None:
        """Cluster the examples."""
        self._seed = seed
        self._clustering = clustered(ids, X, self._n_clusters, seed)

    def remove(self, ids: Collection[int]) -> None:
        """Remove by `QKMeans.remove`, after which the model equals one that was fitted without them."""
        self._clustering.remove(list(ids))

    def prompts(self) -> list[Ids]:
        """Return all prompts, each once."""
        prompts = self._selector.prompts(self._clustering._model, self.n_shots, self._seed)
        return list(dict.fromkeys(map(_integers, prompts)))

    def select(self, vector: Vectors | None) -> Ids:
        """Return the selector's choice."""
        return _integers(self._selector.select(self._clustering._model, self.n_shots, self._seed, vector))

    def kept_bytes(self) -> int:
        """Return the size of the model as a file, which has all vectors."""
        return len(self._clustering._model.to_bytes())


class AutoCoTSelection(Selection):
    """The example nearest to each centre of scikit-learn's k-means (Zhang et al., Auto-CoT, ICLR 2023).

    A removal clusters the other examples again, with the same seed and on one thread: sums of several threads have no
    fixed order, and so no fixed last bits.
    """

    def fit(self, ids: Sequence[int], X: Vectors, seed: int) -> None:
        """Cluster the examples."""
        from sklearn.cluster import KMeans
        from threadpoolctl import threadpool_limits

        self._ids, self._X, self._seed = list(ids), X, seed
        self._prompt: Ids
        with threadpool_limits(1), warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Number of distinct clusters")  # equal texts are no fault
            model = KMeans(min(self.n_shots, len(ids)), n_init=10, random_state=seed).fit(X)
            nearest = model.transform(X).argmin(axis=0).tolist()
        self._prompt = tuple(dict.fromkeys(self._ids[place] for place in nearest))

    def remove(self, ids: Collection[int]) -> None:
        """Cluster the others again."""
        gone = set(ids)
        keep = [place for place, id_ in enumerate(self._ids) if id_ not in gone]
        self._ids, self._X, self._prompt = [self._ids[place] for place in keep], self._X[keep], ()
        if keep:
            self.fit(self._ids, self._X, self._seed)

    def prompts(self) -> list[Ids]:
        """Return the one prompt."""
        return [self._prompt]

    def kept_bytes(self) -> int:
        """Return the size of the vectors."""
        return self._X.nbytes


class LeakingSelection(Selection):
    """The product's k-means in a space that was fitted to the examples, those to be removed among them.

    The paper reduces vectors by UMAP. Here it is `SpectralEmbedding` of scikit-learn on a graph of 15 neighbours: UMAP
    starts from this embedding, with as many neighbours. The number of dimensions is ours. A removal takes rows out of
    the clustering, exactly; the places of all other rows stay as they were computed with the removed one.
    """

    dimensions = 8
    neighbours = 15

    def fit(self, ids: Sequence[int], X: Vectors, seed: int) -> None:
        """Compute the space and cluster in it."""
        self._clustering = clustered(ids, self._reduced(X, seed), self.n_shots, seed)

    def _reduced(self, X: Vectors, seed: int) -> Vectors:
        from sklearn.manifold import SpectralEmbedding
        from threadpoolctl import threadpool_limits

        if len(X) <= self.dimensions + 1:  # too few for so many dimensions
            return X
        reducer = SpectralEmbedding(
            self.dimensions,
            affinity="nearest_neighbors",
            n_neighbors=min(self.neighbours, len(X) - 1),
            random_state=seed,
            n_jobs=1,
        )
        with threadpool_limits(1), warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Graph is not fully connected")  # each part then has its place
            rows = reducer.fit_transform(X.astype(np.float64))
        largest = np.linalg.norm(rows, axis=1).max()
        reduced: Vectors = (rows / largest).astype(np.float32)
        return reduced

    def remove(self, ids: Collection[int]) -> None:
        """Take rows out of the clustering, and leave the space as it is."""
        self._clustering.remove(list(ids))

    def prompts(self) -> list[Ids]:
        """Return the one prompt."""
        return [_integers([id_ for id_ in self._clustering.exemplars_ if id_ is not None])]

    def kept_bytes(self) -> int:
        """Return the size of the model as a file."""
        return len(self._clustering._model.to_bytes())


def _integers(ids: Sequence[int | str]) -> Ids:
    return tuple(id_ for id_ in ids if isinstance(id_, int))
