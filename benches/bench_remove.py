"""What one removal costs through Python, beside the refit that it saves: pytest-benchmark.

make bench
"""

from __future__ import annotations

import numpy as np
import pytest
from erase_core import QKMeans
from numpy.typing import NDArray
from pytest_benchmark.fixture import BenchmarkFixture
from sklearn.cluster import KMeans


def rows(n: int, dim: int) -> NDArray[np.float32]:
    """Rows of unit norm around eight directions."""
    rng = np.random.default_rng(0)
    X = rng.normal(size=(8, dim))[rng.integers(8, size=n)] + rng.normal(size=(n, dim))
    return np.asarray(X / np.linalg.norm(X, axis=1, keepdims=True), dtype=np.float32)


SIZES = [(1_000, 32), (1_000, 384), (100_000, 32), (20_000, 384)]


@pytest.mark.parametrize(("n", "dim"), SIZES)
def test_remove(benchmark: BenchmarkFixture, n: int, dim: int) -> None:
    model = QKMeans(max_norm=1.0).fit(rows(n, dim))
    ids = iter(np.random.default_rng(1).permutation(n).tolist())
    paths = {"certified": 0, "replayed": 0, "reseeded": 0}

    def remove(id_: int) -> None:
        paths[model.remove(id_).path] += 1

    benchmark.pedantic(remove, setup=lambda: ((next(ids),), {}), rounds=200)
    benchmark.extra_info.update(paths)


@pytest.mark.parametrize(("n", "dim"), SIZES)
def test_refit(benchmark: BenchmarkFixture, n: int, dim: int) -> None:
    X = rows(n, dim)
    benchmark.pedantic(lambda: QKMeans(max_norm=1.0).fit(X), rounds=3)


@pytest.mark.parametrize(("n", "dim"), SIZES)
def test_refit_by_scikit_learn(benchmark: BenchmarkFixture, n: int, dim: int) -> None:
    X = rows(n, dim)
    benchmark.pedantic(lambda: KMeans(8, n_init=1, max_iter=10, tol=0).fit(X), rounds=3)
