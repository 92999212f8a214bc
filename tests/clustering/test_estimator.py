"""QKMeans keeps scikit-learn's rules, and its attributes and methods agree with each other."""

from __future__ import annotations

import inspect
import pickle
from copy import deepcopy
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from erase_core import QKMeans
from fits import Config, Id, fresh, id_list, matrix, state
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from problems import INT_IDS, TEXT_IDS, Problem, problems, row_sets
from sklearn.base import clone, is_clusterer
from sklearn.exceptions import NotFittedError
from sklearn.metrics import adjusted_rand_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import Normalizer, StandardScaler
from sklearn.utils.estimator_checks import parametrize_with_checks

FITTED = ["cluster_centers_", "labels_", "ids_", "exemplars_", "inertia_", "n_iter_", "seed_", "n_features_in_"]
FITTED += ["resolution_"]
MATRIX = np.array([[0.6, 0.8, 0.0], [0.0, 0.6, 0.8]])


@pytest.fixture
def x() -> NDArray[np.float64]:
    return np.random.default_rng(0).normal(size=(40, 3))


# ---- scikit-learn's own checks, without exemption ----
@parametrize_with_checks(  # type: ignore[untyped-decorator]
    [
        QKMeans(),
        QKMeans(random_state=None),
        QKMeans(2, epsilon=0.01, gamma=1, max_norm=1000.0),
        QKMeans(n_clusters=1, projection=4, n_threads=1),
    ]
)
def test_scikit_learn_s_checks_pass(estimator: QKMeans, check: Any) -> None:
    check(estimator)


# ---- parameters ----
def test_constructor_only_stores() -> None:
    """Nonsense is kept as it is and refused by fit: what clone and grid searches rely on."""
    nonsense = {name: object() for name in inspect.signature(QKMeans).parameters}
    model = QKMeans(**nonsense)  # type: ignore[arg-type]
    assert all(getattr(model, name) is value for name, value in nonsense.items())
    assert model.get_params() == nonsense


def test_defaults_are_those_that_the_docstring_states() -> None:
    documented = (QKMeans.__doc__ or "").split("Attributes\n")[0]
    for name, parameter in inspect.signature(QKMeans).parameters.items():
        line = next(line for line in documented.splitlines() if line.strip().startswith(f"{name} :"))
        assert line.endswith((f"default={parameter.default}", f'default="{parameter.default}"'))


def test_set_params_acts_at_the_next_fit_only(x: NDArray[np.float64]) -> None:
    model = QKMeans(3).fit(x)
    before = model.digest()
    model.set_params(n_clusters=5, epsilon=0.1, random_state=7)
    model.remove([])
    assert model.digest() == before
    assert model.fit(x).digest() == QKMeans(5, epsilon=0.1, random_state=7).fit(x).digest()


def test_clone_is_unfitted_and_of_equal_parameters(x: NDArray[np.float64]) -> None:
    model = QKMeans(3, projection=MATRIX, epsilon=0.25, max_norm=9.0, random_state=5, n_threads=1).fit(x)
    copy = clone(model)
    with pytest.raises(NotFittedError):
        copy.digest()
    assert copy.fit(x).digest() == model.digest()


def test_it_is_a_clusterer() -> None:
    assert is_clusterer(QKMeans())


# ---- seeds ----
def test_none_draws_a_seed_and_keeps_it(x: NDArray[np.float64]) -> None:
    model = QKMeans(3, random_state=None).fit(x)
    again = QKMeans(3, random_state=None).fit(x)
    assert len({again.seed_, model.seed_, 0}) == 3
    assert len({again.digest(), model.digest(), QKMeans(3).fit(x).digest()}) == 3
    assert QKMeans(3, random_state=model.seed_).fit(x).digest() == model.digest()


def test_none_draws_anew_at_each_fit_and_nowhere_else(x: NDArray[np.float64], tmp_path: Path) -> None:
    model = QKMeans(3, random_state=None).fit(x)
    seed, before = model.seed_, model.digest()
    model.remove(5)
    model.add(x[5:6], ids=[5])
    assert (model.seed_, model.digest(), model.get_params()["random_state"]) == (seed, before, None)
    for copy in (pickle.loads(pickle.dumps(model)), deepcopy(model)):
        assert (copy.seed_, copy.digest(), copy.random_state) == (seed, before, None)
    model.save(tmp_path / "model")
    loaded = QKMeans.load(tmp_path / "model")
    assert (loaded.seed_, loaded.random_state, loaded.fit(x).digest()) == (seed, seed, before)
    unfitted = clone(model)
    assert not hasattr(unfitted, "seed_")
    assert len({seed, model.fit(x).seed_, model.fit(x).seed_, unfitted.fit(x).seed_}) == 4
    assert model.set_params(random_state=seed).fit(x).digest() == before
    assert model.set_params(random_state=None).fit(x).seed_ != seed


