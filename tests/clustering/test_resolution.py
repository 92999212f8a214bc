"""Rows too close together for the fixed point are told of, by a figure that follows the rows; a center helps.

What the figure is to the bit is test_against_oracle's business, that it follows the rows test_contract's too.
"""

from __future__ import annotations

import pickle
import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from erase_core import DataWarning, EraseError, ParameterError, QKMeans
from erase_core.resolution import COARSE
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from sklearn.base import clone
from sklearn.cluster import KMeans
from sklearn.datasets import load_digits, load_iris, load_wine, make_blobs
from sklearn.metrics import adjusted_rand_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler

Rows = NDArray[np.float64]


def blobs(d: int = 2, n: int = 300, seed: int = 0) -> tuple[Rows, NDArray[np.int64]]:
    made: tuple[Rows, NDArray[np.int64]] = make_blobs(n, d, centers=3, cluster_std=0.8, random_state=seed)
    return made


def beside_one(rows: Rows, far: float) -> Rows:
    return np.vstack([rows, np.full(rows.shape[1], far)])


def quiet(fit: Callable[[], Any]) -> Any:
    """What a call returns that must not warn."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        return fit()


# ---- when it warns ----
@pytest.mark.parametrize("d", [1, 2, 8, 64])
@pytest.mark.parametrize("offset", [1e5, -1e6, 1e9])
def test_rows_far_from_the_origin_are_told_of(d: int, offset: float) -> None:
    for options in ({}, {"epsilon": 0.001}, {"projection": 4}, {"n_clusters": 1}):
        with pytest.warns(DataWarning, match=r"resolution_.*center="):
            model = QKMeans(**{"n_clusters": 3} | options).fit(blobs(d)[0] + offset)
        assert model.resolution_ > COARSE


def test_an_offset_that_spoils_the_clusters_is_told_of() -> None:
    with pytest.warns(DataWarning):
        QKMeans(3).fit(blobs()[0] + 1e4)


@pytest.mark.parametrize("n", [20, 300])
@pytest.mark.parametrize("offset", [0.0, 1e3])
def test_a_row_much_larger_than_the_others_is_told_of(n: int, offset: float) -> None:
    for far in (1e5, -1e7, 1e30):
        with pytest.warns(DataWarning, match="much larger"):
            QKMeans(3).fit(beside_one(blobs(n=n)[0] + offset, far))


def test_a_bound_far_above_the_rows_is_told_of() -> None:
    with pytest.warns(DataWarning, match="max_norm"):
        QKMeans(3, max_norm=1e6).fit(blobs()[0])


def test_rows_that_are_all_equal_in_fixed_point_have_no_resolution() -> None:
    with pytest.warns(DataWarning, match="inf"):
        assert QKMeans(3).fit(blobs()[0] + 1e12).resolution_ == np.inf


def test_ordinary_rows_are_not_told_of() -> None:
    rng = np.random.default_rng(0)
    units = rng.normal(size=(400, 384))
    units /= np.linalg.norm(units, axis=1)[:, None]
    alike = np.ones(384) / np.sqrt(384) + units / 8  # a narrow cone, as of sentences about one thing
    alike /= np.linalg.norm(alike, axis=1)[:, None]
    ordinary = [load_iris().data, load_digits().data, units, alike, *(blobs(d)[0] for d in (1, 2, 8, 64))]
    ordinary += [StandardScaler().fit_transform(load_wine().data), rng.normal(100, size=(100, 2)), 1e-9 * units]
    for rows in ordinary:
        for k in (1, 3, 8):
            quiet(partial(QKMeans(k).fit, rows))
    for options in ({"epsilon": 3.0}, {"epsilon": 1e-6}, {"projection": 32}, {"max_norm": 1.0}):
        quiet(partial(QKMeans(8, **options).fit, units))


def test_tight_clusters_far_from_each_other_are_not_told_of() -> None:
    rows = 10.0 * np.repeat(np.eye(4), 50, axis=0)
    assert quiet(lambda: QKMeans(4).fit(rows)).inertia_ == 0.0


def test_fewer_than_two_rows_have_nothing_to_be_told_apart() -> None:
    model = quiet(lambda: QKMeans(1).fit([[1e9, 0.0]]))
    assert model.resolution_ == 0.0
    model.remove(0)
    assert model.resolution_ == 0.0


@pytest.mark.parametrize(
    "fit",
    [
        lambda rows: QKMeans(3).fit(rows),
        lambda rows: QKMeans(3).fit_predict(rows),
        lambda rows: QKMeans(3).fit_transform(rows),
        lambda rows: make_pipeline(FunctionTransformer(), QKMeans(3)).fit(rows),
    ],
    ids=["fit", "fit_predict", "fit_transform", "pipeline"],
)
def test_the_warning_names_a_line_of_the_user(fit: Callable[[Rows], object]) -> None:
    """Python shows it once for each line, so one of the library's would hide those of all other fits."""
    with pytest.warns(DataWarning) as caught:
        fit(blobs()[0] + 1e6)
    assert [warning.filename for warning in caught] == [__file__]


