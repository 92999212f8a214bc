"""Fits by others, each with what it does less than a fit here: a table's lines for compare.py."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from functools import partial
from typing import NamedTuple

import numpy as np
from measure import Matrix
from numpy.typing import NDArray
from sklearn.cluster import KMeans, MiniBatchKMeans

ITERATIONS = 5
Labels = NDArray[np.int32]


class Peer(NamedTuple):
    """A fit by another library.

    `fit` takes a seed, and is what is timed. It returns a function that finds the cluster of each row, not timed.
    Where `does_less` says "assigns no rows", the library does not do that in its fit.
    """

    name: str
    does_less: str
    fit: Callable[[int], Callable[[], Labels]]


def peers(X: Matrix, k: int) -> Iterator[Peer]:
    """Each with five iterations, if they can be set, and all threads. Superkmeans runs flat, and to the end."""
    yield Peer("scikit-learn KMeans, k-means++", "-", partial(_sklearn, X, k, "k-means++"))
    yield Peer("scikit-learn KMeans, random", "random seeds", partial(_sklearn, X, k, "random"))
    yield Peer("scikit-learn MiniBatchKMeans", "looks at batches of 1 024 rows", partial(_minibatch, X, k))
    yield Peer("faiss, all points", "random seeds; assigns no rows", partial(_faiss, X, k, len(X)))
    yield Peer("faiss, its own sample", "the same, of 256 rows a cluster", partial(_faiss, X, k, 256))
    everything = "random seeds; prunes; assigns no rows"
    yield Peer("superkmeans, all points", everything, partial(_superkmeans, X, k, 1.0, len(X)))
    yield Peer("superkmeans, its own sample", "the same, of 256 rows a cluster", partial(_superkmeans, X, k, None, 256))


def _sklearn(X: Matrix, k: int, init: str, seed: int) -> Callable[[], Labels]:
    model = KMeans(k, init=init, n_init=1, max_iter=ITERATIONS, tol=0, algorithm="lloyd", random_state=seed).fit(X)
    return lambda: model.labels_


def _minibatch(X: Matrix, k: int, seed: int) -> Callable[[], Labels]:
    model = MiniBatchKMeans(k, n_init=1, max_iter=ITERATIONS, random_state=seed).fit(X)
    return lambda: model.labels_


def _faiss(X: Matrix, k: int, points: int, seed: int) -> Callable[[], Labels]:
    import faiss

    model = faiss.Kmeans(X.shape[1], k, niter=ITERATIONS, max_points_per_centroid=points, seed=seed)
    model.train(X)
    return lambda: model.index.search(X, 1)[1].ravel().astype(np.int32)


def _superkmeans(X: Matrix, k: int, sample: float | None, points: int, seed: int) -> Callable[[], Labels]:
    from superkmeans import SuperKMeans

    model = SuperKMeans(
        k,
        X.shape[1],
        hierarchical=False,
        iters=ITERATIONS,
        sampling_fraction=sample,
        max_points_per_cluster=points,
        early_termination=False,
        n_threads=os.cpu_count() or 1,
        seed=seed,
    )
    centres = model.train(X)
    return lambda: model.assign(X, centres).astype(np.int32)