def test_a_fit_that_fails_keeps_the_seed(x: NDArray[np.float64]) -> None:
    model = QKMeans(3, random_state=None).fit(x)
    seed, before = model.seed_, model.digest()
    with pytest.raises(ValueError, match="n_samples"):
        model.fit(x[:2])
    assert (model.seed_, model.digest()) == (seed, before)


@pytest.mark.parametrize("make", [np.random.RandomState, np.random.default_rng])
def test_a_generator_is_drawn_from_once_for_each_fit(make: Any, x: NDArray[np.float64]) -> None:
    model = QKMeans(3, random_state=make(4)).fit(x)
    seed, digest = model.seed_, model.digest()
    assert QKMeans(3, random_state=make(4)).fit(x).digest() == digest
    assert QKMeans(3, random_state=seed).fit(x).digest() == digest
    assert model.fit(x).seed_ != seed


@pytest.mark.parametrize("seed", [0, 1, 2**63, 2**64 - 1, np.uint64(2**64 - 1), np.int8(3)])
def test_an_integer_is_the_seed(seed: int, x: NDArray[np.float64]) -> None:
    model = QKMeans(3, random_state=seed).fit(x)
    assert model.seed_ == seed
    assert type(model.seed_) is int


def test_the_seed_matters(x: NDArray[np.float64]) -> None:
    models = [QKMeans(3, random_state=seed).fit(x) for seed in (0, 1, 2**32, 2**32 + 1, 2**63, 2**64 - 1)]
    assert len({model.digest() for model in models}) == len(models)
    assert len({model.cluster_centers_.tobytes() for model in models}) == len(models)


# ---- results agree ----
@pytest.mark.filterwarnings("ignore::erase_core.DataWarning")  # of few rows, many of them equal
@given(problem=problems(), ids=st.sampled_from([INT_IDS, TEXT_IDS]), data=st.data())
def test_methods_agree_on_the_rows_that_were_fitted(problem: Problem, ids: list[Id], data: st.DataObject) -> None:
    """Prediction gives the labels, the nearest centre is the nearest by transform, the score is minus the inertia.

    Exactly: the loss is an integer far below 2^53 times a power of two, so summing it in floats rounds nothing.
    """
    config = problem.config
    rows = data.draw(row_sets(problem, ids, config.n_clusters, 20))
    x, keys = matrix(list(rows.values()), config.d), list(rows)
    model = config.estimator().fit(x, ids=id_list(keys))
    in_order = [keys.index(id_) for id_ in model.ids_]
    assert model.predict(x)[in_order].tolist() == model.labels_.tolist()
    assert model.transform(x).argmin(axis=1).tolist() == model.predict(x).tolist()
    assert model.score(x) == -model.inertia_
    assert config.estimator().fit_predict(x, ids=id_list(keys)).tolist() == model.predict(x).tolist()
    distances = model.transform(x)[in_order, :]
    for cluster, exemplar in enumerate(model.exemplars_):
        members = np.flatnonzero(model.labels_ == cluster)
        assert (exemplar is None) == (len(members) == 0)
        if exemplar is not None:
            nearest = members[distances[members, cluster].argmin()]
            assert model.ids_[nearest] == exemplar


def test_labels_follow_the_ids_and_fit_predict_follows_the_rows(x: NDArray[np.float64]) -> None:
    ids = [(7 * i) % 40 for i in range(40)]
    model = QKMeans(4).fit(x, ids=ids)
    assert list(model.ids_) == sorted(ids)
    given = QKMeans(4).fit_predict(x, ids=ids).tolist()
    assert given == model.predict(x).tolist()
    assert given == [model.labels_[id_] for id_ in ids]
    assert given != model.labels_.tolist()
    assert QKMeans(4).fit_predict(x, ids=iter(ids)).tolist() == given
    assert QKMeans(4).fit_predict(x).tolist() == QKMeans(4).fit(x).labels_.tolist()


def test_string_ids_follow_the_order_of_their_utf8_bytes(x: NDArray[np.float64]) -> None:
    ids = [*TEXT_IDS, "\ufb01", "\U0010ffff"][::-1]
    model = QKMeans(4).fit(x[: len(ids)], ids=id_list(ids))
    assert model.ids_ == sorted(map(str, ids), key=lambda text: text.encode())
    given = QKMeans(4).fit_predict(x[: len(ids)], ids=id_list(ids)).tolist()
    assert given == model.predict(x[: len(ids)]).tolist()


