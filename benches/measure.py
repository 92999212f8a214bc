"""What the benches share: rows, removals one by one, and their figures."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

import numpy as np
from erase_core import QKMeans
from numpy.typing import NDArray
from sklearn.cluster import KMeans

Matrix = NDArray[np.float32]
PATHS = ("certified", "replayed", "reseeded")


def normalised(X: NDArray[np.floating]) -> Matrix:
    """Rows of norm 1."""
    return np.asarray(X / np.linalg.norm(X, axis=1, keepdims=True), dtype=np.float32)


def sentence_like(real: Matrix, n: int) -> Matrix:
    """Mixtures of differences of real embeddings: a row plus a third of the difference of two others, of norm 1.

    At a third, gain and shares of the paths are close to those of as many real rows (compare.py shows both).
    """
    rng = np.random.default_rng(0)
    a, b, c = (rng.integers(len(real), size=n) for _ in range(3))
    rows = np.empty((n, real.shape[1]), dtype=np.float32)
    for part in np.array_split(np.arange(n), max(1, n // 50_000)):
        rows[part] = normalised(real[a[part]] + 0.35 * (real[b[part]] - real[c[part]]))
    return rows


def around_directions(n: int, dim: int) -> Matrix:
    """Rows of norm 1 around forty random directions, where there are no real ones."""
    rng = np.random.default_rng(0)
    directions = rng.normal(size=(40, dim)).astype(np.float32)
    rows = np.empty((n, dim), dtype=np.float32)
    for part in np.array_split(np.arange(n), max(1, n // 500_000)):
        noise = rng.standard_normal(size=(len(part), dim), dtype=np.float32)
        rows[part] = normalised(directions[rng.integers(40, size=len(part))] + noise)
    return rows


def seconds(run: Callable[[], object], repeats: int = 3) -> float:
    """Shortest wall-clock time of several runs."""
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        run()
        times.append(time.perf_counter() - start)
    return min(times)


def partition_inertia(X: Matrix, labels: NDArray[np.int32]) -> float:
    """Sum of squared distances to the exact means of the clusters."""
    k = int(labels.max()) + 1
    total = 0.0
    for j in range(k):
        rows = X[labels == j].astype(np.float64)
        total += float((rows**2).sum() - (rows.sum(axis=0) ** 2).sum() / max(1, len(rows)))
    return total


def references(X: Matrix, k: int, max_iter: int, seeds: int) -> tuple[float, float]:
    """Mean inertia of a random partition, and of scikit-learn's KMeans with one start."""
    random, kmeans = [], []
    for seed in range(seeds):
        labels = np.random.default_rng(seed).integers(k, size=len(X)).astype(np.int32)
        random.append(partition_inertia(X, labels))
        peer = KMeans(k, n_init=1, max_iter=max_iter, tol=0, random_state=seed, algorithm="lloyd")
        kmeans.append(partition_inertia(X, peer.fit(X).labels_))
    return float(np.mean(random)), float(np.mean(kmeans))


def fit_work(model: QKMeans, n: int) -> int:
    """Multiply-adds of a fit: on the panel all distances in each step and eight in a round; then those of all rows."""
    k: int = model.cluster_centers_.shape[0]
    dim: int = model.cluster_centers_.shape[1]
    panel = model._fitted().params()["panel"] or n
    return min(n, panel) * dim * (model.n_iter_ * k + 8 * (k - 1) + 1) + n * dim * k


@dataclass
class Removals:
    """Times (seconds) and work (as a share of a fit's) of removals, by path."""

    seconds: dict[str, list[float]] = field(default_factory=lambda: {path: [] for path in PATHS})
    work: dict[str, list[float]] = field(default_factory=lambda: {path: [] for path in PATHS})

    def run(self, model: QKMeans, ids: Iterable[int], before: Callable[[], object] | None = None) -> Removals:
        """Remove rows one by one; `before` is called before each, outside the time."""
        whole = fit_work(model, len(model.ids_))
        for id_ in ids:
            if before is not None:
                before()
            start = time.perf_counter()
            report = model.remove(id_)
            self.seconds[report.path].append(time.perf_counter() - start)
            self.work[report.path].append(report.work / whole)
        return self

    @property
    def all_seconds(self) -> NDArray[np.float64]:
        """Times of all paths together."""
        return np.concatenate([np.array(times) for times in self.seconds.values()])

    @property
    def all_work(self) -> NDArray[np.float64]:
        """Work of all paths together."""
        return np.concatenate([np.array(work) for work in self.work.values()])

    def share(self, path: str) -> float:
        """How many went this way."""
        return len(self.seconds[path]) / max(1, sum(map(len, self.seconds.values())))

    def figures(self) -> dict[str, float]:
        """Shares of the paths; microseconds; work of a replay and of all removals, as a share of a fit's."""
        every = 1e6 * self.all_seconds
        medians = {f"{path}_us": 1e6 * float(np.median(times)) for path, times in self.seconds.items() if times}
        replay = {"replay_work": float(np.median(self.work["replayed"]))} if self.work["replayed"] else {}
        return {
            **{path: self.share(path) for path in PATHS},
            **medians,
            "us_median": float(np.median(every)),
            "us_mean": float(every.mean()),
            "us_p99": float(np.quantile(every, 0.99)),
            **replay,
            "work_mean": float(self.all_work.mean()),
            "work_p99": float(np.quantile(self.all_work, 0.99)),
        }
