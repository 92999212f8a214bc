"""Latency of a removal through Python, with the shares of its paths: pytest-benchmark.

    make bench

What peers take for the same is in compare.py.
"""

from __future__ import annotations

import numpy as np
import pytest
from erase_core import QKMeans
from measure import PATHS, around_directions
from pytest_benchmark.fixture import BenchmarkFixture


@pytest.mark.parametrize(("n", "dim"), [(1_000, 32), (1_000, 384), (100_000, 32), (100_000, 384)])
def test_remove(benchmark: BenchmarkFixture, n: int, dim: int) -> None:
    model = QKMeans(epsilon=1.5, max_norm=1.0).fit(around_directions(n, dim))
    ids = iter(np.random.default_rng(1).permutation(n).tolist())
    paths = dict.fromkeys(PATHS, 0)

    def remove(id_: int) -> None:
        paths[model.remove(id_).path] += 1

    benchmark.pedantic(remove, setup=lambda: ((next(ids),), {}), rounds=400)
    benchmark.extra_info.update(paths)