@pytest.mark.parametrize(("projection", "width"), [(None, 3), (2, 2), (7, 7), (MATRIX, 2), (MATRIX.tolist(), 2)])
def test_shapes_and_types(projection: Any, width: int, x: NDArray[np.float64]) -> None:
    model = QKMeans(4, projection=projection).fit(x)
    assert model.cluster_centers_.shape == (4, width)
    assert model.labels_.shape == (40,)
    assert model.transform(x[:7]).shape == (7, 4)
    assert model.predict(x[:7]).shape == (7,)
    assert {str(values.dtype) for values in (model.cluster_centers_, model.transform(x))} == {"float64"}
    assert {str(values.dtype) for values in (model.labels_, model.predict(x))} == {"int32"}
    assert (type(model.inertia_), type(model.n_iter_), type(model.score(x))) == (float, int, float)
    assert len(model.exemplars_) == 4
    assert model.n_features_in_ == 3


def test_it_finds_clusters_that_are_there() -> None:
    rng = np.random.default_rng(3)
    truth = rng.integers(5, size=500)
    x = 10 * np.eye(5)[truth] + rng.normal(size=(500, 5)) / 4
    scores = [adjusted_rand_score(truth, QKMeans(5, random_state=seed).fit(x).labels_) for seed in range(5)]
    assert max(scores) == 1.0


def test_results_of_one_state_are_not_shown_for_the_next(x: NDArray[np.float64]) -> None:
    config = Config(n_clusters=4, d=3)
    model = config.estimator().fit(x)
    shown = [(model.ids_, model.labels_, model.exemplars_, model.cluster_centers_)]
    model.remove(range(20))
    shown.append((model.ids_, model.labels_, model.exemplars_, model.cluster_centers_))
    assert [len(ids) for ids, *_ in shown] == [40, 20]
    assert [len(labels) for _, labels, *_ in shown] == [40, 20]
    rows: dict[Id, list[float]] = {i: x[i].tolist() for i in range(20, 40)}
    assert state(model) == state(fresh(rows, config))


# ---- before a fit, and at the second ----
@pytest.mark.parametrize("name", FITTED)
def test_attributes_are_absent_before_a_fit(name: str) -> None:
    assert not hasattr(QKMeans(), name)


@pytest.mark.parametrize("name", FITTED)
def test_attributes_are_there_after_a_fit(name: str, x: NDArray[np.float64]) -> None:
    assert hasattr(QKMeans().fit(x), name)


def test_a_second_fit_replaces_the_first(x: NDArray[np.float64]) -> None:
    model = QKMeans(4).fit(x, ids=[f"row {i}" for i in range(40)])
    assert model.labels_.shape == (40,)
    other = x[:30, :2]
    assert state(model.fit(other)) == state(QKMeans(4).fit(other))
    assert model.n_features_in_ == 2


# ---- names, output, pipelines ----
def test_names_of_features_are_kept_and_checked(x: NDArray[np.float64]) -> None:
    frame = pd.DataFrame(x, columns=["a", "b", "c"])
    model = QKMeans(4).fit(frame)
    assert list(model.feature_names_in_) == ["a", "b", "c"]
    assert model.digest() == QKMeans(4).fit(x).digest()
    before = model.digest()
    for method in (model.predict, model.add, model.transform):
        with pytest.raises(ValueError, match="feature names"):
            method(frame[["b", "a", "c"]])
    assert model.digest() == before


def test_outputs_are_named_after_the_clusters_there_are(x: NDArray[np.float64]) -> None:
    model = QKMeans(4).fit(x).set_output(transform="pandas")
    assert list(model.get_feature_names_out()) == ["qkmeans0", "qkmeans1", "qkmeans2", "qkmeans3"]
    assert list(model.transform(x).columns) == ["qkmeans0", "qkmeans1", "qkmeans2", "qkmeans3"]
    model.remove(range(38))
    assert list(model.get_feature_names_out()) == ["qkmeans0", "qkmeans1"]
    assert model.transform(x).shape == (40, 2)


def test_it_is_the_last_step_or_a_middle_one_of_a_pipeline(x: NDArray[np.float64]) -> None:
    last = make_pipeline(Normalizer(), QKMeans(4, max_norm=1.0)).fit(x)
    direct = QKMeans(4, max_norm=1.0).fit(Normalizer().fit_transform(x))
    assert last[-1].digest() == direct.digest()
    assert last.predict(x).tolist() == direct.labels_.tolist()
    named = make_pipeline(Normalizer(), QKMeans(4)).fit(x, qkmeans__ids=range(100, 140))
    assert list(named[-1].ids_) == list(range(100, 140))
    middle = make_pipeline(QKMeans(4), StandardScaler()).fit(x)
    assert middle.transform(x).shape == (40, 4)
