"""Principal axes of public vectors, and the reader of public texts."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from erase_core import QKMeans
from erase_core.embedding.projection import principal_axes, read_public_texts
from erase_core.errors import DataError, ParameterError, SourceError
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray


def cloud(seed: int, n: int = 60, dim: int = 12) -> NDArray[np.float32]:
    """Rows about a mean that is not the origin, of a different spread along each axis of a random basis."""
    rng = np.random.default_rng(seed)
    basis = np.linalg.qr(rng.normal(size=(dim, dim)))[0]
    rows: NDArray[np.float64] = (rng.normal(size=(n, dim)) * np.geomspace(1, 0.01, dim) + 0.1) @ basis
    return rows.astype(np.float32)


@given(st.integers(0, 999), st.integers(1, 12))
def test_axes_are_orthonormal_and_keep_the_most(seed: int, n_components: int) -> None:
    X = cloud(seed)
    axes = principal_axes(X, n_components)
    assert axes.shape == (n_components, 12)
    assert axes.dtype == np.float64
    np.testing.assert_allclose(axes @ axes.T, np.eye(n_components), atol=1e-12)
    # No subspace of that dimension keeps more: the sum of the largest squared singular values (Eckart and Young).
    kept = np.sum((X.astype(float) @ axes.T) ** 2)
    best = np.sum(np.linalg.svd(X.astype(float), compute_uv=False)[:n_components] ** 2)
    np.testing.assert_allclose(kept, best, rtol=1e-9)


@given(st.integers(0, 999))
def test_axes_are_a_function_of_the_vectors_and_nested(seed: int) -> None:
    X = cloud(seed)
    axes = principal_axes(X, 12)
    assert (axes == principal_axes(X.copy(), 12)).all()
    assert (axes[:5] == principal_axes(X, 5)).all()
    # The sign is fixed by the axis, not by what the decomposition happens to return.
    np.testing.assert_allclose(axes, principal_axes(-X[::-1], 12), atol=1e-5)
    assert (np.take_along_axis(axes, np.abs(axes).argmax(axis=1, keepdims=True), axis=1) > 0).all()


def test_kmeans_takes_them() -> None:
    X = cloud(3, n=40)
    model = QKMeans(n_clusters=3, projection=principal_axes(cloud(4), 5)).fit(X)
    assert model.cluster_centers_.shape == (3, 5)


def test_as_many_texts_as_components_are_enough() -> None:
    assert principal_axes(cloud(0, n=4), 4).shape == (4, 12)


@pytest.mark.parametrize(
    ("vectors", "n_components", "error", "message"),
    [
        (cloud(0, n=3), 4, DataError, "4 axes need at least as many public texts, got 3"),
        (np.repeat(cloud(0, n=3), 9, axis=0), 4, DataError, "span only 3 directions"),
        (np.zeros((9, 12), np.float32), 1, DataError, "span only 0 directions"),
        (np.full((9, 12), np.nan, np.float32), 1, DataError, "finite matrix"),
        (np.zeros(12, np.float32), 1, DataError, r"shape \(12,\)"),
        (cloud(0), 0, ParameterError, "n_components must be an integer from 1 to 12, got 0"),
        (cloud(0), 13, ParameterError, "n_components must be an integer from 1 to 12, got 13"),
    ],
)
def test_what_has_no_axes(
    vectors: NDArray[np.float32], n_components: int, error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        principal_axes(vectors, n_components)


def test_one_text_a_line(tmp_path: Path) -> None:
    path = tmp_path / "public.txt"
    path.write_bytes("\ufeffwhere is my parcel?\r\n\n  \t\nGrüße\u2028aus Köln \nlast".encode())
    assert read_public_texts(path) == ["where is my parcel?", "Grüße\u2028aus Köln", "last"]
    assert read_public_texts(str(path)) == read_public_texts(path)


def test_files_that_hold_no_texts(tmp_path: Path) -> None:
    (tmp_path / "empty").write_text(" \n\n")
    (tmp_path / "latin").write_bytes(b"Gr\xfc\xdfe")
    for name, message in {
        "absent": "No such file",
        ".": "directory",
        "empty": "contains no text",
        "latin": "not a text file in UTF-8",
    }.items():
        with pytest.raises(SourceError, match=message) as caught:
            read_public_texts(tmp_path / name)
        assert "\n" not in str(caught.value)
