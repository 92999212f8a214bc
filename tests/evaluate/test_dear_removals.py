"""Removals that are chosen to be dear: which rows they name, and what each costs."""

from __future__ import annotations

import copy

import numpy as np
from erase_core import QKMeans
from erase_core.evaluate.attacks.dear_removals import RemovalRow, dear_removals, removal_requests
from numpy.typing import NDArray

N = 600


def rows() -> NDArray[np.float64]:
    draws = np.random.default_rng(0)
    made = draws.normal(size=(N, 16)) + 3 * draws.normal(size=(5, 16))[draws.integers(5, size=N)]
    made /= np.linalg.norm(made, axis=1)[:, None]
    return np.asarray(made * draws.uniform(0.2, 0.49, size=(N, 1)))


def named(found: list[RemovalRow]) -> dict[str, RemovalRow]:
    return {row.kind: row for row in found}


def test_requests_name_the_rows_that_the_model_depends_on() -> None:
    x = rows()
    x[7] *= 2.5 * 0.4 / np.linalg.norm(x[7])  # norm 1
    model = QKMeans(5, panel=100, epsilon=1.0).fit(x)
    requests = removal_requests(model, np.linalg.norm(x, axis=1), n_random=50)
    assert requests["rows that set the scale"] == [[7]]
    assert sorted(id_ for some in requests["all rows of a cluster"] for id_ in some) == list(range(N))
    assert requests["all exemplars"] == [[id_ for id_ in model.exemplars_ if id_ is not None]]
    assert len(requests["all seeds"][0]) == 5
    assert all(len(request) == 1 for request in requests["any row"])
    # Rows that are not on the panel move no centre (docs/algorithm.md).
    on_panel = {
        id_ for request in removal_requests(model, np.ones(N), n_random=N)["row on the panel"] for id_ in request
    }
    assert len(on_panel) == 100
    others = [i for i in range(N) if i not in on_panel and i != 7][:50]
    left = copy.deepcopy(model)
    assert left.remove(others).path == "certified"
    assert left.cluster_centers_.tobytes() == model.cluster_centers_.tobytes()
    assert set(requests["all seeds"][0]) <= on_panel
    assert "row on the panel" not in removal_requests(QKMeans(5).fit(x), np.ones(N))
    assert "rows that set the scale" not in removal_requests(QKMeans(5, max_norm=1.0).fit(x), np.linalg.norm(x, axis=1))


def test_chosen_removals_are_dearer_than_any_row_and_the_model_stays() -> None:
    x = rows()
    x[7] *= 2.5 * 0.4 / np.linalg.norm(x[7])
    model = QKMeans(5, panel=100, epsilon=1.0).fit(x)
    digest = model.digest()
    table = named(dear_removals(model, removal_requests(model, np.linalg.norm(x, axis=1)), n_steps=6))
    assert model.digest() == digest
    # Without the row that sets the scale, all are rounded again: no part of the old model is of use.
    assert table["rows that set the scale"].paths == {"reseeded": 1}
    assert table["seed"].paths == {"reseeded": 5}
    assert table["first seed, again and again"].paths == {"reseeded": 6}
    for kind in ("seed", "all seeds", "rows that set the scale", "first seed, again and again"):
        assert table[kind].mean_work > table["any row"].mean_work
    # Each exemplar is a demonstration, and is gone.
    assert min(table["exemplar"].changes) >= 1 / 5
    assert table["all exemplars"].worst_change == 1
    for row in table.values():
        assert row.mean_work <= row.worst_work == max(row.work)
        assert row.mean_seconds <= row.worst_seconds
        assert row.mean_change <= row.worst_change <= 1
        assert sum(row.paths.values()) == len(row.work) == len(row.changes)
    assert table["all rows of a cluster"].n_ids == np.bincount(model.labels_).max()


def test_changes_are_the_share_of_demonstrations_at_other_places() -> None:
    x = rows()
    model = QKMeans(4, epsilon=1.0).fit(x)
    exemplars = list(model.exemplars_)
    request = [int(id_) for id_ in exemplars[:1] if id_ is not None]
    (row,) = dear_removals(model, {"one": [request]}, n_steps=0)
    after = QKMeans(4, epsilon=1.0).fit(np.delete(x, request, axis=0), ids=[i for i in range(N) if i not in request])
    assert row.changes == [np.mean([a != b for a, b in zip(exemplars, after.exemplars_, strict=True)])]
    (routed,) = dear_removals(model, {"one": [request]}, strategy="routed", n_shots=3, n_steps=0)
    before, later = model.nearest(3), after.nearest(3)
    differ = [a != b for p, q in zip(before, later, strict=True) for a, b in zip(p, q, strict=True)]
    assert routed.changes == [np.mean(differ)]


def test_a_model_that_is_removed_completely() -> None:
    model = QKMeans(2).fit(rows()[:6])
    table = named(dear_removals(model, {"all": [list(range(6))]}, n_steps=20))
    assert table["all"].changes == [1.0]
    assert len(table["first seed, again and again"].work) == 5
