"""kneighbors against the definition: all squared distances of the quantised rows, in integers, sorted with the ids."""

from __future__ import annotations

import numpy as np
import pytest
from erase_core import EmptyModelError, ParameterError, QKMeans
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from sklearn.neighbors import NearestNeighbors


def on_a_grid(seed: int, n: int, dim: int) -> NDArray[np.float64]:
    """Rows that fixed point holds exactly: multiples of 2**-8 with norms below 4."""
    return np.random.default_rng(seed).integers(-200, 201, size=(n, dim)) / 256.0


@given(
    seed=st.integers(0, 10**6),
    n=st.integers(1, 70),
    dim=st.integers(1, 5),
    count=st.integers(1, 70),
    scale=st.sampled_from([1, 1, 4, 64]),
    strings=st.booleans(),
)
def test_nearest_rows_ties_to_the_smaller_id(
    seed: int, n: int, dim: int, count: int, scale: int, strings: bool
) -> None:
    X, queries = on_a_grid(seed, n, dim), scale * on_a_grid(seed + 1, 3, dim)
    numbers = np.random.default_rng(seed).permutation(n)
    ids = [f"{i:03}" for i in numbers.tolist()] if strings else numbers.tolist()
    model = QKMeans(1, max_norm=4.0, n_threads=1).fit(X, ids=ids)
    count = min(count, n)
    distances, found = model.kneighbors(queries, n_neighbors=count)
    for q, near, row in zip(queries, distances, found.tolist(), strict=True):
        squares = ((256 * X - 256 * q) ** 2).sum(axis=1)
        order = sorted(range(n), key=lambda i: (squares[i], ids[i]))[:count]
        assert row == [ids[i] for i in order]
        np.testing.assert_allclose(near, np.sqrt(squares[order]) / 256, rtol=1e-12)


@given(seed=st.integers(0, 10**6), gone=st.integers(1, 49))
def test_removed_rows_leave_no_trace(seed: int, gone: int) -> None:
    X, queries = on_a_grid(seed, 50, 4), on_a_grid(seed + 1, 20, 4)
    model = QKMeans(3, max_norm=4.0).fit(X)
    model.remove(range(gone))
    fresh = QKMeans(3, max_norm=4.0)._fit(X[gone:], range(gone, 50), at_least=1)
    for ours, theirs in zip(model.kneighbors(queries, 1), fresh.kneighbors(queries, 1), strict=True):
        assert (ours == theirs).all()


def test_as_scikit_learn_finds_them() -> None:
    rng = np.random.default_rng(0)
    X, queries = rng.normal(size=(2, 3000, 64)).astype(np.float32)
    model = QKMeans(8).fit(X)
    distances, ids = model.kneighbors(queries[:50], 10)
    expected, _ = NearestNeighbors(n_neighbors=10, algorithm="brute").fit(X).kneighbors(queries[:50])
    # Fixed point moves a row by at most half a unit in each of 64 coordinates; the unit is max norm / 2**14.
    unit = 2.0 ** np.ceil(np.log2(np.linalg.norm(X, axis=1).max())) / 2**14
    assert np.abs(distances - expected).max() < 2 * 0.5 * unit * np.sqrt(64)
    assert ids.dtype == np.int64


def test_what_cannot_be_asked() -> None:
    model = QKMeans(2).fit(on_a_grid(0, 10, 2))
    for count in (0, 11, 2.0, "3"):
        with pytest.raises(ParameterError, match="n_neighbors"):
            model.kneighbors([[0.0, 0.0]], count)  # type: ignore[arg-type]
    model.remove(range(10))
    with pytest.raises(EmptyModelError):
        model.kneighbors([[0.0, 0.0]])
