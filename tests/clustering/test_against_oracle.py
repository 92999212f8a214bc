"""The core is the algorithm of docs/algorithm.md: it agrees with the oracle and the golden vectors, bit for bit."""

from __future__ import annotations

import functools
import math
from fractions import Fraction
from pathlib import Path
from typing import Any, Literal

import numpy as np
import oracle
import pytest
from erase_core import QKMeans
from erase_core._core import Model
from fits import Config, Id, fresh, id_list, matrix, oracle_fit, state
from golden import MODELS, each_vector, golden_config, golden_rows
from hypothesis import given
from hypothesis import strategies as st
from problems import INT_IDS, TEXT_IDS, Problem, problems, random_config, random_rows, row_sets

# Rows at the corners of the arithmetic are coarse as often as not.
pytestmark = pytest.mark.filterwarnings("ignore::erase_core.DataWarning")


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


def projected_center(config: Config) -> list[float]:
    """Where the projection takes the center, in floats (algorithm.md, section 7); zeros without one."""
    center = oracle.given_center(config.oracle())
    if center is None:
        return [0.0] * width(config)
    projection = config.oracle().projection
    if projection is None:
        return center
    if isinstance(projection, int):
        signs = [[oracle.sign(config.seed, i, j) for j in range(config.d)] for i in range(projection)]
        scale, matrix_ = math.isqrt(2**58 // projection) * 2.0**-29, signs
    else:
        p, matrix_ = oracle.matrix_fixed_point(projection, config.d)
        scale = 2.0 ** (p - 14)
    return [
        functools.reduce(float.__add__, (b * c for b, c in zip(row, center, strict=True))) * scale for row in matrix_
    ]


def check_floats(model: Model | QKMeans, config: Config, exponent: int, centres: list[list[int]], loss: int) -> None:
    """Centres and inertia are the floats nearest to the exact values."""
    seen, length = state(model), unit(config, exponent)
    assert seen.inertia == nearest_float(loss * length**2).hex()
    origin = projected_center(config)
    expected = [[nearest_float(v * length) + o for v, o in zip(c, origin, strict=True)] for c in centres]
    assert seen.centres == matrix(expected, width(config)).tobytes()
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
        lists = oracle.nearest(fitted.ids, fitted.rows, fitted.result, n) if fitted.result else []
        assert (model._model if isinstance(model, QKMeans) else model).nearest(n) == lists
    assert seen.n_iter == fitted.n_iter
    check_floats(model, config, fitted.exponent, fitted.centres, fitted.inertia)
    assert seen.resolution == oracle.resolution(fitted).hex()


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
def check_golden(model: Model, vector: dict[str, Any]) -> None:
    """The model is the one of the vector."""
    expected = vector["expected"]
    assert model.digest() == expected["digest"]
    if expected["file"] is not None:
        assert model.to_bytes().hex() == expected["file"]
    result: dict[str, Any] = expected["result"] or {"labels": [], "centres": [], "loss": 0}
    assert list(model.ids()) == vector["ids"]
    assert model.labels().tolist() == result["labels"]
    assert model.seeds() == expected["seeds"]
    assert model.exemplars() == expected["exemplars"]
    assert model.n_iter == expected["n_iter"]
    check_floats(model, golden_config(vector), expected["exponent"], result["centres"], result["loss"])


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
        center = config.center or [0.0] * config.d
        mirrored = [c - (v - c) / 2 for v, c in zip(row, center, strict=True)]
        extra[f"extra {number}" if text else 123_456_789 + number] = mirrored
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
