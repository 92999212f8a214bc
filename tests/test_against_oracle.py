"""The core is the algorithm of docs/algorithm.md: it agrees with the oracle and the golden vectors, bit for bit."""

from __future__ import annotations

import json
import math
from fractions import Fraction
from pathlib import Path
from typing import Any, Literal

import numpy as np
import oracle
import pytest
from erase_core import QKMeans
from erase_core._core import Model
from hypothesis import given
from hypothesis import strategies as st
from support import (
    INT_IDS,
    TEXT_IDS,
    Config,
    Id,
    Problem,
    fresh,
    id_list,
    matrix,
    oracle_fit,
    problems,
    random_config,
    random_rows,
    row_sets,
    state,
)

MODELS: list[dict[str, Any]] = json.loads((Path(__file__).parent / "vectors" / "models.json").read_text("ascii"))


def nearest_float(value: Fraction) -> float:
    """The float nearest to an exact value."""
    try:
        return float(value)
    except OverflowError:
        return math.inf if value > 0 else -math.inf


def unit(config: Config, exponent: int) -> Fraction:
    """The length 1 of the aligned integers, in units of the data (algorithm.md, end of section 3)."""
    projection = config.oracle().projection
    if isinstance(projection, int):
        exponent += 1
    elif projection is not None:
        exponent += oracle.matrix_fixed_point(projection, config.d)[0]
    return Fraction(2) ** (exponent - 14)


def width(config: Config) -> int:
    """The dimension of the clustered rows."""
    if config.projection is None:
        return config.d
    return config.projection if isinstance(config.projection, int) else len(config.projection)


def check_floats(model: Model | QKMeans, config: Config, exponent: int, centres: list[list[int]], loss: int) -> None:
    """Centres and inertia are the floats nearest to the exact values."""
    seen, length = state(model), unit(config, exponent)
    assert seen.inertia == nearest_float(loss * length**2).hex()
    assert seen.centres == matrix([[nearest_float(v * length) for v in c] for c in centres], width(config)).tobytes()
    assert seen.shape == (len(centres), width(config))


def check(model: Model | QKMeans, rows: dict[Id, list[float]], config: Config) -> None:
    """Every visible part of the model is what the oracle says of these rows."""
    seen, fitted = state(model), oracle_fit(rows, config)
    assert seen.digest == oracle.digest(fitted)
    assert seen.ids == fitted.ids
    assert seen.labels == fitted.labels
    assert seen.seeds == fitted.seeds
    assert seen.exemplars == fitted.exemplars
    for n in (1, 3, 64):
        lists = oracle.nearest(fitted.ids, fitted.rows, fitted.steps[-1], n) if fitted.steps else []
        assert (model._model if isinstance(model, QKMeans) else model).nearest(n) == lists
    assert seen.n_iter == fitted.n_iter
    check_floats(model, config, fitted.exponent, fitted.centres, fitted.inertia)


def finite(width: Literal[32, 64]) -> st.SearchStrategy[float]:
    """Any float of that width."""
    return st.floats(allow_nan=False, allow_infinity=False, width=width)


# ---- the oracle ----
@given(problem=problems(), ids=st.sampled_from([INT_IDS, TEXT_IDS]), data=st.data())
def test_a_fit_is_the_oracle_s(problem: Problem, ids: list[Id], data: st.DataObject) -> None:
    rows = data.draw(row_sets(problem, ids, 0, 20))
    model = fresh(rows, problem.config)
    check(model, rows, problem.config)
    assert model.to_bytes() == oracle.encode(oracle_fit(rows, problem.config))


@given(problem=problems(), ids=st.sampled_from([INT_IDS, TEXT_IDS]), data=st.data())
def test_what_removals_and_additions_leave_is_the_oracle_s(
    problem: Problem, ids: list[Id], data: st.DataObject
) -> None:
    config = problem.config
    before = data.draw(row_sets(problem, ids, config.n_clusters, 14))
    gone = data.draw(st.lists(st.sampled_from(list(before)), unique=True, min_size=1))
    added = data.draw(row_sets(problem, [id_ for id_ in ids if id_ not in before or id_ in gone], 1, 8))
    model = config.estimator().fit(matrix(list(before.values()), config.d), ids=id_list(list(before)))
    model.remove(id_list(gone))
    model.add(matrix(list(added.values()), config.d), ids=id_list(list(added)))
    check(model, {id_: row for id_, row in before.items() if id_ not in gone} | added, config)


