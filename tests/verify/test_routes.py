"""Nearest rows and routes by the second implementation are the core's, and `verify` detects others."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from erase_core import _core
from erase_core.errors import DataError
from erase_core.verify import reference
from fits import Config, Id, fresh, id_list, matrix
from hypothesis import given
from hypothesis import strategies as st
from problems import INT_IDS, TEXT_IDS, Problem, problems, row_sets
from small_stores import create, parts_of, some

# From rows that round to nothing to rows far beyond the scale of the model's.
SCALES = [2.0**power for power in (-60, -9, -1, 0, 1, 2, 7, 40, 900)]


@given(problem=problems(), ids=st.sampled_from([INT_IDS, TEXT_IDS]), data=st.data())
def test_nearest_rows_and_routes_are_the_cores(problem: Problem, ids: list[Id], data: st.DataObject) -> None:
    config = problem.config
    rows = data.draw(row_sets(problem, ids, 1, 16))
    model = fresh(rows, config)
    gone = data.draw(st.sets(st.sampled_from(list(rows)), max_size=len(rows) - 1))
    model.remove(id_list(list(gone)))
    left = {id_: row for id_, row in rows.items() if id_ not in gone}
    x = matrix(list(left.values()), config.d)
    expected = reference.fit(x, id_list(list(left)), reference.Params(**config.core()))
    for count in (1, 2, 16):
        assert model.nearest(count) == expected.nearest(count)
    others = data.draw(row_sets(problem, INT_IDS, 1, 6))
    for scale in SCALES:
        queries = scale * matrix(list(others.values()), config.d)
        assert model.predict(queries).tolist() == expected.routes(queries)


@pytest.mark.parametrize("max_norm", [None, 8.0])
def test_routes_are_the_cores_beyond_the_scale_of_the_model(max_norm: float | None) -> None:
    """Where both the length of a centre and its angle to the query decide: not much farther than the rows are."""
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(80, 3)) * rng.uniform(0.1, 1.5, size=(80, 1))
    config = Config(20, d=3, max_norm=max_norm)
    model = _core.Model.fit(rows, None, n_threads=1, cache_bytes=None, **config.core())
    expected = reference.fit(rows, range(80), reference.Params(**config.core()))
    for factor in (1.0, 2.5, 5.0, 10.0, 20.0, 60.0):
        queries = factor * rng.normal(size=(2000, 3))
        assert model.predict(queries).tolist() == expected.routes(queries)


def test_the_route_of_a_row_of_the_model_is_its_cluster() -> None:
    rows = np.random.default_rng(0).normal(size=(300, 5))
    config = Config(9, d=5)
    expected = reference.fit(rows, range(300), reference.Params(**config.core()))
    assert expected.routes(rows) == expected.labels.tolist()


def test_between_two_centres_the_lower_index_is_nearer() -> None:
    # Equal rows have equal centres, and the second cluster has no rows.
    rows = np.repeat([[0.5, 0.25]], 4, axis=0)
    config = Config(2, d=2)
    model = _core.Model.fit(rows, [4, 3, 2, 1], n_threads=1, cache_bytes=None, **config.core())
    expected = reference.fit(rows, [4, 3, 2, 1], reference.Params(**config.core()))
    assert model.nearest(3) == expected.nearest(3) == [[1, 2, 3], []]
    for scale in SCALES:
        assert model.predict(scale * rows).tolist() == expected.routes(scale * rows) == [0] * 4


def test_a_model_without_rows_has_lists_but_no_routes() -> None:
    expected = reference.fit(np.empty((0, 2)), [], reference.Params(**Config(d=2).core()))
    assert expected.nearest(3) == []
    with pytest.raises(DataError, match="no centres"):
        expected.routes(np.ones((1, 2)))


# ---- verify ----
class Wrong:
    """A model that answers one call wrongly."""

    def __init__(self, model: _core.Model, **calls: Callable[[Any], Any]) -> None:
        self._model, self._calls = model, calls

    def __getattr__(self, name: str) -> Any:
        method, change = getattr(self._model, name), self._calls.get(name)
        return method if change is None else lambda *arguments: change(method(*arguments))


def moved(lists: list[list[Id]]) -> list[list[Id]]:
    """One example stands in the list of another cluster."""
    return [[*lists[0], lists[1][-1]], lists[1][:-1], *lists[2:]]


def last_route_wrong(routes: Any) -> Any:
    return np.append(routes[:-1], (routes[-1] + 1) % 3)


WRONG: dict[str, tuple[str, Callable[[Any], Any]]] = {
    "an example missing": ("nearest", lambda lists: [lists[0][1:], *lists[1:]]),
    "two examples exchanged": ("nearest", lambda lists: [lists[0][1::-1] + lists[0][2:], *lists[1:]]),
    "an example of another cluster": ("nearest", moved),
    "two prompts exchanged": ("nearest", lambda lists: [lists[1], lists[0], *lists[2:]]),
    "one prompt more": ("nearest", lambda lists: [*lists, []]),
    "another route": ("predict", last_route_wrong),
}


@pytest.mark.parametrize("case", WRONG)
def test_verify_detects_wrong_prompts_and_routes(path: Path, case: str) -> None:
    name, change = WRONG[case]
    with create(path, some(40), strategy="routed", n_prompts=3, n_shots=4) as erase:
        assert erase.verify().ok
        clustering = parts_of(erase).clustering
        model: Any = clustering._model
        assert all(len(prompt) > 2 for prompt in model.nearest(4))
        clustering._model = Wrong(model, **{name: change})  # type: ignore[assignment]
        problems = erase.verify().problems
        assert any(("prompts" if name == "nearest" else "routes") in problem for problem in problems), problems
        clustering._model = model
        assert erase.verify().ok


@pytest.mark.parametrize("case", WRONG)
def test_verify_detects_that_the_second_implementation_finds_others(
    path: Path, case: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So neither of the two is trusted: the core and the model reloaded from its bytes agree here."""
    name, change = WRONG[case]
    method = {"nearest": "nearest", "predict": "routes"}[name]
    found = getattr(reference.Fitted, method)
    with create(path, some(40), strategy="routed", n_prompts=3, n_shots=4) as erase:
        monkeypatch.setattr(reference.Fitted, method, lambda self, given: list(change(found(self, given))))
        [problem] = erase.verify().problems
        assert "second implementation" in problem