# ---- updates ----
def test_an_update_warns_where_it_makes_the_model_coarse_and_not_again() -> None:
    rows, _ = blobs()
    model = quiet(lambda: QKMeans(3).fit(rows))
    with pytest.warns(DataWarning) as caught:
        model.add([[1e6, 1e6]], ids=[1000])
    assert [warning.filename for warning in caught] == [__file__]
    quiet(lambda: model.remove([0, 1]))
    quiet(lambda: model.add(rows[:2], ids=[0, 1]))
    quiet(lambda: model.remove(1000))
    assert model.digest() == QKMeans(3).fit(rows).digest()
    with pytest.warns(DataWarning):
        model.add([[1e6, 1e6]])


def test_a_removal_can_make_the_model_coarse() -> None:
    rows = np.vstack([blobs()[0] + 1e6, blobs()[0] - 1e6])
    model = quiet(lambda: QKMeans(2).fit(rows))
    with pytest.warns(DataWarning):
        model.remove(range(300))


@pytest.mark.filterwarnings("ignore::erase_core.DataWarning")
@given(seed=st.integers(0, 10**6), exponent=st.integers(0, 9), center=st.booleans())
def test_the_figure_is_that_of_a_fresh_fit(seed: int, exponent: int, center: bool) -> None:
    rng = np.random.default_rng(seed)
    rows = rng.normal(size=(40, 3)) + 10.0**exponent * rng.integers(0, 2, size=3)
    rows[rng.integers(40, size=2)] *= 10.0 ** rng.integers(0, 6)
    given_center = rows[:10].mean(axis=0) if center else None
    order = rng.permutation(40)
    first, later, gone = order[:25], order[25:], rng.permutation(40)[:12]
    model = QKMeans(4, center=given_center).fit(rows[first], ids=first)
    model.add(rows[later], ids=later)
    model.remove(gone)
    left = np.setdiff1d(order, gone)
    fresh = QKMeans(4, center=given_center).fit(rows[left], ids=left)
    assert model.resolution_ == fresh.resolution_
    assert (model.resolution_ > COARSE) == (fresh.resolution_ > COARSE)
    assert model.digest() == fresh.digest()


# ---- the center ----
@pytest.mark.parametrize("offset", [1e4, 1e5, 1e9])
def test_with_a_center_rows_far_away_are_clustered_as_at_the_origin(offset: float) -> None:
    rows, _ = blobs()
    center = [offset, -offset]
    model = quiet(lambda: QKMeans(3, epsilon=0.01, center=center).fit(rows + center))
    near = KMeans(3, n_init=10, random_state=0).fit(rows)
    assert adjusted_rand_score(model.labels_, QKMeans(3, epsilon=0.01).fit(rows).labels_) == 1.0
    # Both by the lattice's pitch, a hundredth of 16 over the root of 2: the mean is at most one away, and its square.
    pitch = 0.16 / np.sqrt(2)
    for j, shown in enumerate(model.cluster_centers_):
        assert np.abs(shown - (rows + center)[model.labels_ == j].mean(axis=0)).max() < pitch
    assert near.inertia_ - 1e-3 < model.inertia_ < near.inertia_ + 300 * 2 * pitch**2


@pytest.mark.parametrize("projection", [None, [[1.0, 0.0, 0.0], [0.0, 0.0, 1.0]]])
def test_what_is_exact_at_the_origin_is_the_same_with_a_center(projection: Any) -> None:
    """Integers, so that nothing is rounded when the center is added and subtracted."""
    rng = np.random.default_rng(0)
    rows, center = rng.integers(-50, 50, size=(60, 3)).astype(float), np.array([2.0**30, -(2.0**20), 7.0])
    plain = QKMeans(4, projection=projection).fit(rows[:50])
    moved = QKMeans(4, projection=projection, center=center).fit((rows + center)[:50])
    for model, shift in ((plain, 0.0), (moved, center)):
        model.add((rows + shift)[50:])
        model.remove([3, 4, 5])
    assert moved.labels_.tolist() == plain.labels_.tolist()
    assert moved.exemplars_ == plain.exemplars_
    assert (moved.inertia_, moved.n_iter_, moved.resolution_) == (plain.inertia_, plain.n_iter_, plain.resolution_)
    queries = rng.integers(-90, 90, size=(20, 3)).astype(float)
    for method in ("predict", "transform", "score"):
        assert np.array_equal(getattr(moved, method)(queries + center), getattr(plain, method)(queries))
    for ours, theirs in zip(moved.kneighbors(queries + center), plain.kneighbors(queries), strict=True):
        assert np.array_equal(ours, theirs)
    expected = center if projection is None else np.array(projection) @ center
    assert np.array_equal(moved.cluster_centers_, plain.cluster_centers_ + expected)
    assert moved.digest() != plain.digest()