@pytest.mark.parametrize("seed", range(8))
def test_larger_models_are_the_oracle_s(seed: int) -> None:
    rng = np.random.default_rng(seed)
    d, n = int(rng.integers(1, 9)), int(rng.integers(100, 200))
    rows: dict[Id, list[float]] = dict(enumerate(random_rows(rng, n, d).tolist()))
    check(fresh(rows, config := random_config(rng, d)), rows, config)


@given(row=st.lists(finite(64), min_size=1, max_size=6))
def test_one_row_of_any_floats_is_kept_as_the_oracle_keeps_it(row: list[float]) -> None:
    config = Config(n_clusters=1, d=len(row))
    check(fresh({0: row}, config), {0: row}, config)


@given(rows=st.lists(st.lists(finite(32), min_size=2, max_size=2), min_size=1))
def test_float32_rows_are_taken_at_their_exact_values(rows: list[list[float]]) -> None:
    model = Model.fit(np.array(rows, dtype=np.float32), None, n_threads=1, cache_bytes=None, **Config().core())
    check(model, dict(enumerate(rows)), Config())


# ---- the golden vectors ----
def golden_config(vector: dict[str, Any]) -> Config:
    """The parameters of a vector."""
    given = vector["params"]
    projection = given["projection"]
    if isinstance(projection, list):
        projection = tuple(tuple(float.fromhex(v) for v in row) for row in projection)
    return Config(
        n_clusters=given["n_clusters"],
        epsilon=tuple(given["epsilon"]),
        gamma=tuple(given["gamma"]),
        max_iter=given["max_iter"],
        panel=given["panel"],
        projection=projection,
        max_norm=None if given["max_norm"] is None else float.fromhex(given["max_norm"]),
        seed=given["seed"],
        d=vector["n_features"],
    )


def golden_rows(vector: dict[str, Any]) -> dict[Id, list[float]]:
    """The rows of a vector by their ids."""
    return {i: [float.fromhex(v) for v in row] for i, row in zip(vector["ids"], vector["rows"], strict=True)}


def check_golden(model: Model, vector: dict[str, Any]) -> None:
    """The model is the one of the vector."""
    expected = vector["expected"]
    assert model.digest() == expected["digest"]
    if expected["file"] is not None:
        assert model.to_bytes().hex() == expected["file"]
    last: dict[str, Any] = expected["steps"][-1] if expected["steps"] else {"labels": [], "centres": []}
    assert list(model.ids()) == vector["ids"]
    assert model.labels().tolist() == last["labels"]
    assert model.seeds() == expected["seeds"]
    assert model.exemplars() == expected["exemplars"]
    assert model.n_iter == expected["n_iter"]
    check_floats(model, golden_config(vector), expected["exponent"], last["centres"], expected["loss"])


each_vector = pytest.mark.parametrize("vector", MODELS, ids=[vector["name"] for vector in MODELS])


@each_vector
def test_fit_gives_the_golden_model(vector: dict[str, Any]) -> None:
    check_golden(fresh(golden_rows(vector), golden_config(vector)), vector)


@each_vector
def test_the_golden_model_is_reached_by_removing_what_is_not_in_it(vector: dict[str, Any]) -> None:
    rows, config = golden_rows(vector), golden_config(vector)
    text = vector["id_kind"] == "str"
    values = list(rows.values()) or [[1.0] * config.d]
    extra: dict[Id, list[float]] = {}
    for number, row in enumerate(values[::-1][:9]):
        extra[f"extra {number}" if text else 123_456_789 + number] = [-v / 2 for v in row]
    model = fresh(rows | extra, config)
    assert model.digest() != vector["expected"]["digest"]
    model.remove(id_list(list(extra)))
    check_golden(model, vector)


@each_vector
def test_the_golden_model_is_reached_by_adding_row_by_row(vector: dict[str, Any]) -> None:
    config = golden_config(vector)
    model = fresh({}, config)
    for id_, row in reversed(golden_rows(vector).items()):
        model.add(matrix([row], config.d), id_list([id_]))
    check_golden(model, vector)


@pytest.mark.parametrize("vector", [v for v in MODELS if v["expected"]["file"]], ids=lambda vector: vector["name"])
def test_the_golden_file_loads(vector: dict[str, Any], tmp_path: Path) -> None:
    path = tmp_path / "model"
    path.write_bytes(bytes.fromhex(vector["expected"]["file"]))
    check_golden(QKMeans.load(path)._model, vector)
