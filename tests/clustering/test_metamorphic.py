"""Pairs of ways to say the same thing, which must give the same model: order, threads, layout, types, scale, batches.

Digests are compared, so nothing here can be nearly right. The contract itself is test_contract's business.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import pytest
from erase_core import DataError, QKMeans
from fits import Config, Id, fresh, id_list, matrix, oracle_fit, state
from hypothesis import assume, given
from hypothesis import strategies as st
from numpy.typing import NDArray
from problems import INT_IDS, TEXT_IDS, Problem, problems, row_sets

Floats = NDArray[np.float32] | NDArray[np.float64]


@pytest.fixture(scope="module")
def big() -> NDArray[np.float64]:
    """20 000 rows of 32 features around 20 middles, enough for the work to be split among threads."""
    rng = np.random.default_rng(0)
    x: NDArray[np.float64] = (
        rng.normal(size=(20, 32))[rng.integers(20, size=20_000)] + rng.normal(size=(20_000, 32)) / 4
    )
    return x


@pytest.fixture(scope="module")
def small() -> NDArray[np.float64]:
    """60 rows of 5 features, their values exact in float32."""
    return np.random.default_rng(1).normal(size=(60, 5)).astype(np.float32).astype(np.float64)


# ---- order ----
@given(problem=problems(), ids=st.sampled_from([INT_IDS, TEXT_IDS]), data=st.data())
def test_order_of_rows_is_irrelevant(problem: Problem, ids: list[Id], data: st.DataObject) -> None:
    rows = data.draw(row_sets(problem, ids, 2, 20))
    shuffled = {id_: rows[id_] for id_ in data.draw(st.permutations(list(rows)))}
    assert state(fresh(shuffled, problem.config)) == state(fresh(rows, problem.config))


@given(problem=problems(), ids=st.sampled_from([INT_IDS, TEXT_IDS]), data=st.data())
def test_order_and_batches_of_removals_are_irrelevant(problem: Problem, ids: list[Id], data: st.DataObject) -> None:
    rows = data.draw(row_sets(problem, ids, 3, 20))
    gone = data.draw(st.lists(st.sampled_from(list(rows)), unique=True, min_size=2))
    together, one_by_one, in_two = (fresh(rows, problem.config) for _ in range(3))
    together.remove(id_list(gone))
    for id_ in data.draw(st.permutations(gone)):
        one_by_one.remove(id_)
    cut = data.draw(st.integers(1, len(gone) - 1))
    in_two.remove(id_list(gone[cut:]))
    in_two.remove(id_list(gone[:cut]))
    assert state(one_by_one) == state(together)
    assert state(in_two) == state(together)


@given(problem=problems(), ids=st.sampled_from([INT_IDS, TEXT_IDS]), data=st.data())
def test_order_and_batches_of_additions_are_irrelevant(problem: Problem, ids: list[Id], data: st.DataObject) -> None:
    rows = data.draw(row_sets(problem, ids, 2, 20))
    d, model = problem.config.d, fresh({}, problem.config)
    order = data.draw(st.permutations(list(rows)))
    cut = data.draw(st.integers(0, len(rows) - 1))
    for id_ in order[:cut]:
        model.add(matrix([rows[id_]], d), id_list([id_]))
    model.add(matrix([rows[id_] for id_ in order[cut:]], d), id_list(order[cut:]))
    assert state(model) == state(fresh(rows, problem.config))


@given(problem=problems(), ids=st.sampled_from([INT_IDS, TEXT_IDS]), data=st.data())
def test_removing_rows_and_adding_them_back_changes_nothing(
    problem: Problem, ids: list[Id], data: st.DataObject
) -> None:
    rows = data.draw(row_sets(problem, ids, 1, 20))
    model = fresh(rows, problem.config)
    before = state(model)
    for gone in (data.draw(st.lists(st.sampled_from(list(rows)), unique=True, min_size=1)), list(rows)):
        model.remove(id_list(gone))
        assert state(model) != before
        model.add(matrix([rows[id_] for id_ in gone], problem.config.d), id_list(gone))
        assert state(model) == before


# ---- threads ----
def through_a_life(x: NDArray[np.float64], n_threads: int | None, **params: Any) -> list[object]:
    """The states of a model after a fit, removals, additions and a load, and its answers."""
    model = QKMeans(20, n_threads=n_threads, **params).fit(x[:18_000])
    seen: list[object] = [state(model)]
    model.remove(range(0, 9000, 3))
    seen.append(state(model))
    model.remove(model._model.seeds()[2])
    seen.append(state(model))
    model.add(x[18_000:])
    seen.append(state(model))
    seen += [model.predict(x).tolist(), model.transform(x).tobytes(), model.score(x)]
    return seen


@pytest.mark.parametrize("params", [{}, {"projection": 8}, {"max_norm": 100.0, "epsilon": 0.05}], ids=str)
def test_number_of_threads_is_irrelevant(big: NDArray[np.float64], params: dict[str, Any]) -> None:
    one, two, eight, all_of_them = (through_a_life(big, n_threads, **params) for n_threads in (1, 2, 8, None))
    assert two == one
    assert eight == one
    assert all_of_them == one


# ---- what a row is written in ----
def frame(x: NDArray[np.float64]) -> Any:
    """A pandas frame with default names, which are integers and so not feature names."""
    return pd.DataFrame(x)


def read_only(x: NDArray[np.float64]) -> Floats:
    y = x.copy()
    y.setflags(write=False)
    return y


FORMS: dict[str, Callable[[NDArray[np.float64]], Any]] = {
    "Fortran order": np.asfortranarray,
    "every other row": lambda x: np.repeat(x, 2, axis=0)[::2],
    "backwards": lambda x: x[::-1].copy()[::-1],
    "float32": lambda x: x.astype(np.float32),
    "float32 Fortran order": lambda x: np.asfortranarray(x.astype(np.float32)),
    "long double": lambda x: x.astype(np.longdouble),
    "big endian": lambda x: x.astype(">f8"),
    "unaligned": lambda x: np.frombuffer(b"\0" + x.tobytes(), dtype=np.uint8)[1:].view(np.float64).reshape(x.shape),
    "objects": lambda x: x.astype(object),
    "lists": lambda x: x.tolist(),
    "tuples": lambda x: tuple(map(tuple, x.tolist())),
    "pandas": frame,
    "read only": read_only,
}


@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)
def test_form_of_the_rows_is_irrelevant(form: Callable[[NDArray[np.float64]], Any], small: NDArray[np.float64]) -> None:
    plain = QKMeans(4).fit(small[:50])
    model = QKMeans(4).fit(form(small[:50]))
    assert state(model) == state(plain)
    plain.add(small[50:])
    model.add(form(small[50:]))
    assert state(model) == state(plain)
    assert model.predict(form(small)).tolist() == plain.predict(small).tolist()
    assert model.transform(form(small)).tobytes() == plain.transform(small).tobytes()


@pytest.mark.parametrize("dtype", [np.int8, np.int64, np.uint8, np.bool_, np.float16])
def test_numbers_of_other_types_are_their_values(dtype: type[np.generic]) -> None:
    x = np.random.default_rng(2).integers(0, 2, size=(20, 6)).astype(dtype)
    assert QKMeans(4).fit(x).digest() == QKMeans(4).fit(x.astype(np.float64)).digest()


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_rows_given_are_not_written_to(order: Any, dtype: type[np.generic], small: NDArray[np.float64]) -> None:
    x = np.array(small, dtype=dtype, order=order)
    x.setflags(write=False)
    model = QKMeans(4).fit(x[:50])
    model.add(x[50:])
    for method in (model.predict, model.transform, model.score):
        method(x)
    model.remove(range(0, 60, 2))
    assert x.astype(np.float64).tobytes() == small.tobytes()


def test_rows_are_taken_by_value(small: NDArray[np.float64]) -> None:
    x = small.copy()
    model = QKMeans(4).fit(x)
    x[:] = 7
    model.remove(range(30))
    assert model.digest() == QKMeans(4).fit(small[30:], ids=range(30, 60)).digest()


def test_minus_zero_is_zero(small: NDArray[np.float64]) -> None:
    zeros = np.where(np.abs(small) < 0.5, 0.0, small)
    assert (zeros == 0).any()
    assert QKMeans(4).fit(np.where(zeros == 0, -0.0, zeros)).digest() == QKMeans(4).fit(zeros).digest()


# ---- what an id is written in ----
INT_FORMS: dict[str, Callable[[list[int]], Any]] = {
    "array": np.array,
    "array of int8": lambda ids: np.array(ids, dtype=np.int8),
    "array of objects": lambda ids: np.array(ids, dtype=object),
    "pandas": lambda ids: pd.Series(ids),
    "pandas index": lambda ids: pd.Index(ids),
    "generator": lambda ids: (id_ for id_ in ids),
    "tuple": tuple,
    "numpy scalars": lambda ids: [np.int32(id_) for id_ in ids],
    "keys": lambda ids: dict.fromkeys(ids).keys(),
}
TEXT_FORMS: dict[str, Callable[[list[str]], Any]] = {
    "array": np.array,
    "array of objects": lambda ids: np.array(ids, dtype=object),
    "pandas": lambda ids: pd.Series(ids),
    "generator": lambda ids: (id_ for id_ in ids),
    "numpy scalars": lambda ids: [np.str_(id_) for id_ in ids],
}


@pytest.mark.parametrize("form", INT_FORMS.values(), ids=INT_FORMS)
def test_form_of_integer_ids_is_irrelevant(form: Callable[[list[int]], Any], small: NDArray[np.float64]) -> None:
    ids = [(7 * i) % 60 - 30 for i in range(60)]
    model, plain = QKMeans(4).fit(small, ids=form(ids)), QKMeans(4).fit(small, ids=ids)
    assert state(model) == state(plain)
    model.remove(form(ids[:9]))
    plain.remove(ids[:9])
    assert state(model) == state(plain)


@pytest.mark.parametrize("form", TEXT_FORMS.values(), ids=TEXT_FORMS)
def test_form_of_string_ids_is_irrelevant(form: Callable[[list[str]], Any], small: NDArray[np.float64]) -> None:
    ids = [f"row {i}" for i in range(60)]
    model, plain = QKMeans(4).fit(small, ids=form(ids)), QKMeans(4).fit(small, ids=ids)
    assert state(model) == state(plain)
    model.remove(form(ids[:9]))
    plain.remove(ids[:9])
    assert state(model) == state(plain)


def test_default_ids_count_up(small: NDArray[np.float64]) -> None:
    model = QKMeans(4).fit(small[:40])
    assert model.digest() == QKMeans(4).fit(small[:40], ids=range(40)).digest()
    model.remove([3, 39])  # the largest id present is now 38
    model.add(small[40:42])
    assert list(model.ids_) == [*range(3), *range(4, 41)]
    negative = QKMeans(4).fit(small[:9], ids=range(-20, -11))
    negative.add(small[9:12])
    assert list(negative.ids_) == list(range(-20, -8))


def test_default_ids_go_up_to_the_largest_there_is_and_never_around(small: NDArray[np.float64]) -> None:
    model = QKMeans(2).fit(small[:3], ids=[0, 1, 2**63 - 2])
    before = model.digest()
    with pytest.raises(DataError, match=f"ids .*{2**63 - 2}$"):
        model.add(small[3:5])
    assert model.digest() == before
    model.add(small[3:4])
    assert list(model.ids_) == [0, 1, 2**63 - 2, 2**63 - 1]


def test_an_emptied_model_takes_ids_of_either_kind(small: NDArray[np.float64]) -> None:
    numbers, names = list(range(20)), [f"row {i}" for i in range(20)]
    model = QKMeans(4).fit(small[:20], ids=numbers)
    model.remove(numbers)
    model.add(small[:20], ids=names)
    assert state(model) == state(QKMeans(4).fit(small[:20], ids=names))
    model.remove(names)
    model.add(small[:20])
    assert state(model) == state(QKMeans(4).fit(small[:20]))


# ---- scale ----
@given(problem=problems(), ids=st.sampled_from([INT_IDS, TEXT_IDS]), shift=st.integers(-80, 80), data=st.data())
def test_a_power_of_two_scales_the_model(problem: Problem, ids: list[Id], shift: int, data: st.DataObject) -> None:
    """Labels, seeds, exemplars and steps stay, centres and inertia are multiplied exactly."""
    rows, scale, config = data.draw(row_sets(problem, ids, 1, 20)), 2.0**shift, problem.config
    assume(oracle_fit(rows, config).exponent > -800)  # below, rows are rounded away, which is no matter of scale
    scaled = {id_: [v * scale for v in row] for id_, row in rows.items()}
    max_norm = None if config.max_norm is None else config.max_norm * scale
    center = None if config.center is None else tuple(c * scale for c in config.center)
    assume(center is None or config.center == tuple(c / scale for c in center))  # no coordinate is rounded either
    plain, other = (
        fresh(rows, config),
        fresh(scaled, Config(**{**vars(config), "max_norm": max_norm, "center": center})),
    )
    assert other.labels().tolist() == plain.labels().tolist()
    assert (other.seeds(), other.exemplars(), other.n_iter) == (plain.seeds(), plain.exemplars(), plain.n_iter)
    assert other.centres().tobytes() == (plain.centres() * scale).tobytes()
    assert other.inertia == plain.inertia * scale**2