def test_centres_under_random_signs_lie_where_the_projected_rows_do() -> None:
    rows, center = blobs(8)[0], np.linspace(-300, 900, 8)
    without, with_center = (QKMeans(3, projection=6, center=c).fit(rows + center) for c in (None, center))
    # One figure by both, to the lattice of the first.
    gap = with_center.cluster_centers_.mean(axis=0) - without.cluster_centers_.mean(axis=0)
    assert np.abs(gap).max() < 2048 / np.sqrt(6) * 2


@pytest.mark.parametrize(
    "center", [None, [3.0, -4.0], (0.1, 1e9), np.array([5, 7]), np.array([0.1, 0.2], dtype=np.float32)]
)
@pytest.mark.parametrize("projection", [None, 3, [[0.6, 0.8]]])
def test_a_saved_model_has_its_center(center: Any, projection: Any, tmp_path: Path) -> None:
    rows, path = blobs()[0] + (0.0 if center is None else np.asarray(center)), tmp_path / "model"
    model = QKMeans(3, center=center, projection=projection, max_norm=100.0).fit(rows)
    model.save(path)
    for again in (QKMeans.load(path), pickle.loads(pickle.dumps(model))):
        assert again.digest() == model.digest()
        assert np.array_equal(again.cluster_centers_, model.cluster_centers_)
        assert again.predict(rows).tolist() == model.labels_.tolist()
        again.add(rows[:2] + 1, ids=[900, 901])
        again.remove([900, 901])
        assert again.digest() == model.digest()
        assert clone(again).fit(rows).digest() == model.digest()


def test_zeros_are_no_center() -> None:
    rows, _ = blobs()
    for zeros in ([0.0, 0.0], [-0.0, 0], np.zeros(2)):
        assert QKMeans(3, center=zeros).fit(rows).digest() == QKMeans(3).fit(rows).digest()


def test_a_center_is_one_in_either_precision_of_the_rows() -> None:
    rows = blobs()[0].astype(np.float32)
    single, double = (QKMeans(3, center=[0.1, 10.0]).fit(each) for each in (rows, rows.astype(np.float64)))
    assert single.digest() == double.digest()


def test_max_norm_counts_from_the_center() -> None:
    rows = blobs()[0] + 1e4
    quiet(lambda: QKMeans(3, center=[1e4, 1e4], max_norm=32.0).fit(rows))
    with pytest.raises(EraseError, match="max_norm"):
        QKMeans(3, center=[-1e4, 1e4], max_norm=32.0).fit(rows)


WRONG: list[tuple[Any, str]] = [
    ([1.0], r"shape \(n_features=2,\), got \(1,\)"),
    ([1.0, 2.0, 3.0], r"\(3,\)"),
    ([[1.0, 2.0]], r"\(1, 2\)"),
    (1.0, r"\(\)"),
    ("ab", r"\(\)"),
    ([], r"\(0,\)"),
    ([1.0, np.nan], "nan at column 1"),
    ([-np.inf, 1.0], "-inf at column 0"),
    ([True, False], "bool"),
    ([1j, 0], "complex"),
    (["1", "2"], "real numbers"),
    ([None, 1.0], "object"),
    (np.ma.masked_array([1.0, 2.0], mask=[True, False]), "masked"),
]


@pytest.mark.parametrize(("center", "message"), WRONG, ids=str)
def test_a_center_that_is_none_is_refused(center: Any, message: str) -> None:
    model = QKMeans(3, center=center)
    with pytest.raises(ParameterError, match=f"center.*{message}"):
        model.fit(blobs()[0])
    assert not hasattr(model, "labels_")


@pytest.mark.filterwarnings("ignore::erase_core.DataWarning")
def test_a_difference_that_is_no_float_is_refused() -> None:
    model = QKMeans(1, center=[-1e308, 0.0]).fit([[0.0, 0.0], [1.0, 1.0]])
    before = model.digest()
    for method in (model.add, model.predict):
        with pytest.raises(EraseError, match="X minus center is infinite at row 1, column 0"):
            method([[0.0, 0.0], [1e308, 0.0]])
    assert model.digest() == before


# ---- what a caller may misplace ----
@pytest.mark.parametrize("arguments", [([5], [[1.0, 2.0]]), ([[1.0, 2.0]], [5])])
def test_ids_by_position_get_a_hint(arguments: tuple[Any, Any]) -> None:
    model = QKMeans(3).fit(blobs()[0])
    before = model.digest()
    with pytest.raises(EraseError, match=r"add\(X, ids=ids\)") as raised:
        model.add(*arguments)
    assert isinstance(raised.value, TypeError)
    assert model.digest() == before


def test_rows_in_the_place_of_y_get_a_hint() -> None:
    rows, _ = blobs()
    for method in (QKMeans(3).fit, QKMeans(3).fit_predict):
        with pytest.raises(EraseError, match=r"fit\(X, ids=ids\)"):
            method(list(range(300)), rows)