@pytest.mark.parametrize("case", ["another order", "one missing"])
@pytest.mark.parametrize("who", ["core", "reference"])
def test_verify_detects_wrong_neighbours(path: Path, case: str, who: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def change(found: list[Id]) -> list[Id]:
        return found[1:] if case == "one missing" else [*found[1::-1], *found[2:]]

    with create(path, some(40), strategy="knn", n_shots=4) as erase:
        assert erase.verify().ok
        if who == "reference":
            found = reference.Fitted.neighbours
            monkeypatch.setattr(reference.Fitted, "neighbours", lambda *given: change(found(*given)))
        else:
            clustering = parts_of(erase).clustering
            model: Any = clustering._model
            clustering._model = Wrong(  # type: ignore[assignment]
                model, neighbours=lambda found: (found[0], change(found[1]))
            )
        [problem] = erase.verify().problems
        assert "nearest examples" in problem


@given(problem=problems(), ids=st.sampled_from([INT_IDS, TEXT_IDS]), data=st.data())
def test_neighbours_of_rows_are_the_cores(problem: Problem, ids: list[Id], data: st.DataObject) -> None:
    rows = data.draw(row_sets(problem, ids, 1, 16))
    x, config = matrix(list(rows.values()), problem.config.d), problem.config
    model = fresh(rows, config)
    expected = reference.fit(x, id_list(list(rows)), reference.Params(**config.core()))
    for place, id_ in enumerate(expected.ids):
        for count in (1, 3, 16):
            assert model.neighbours(matrix([rows[id_]], config.d), count)[1] == expected.neighbours(place, count)


def test_what_is_not_routed_is_verified_without_routes(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(reference.Fitted, "routes")
    monkeypatch.delattr(reference.Fitted, "nearest")
    with create(path, some(9)) as erase:
        assert erase.verify().ok
