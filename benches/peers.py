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

    `fit` takes what is timed, and returns a function that finds the cluster of each row, which is not timed where the
    library does not do it in its fit.
    """

    name: str
    does_less: str
    fit: Callable[[], Callable[[], Labels]]


def peers(X: Matrix, k: int) -> Iterator[Peer]:
    """Each with its own seeding, five iterations where they can be set, and all threads."""
    for init in ("random", "k-means++"):
        yield Peer(f"scikit-learn KMeans, {init}", "-", partial(_sklearn, X, k, init))
    yield Peer("scikit-learn MiniBatchKMeans", "looks at batches of 1 024 rows", lambda: _minibatch(X, k))
    yield Peer("faiss, all points", "random seeds", lambda: _faiss(X, k, len(X)))
    sample = "256 rows a cluster; assigns no rows"
    yield Peer("faiss, its own sample", sample, lambda: _faiss(X, k, 256))
    yield Peer("superkmeans, all points", "random seeds; prunes", lambda: _superkmeans(X, k, 1.0, len(X)))
    yield Peer(
        "superkmeans, its own sample", "256 rows a cluster; assigns no rows", lambda: _superkmeans(X, k, None, 256)
    )


def _sklearn(X: Matrix, k: int, init: str) -> Callable[[], Labels]:
    model = KMeans(k, init=init, n_init=1, max_iter=ITERATIONS, tol=0, algorithm="lloyd", random_state=1).fit(X)
    return lambda: model.labels_


def _minibatch(X: Matrix, k: int) -> Callable[[], Labels]:
    model = MiniBatchKMeans(k, n_init=1, max_iter=ITERATIONS, random_state=1).fit(X)
    return lambda: model.labels_


def _faiss(X: Matrix, k: int, points: int) -> Callable[[], Labels]:
    import faiss

    model = faiss.Kmeans(X.shape[1], k, niter=ITERATIONS, max_points_per_centroid=points, seed=1)
    model.train(X)
    return lambda: model.index.search(X, 1)[1].ravel().astype(np.int32)


def _superkmeans(X: Matrix, k: int, sample: float | None, points: int) -> Callable[[], Labels]:
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
        seed=1,
    )
    centres = model.train(X)
    return lambda: model.assign(X, centres).astype(np.int32)
