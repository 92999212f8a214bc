"""Strategies: what each selects, by its definition, and that it is a function of the examples and the seed alone."""

from __future__ import annotations

import hashlib
import heapq
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import cast
from unittest.mock import ANY

import numpy as np
import pytest
from erase_core import selection
from erase_core.errors import ParameterError
from erase_core.examples.example import Example
from erase_core.kmeans import QKMeans
from erase_core.selection import SELECTORS, RoutedSelector, possible_prompts
from erase_core.settings import Settings, Strategy
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from small_stores import DIM, QUERIES, WORDS, Id, WordEmbedder, check_refused, create, new_path, parts_of, some

int_ids = st.integers(-(2**63), 2**63 - 1)
text_ids = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=4)
id_sets = st.one_of(*(st.lists(kind, unique=True, min_size=2, max_size=15) for kind in (int_ids, text_ids)))
seeds = st.integers(0, 2**64 - 1)


class Chosen:
    """A strategy, for the model of an estimator."""

    def __init__(self, strategy: Strategy) -> None:
        self.selector = SELECTORS[strategy]

    def select(self, model: QKMeans, n_shots: int, seed: int, query: NDArray[np.float32] | None) -> list[Id]:
        return self.selector.select(model._model, n_shots, seed, query)

    def prompts(self, model: QKMeans, n_shots: int, seed: int = 0) -> list[list[Id]]:
        return self.selector.prompts(model._model, n_shots, seed)


knn, draw, kmeans, routed = Chosen("knn"), Chosen("random"), Chosen("kmeans"), Chosen("routed")


def unit_rows(count: int, seed: int = 0) -> NDArray[np.float32]:
    rows = np.random.default_rng(seed).normal(size=(count, DIM))
    unit: NDArray[np.float32] = (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)
    return unit


def model_of(ids: list[Id], rows: NDArray[np.float32] | None = None, n_clusters: int = 1, seed: int = 0) -> QKMeans:
    x = unit_rows(len(ids)) if rows is None else rows
    model = QKMeans(min(n_clusters, len(ids)), max_norm=1.0, random_state=seed)
    return model.fit(x, ids=cast("list[int]", ids))


# ---- random ----
@pytest.mark.parametrize("n_shots", [1, 4, 50])
def test_an_ingest_draws_once_and_as_a_store_of_all_does(
    path: Path, n_shots: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    with create(path, strategy="random", n_shots=n_shots) as erase:
        drawn: list[Id] = []
        draw_of = selection._draw

        def counted(seed: int) -> Callable[[Id], object]:
            key = draw_of(seed)

            def seen(id_: Id) -> object:
                drawn.append(id_)
                return key(id_)

            return seen

        for count, first in ((7, 0), (20, 100), (1, 50)):
            before = len(erase)
            with monkeypatch.context() as patch:
                patch.setattr(selection, "_draw", counted)
                report = erase.ingest(some(count, first))
            assert report.prompts.after == erase.status().prompts
            assert len(drawn) <= before + count + n_shots
            drawn.clear()


@given(ids=id_sets, seed=seeds, data=st.data())
def test_a_draw_of_some_is_that_of_all_without_the_others(ids: list[Id], seed: int, data: st.DataObject) -> None:
    order = draw.select(model_of(ids), len(ids), seed, None)
    assert sorted(order, key=ids.index) == ids
    some_ids = data.draw(st.lists(st.sampled_from(ids), unique=True, min_size=1))
    n_shots = data.draw(st.integers(1, len(ids)))
    expected = [id_ for id_ in order if id_ in some_ids][:n_shots]
    assert draw.select(model_of(some_ids, unit_rows(len(some_ids), 1)), n_shots, seed, None) == expected


def test_every_id_is_drawn_equally_often_and_in_every_place() -> None:
    for ids in ([0, 1, 2, 3, 7, -1, 2**40, 99], ["a", "b", "c", "aa", "", "ab", "A", "0"]):
        model = model_of(cast("list[Id]", ids))
        draws = [draw.select(model, 3, seed, None) for seed in range(2000)]
        for place in range(3):
            counts = [sum(one[place] == id_ for one in draws) for id_ in ids]
            # 250 each, give or take 14.8: five times that is left for luck.
            assert max(abs(count - 250) for count in counts) < 74, counts


def test_a_number_and_its_text_are_two_ids() -> None:
    numbers: list[Id] = list(range(20))
    texts: list[Id] = [str(number) for number in numbers]
    assert [str(id_) for id_ in draw.select(model_of(numbers), 20, 0, None)] != draw.select(
        model_of(texts), 20, 0, None
    )


# ---- the nearest ----
@given(ids=id_sets, n_shots=st.integers(1, 20), seed=st.integers(0, 99))
def test_neighbours_are_the_nearest_and_the_nearest_is_last(ids: list[Id], n_shots: int, seed: int) -> None:
    rows, query = unit_rows(len(ids), seed), unit_rows(1, seed + 1000)[0]
    selected = knn.select(model_of(ids, rows), n_shots, 0, query)
    distances = dict(zip(ids, np.linalg.norm(rows.astype(np.float64) - query, axis=1).tolist(), strict=True))
    assert len(selected) == len(set(selected)) == min(n_shots, len(ids))
    # The rows are rounded to a lattice of 2**-14; the order may differ where the distances do not differ by more.
    of_selected = [distances[id_] for id_ in selected]
    assert all(far > near - 1e-3 for far, near in pairwise(of_selected))
    assert all(distances[id_] > max(of_selected) - 1e-3 for id_ in set(ids) - set(selected))


@pytest.mark.filterwarnings("ignore::erase_core.DataWarning")
@given(ids=id_sets, n_shots=st.integers(1, 20))
def test_of_equal_neighbours_the_smaller_id_is_nearer(ids: list[Id], n_shots: int) -> None:
    rows = np.repeat(unit_rows(1), len(ids), axis=0)
    assert knn.select(model_of(ids, rows), n_shots, 0, unit_rows(1, 1)[0]) == sorted(ids)[:n_shots][::-1]


def test_an_example_is_the_last_that_is_shown_for_its_own_text(path: Path) -> None:
    examples = [Example(i, f"{word} question", "yes") for i, word in enumerate(WORDS)]
    with create(path, examples, strategy="knn") as erase:
        for example in examples:
            assert erase.demonstrations(example.input)[-1] == example
            assert len(erase.prompt(example.input).demonstrations) == 3


def test_only_neighbours_need_a_query(path: Path) -> None:
    erase = create(path, some(8), strategy="knn")
    check_refused(erase, lambda: erase.demonstrations(), ParameterError, "query")
    for strategy in ("kmeans", "random"):
        with new_path() as other, create(other, some(8), strategy=strategy) as another:
            expected = another.demonstrations()
            assert [another.demonstrations(query) for query in QUERIES] == [expected, expected]
            embedder = parts_of(another).backends._embedder
            assert isinstance(embedder, WordEmbedder)
            assert not set(QUERIES) & set(embedder.texts)


# ---- clusters ----
@given(ids=id_sets, n_clusters=st.integers(1, 6), seed=seeds)
def test_exemplars_are_one_a_cluster_and_the_nearest_to_its_centre(ids: list[Id], n_clusters: int, seed: int) -> None:
    rows = unit_rows(len(ids))
    model = model_of(ids, rows, n_clusters, seed)
    selected = kmeans.select(model, n_clusters, seed, None)
    label = dict(zip(cast("list[Id]", list(model.ids_)), model.labels_.tolist(), strict=True))
    row = dict(zip(ids, rows.astype(np.float64), strict=True))
    # Cluster by cluster, each that has a row.
    assert [label[id_] for id_ in selected] == sorted(set(label.values()))
    for shown in selected:
        centre = model.cluster_centers_[label[shown]]
        nearest = min(np.linalg.norm(row[id_] - centre) for id_ in ids if label[id_] == label[shown])
        assert np.linalg.norm(row[shown] - centre) <= nearest + 1e-3


# ---- routes ----
def squares(rows: NDArray[np.float32], centre: NDArray[np.float64]) -> list[float]:
    squared: list[float] = ((rows.astype(np.float64) - centre) ** 2).sum(axis=1).tolist()
    return squared


@given(ids=id_sets, n_clusters=st.integers(1, 6), n_shots=st.integers(1, 5), seed=seeds)
def test_a_routed_prompt_is_of_the_nearest_of_its_cluster(
    ids: list[Id], n_clusters: int, n_shots: int, seed: int
) -> None:
    rows = unit_rows(len(ids))
    model = model_of(ids, rows, n_clusters, seed)
    prompts = routed.prompts(model, n_shots)
    label = dict(zip(cast("list[Id]", list(model.ids_)), model.labels_.tolist(), strict=True))
    assert len(prompts) == min(n_clusters, len(ids))
    for cluster, shown in enumerate(prompts):
        own = [id_ for id_ in ids if label[id_] == cluster]
        assert len(shown) == min(n_shots, len(own))
        assert set(shown) <= set(own)
        squared = dict(zip(ids, squares(rows, model.cluster_centers_[cluster]), strict=True))
        # The nearest first, up to the rounding of rows.
        assert all(squared[near] < squared[far] + 1e-3 for near, far in pairwise(shown))
        assert all(squared[shown[-1]] < squared[id_] + 1e-3 for id_ in set(own) - set(shown))


@given(ids=id_sets, n_clusters=st.integers(1, 6), seed=st.integers(0, 99))
def test_a_query_gets_the_prompt_of_the_nearest_centre(ids: list[Id], n_clusters: int, seed: int) -> None:
    model = model_of(ids, None, n_clusters, seed)
    prompts = routed.prompts(model, 3)
    for query in unit_rows(5, seed + 1):
        route = RoutedSelector().route(model._model, query)
        assert route.prompt == model.predict(query[None])[0]
        assert routed.select(model, 3, 0, query) == prompts[route.prompt]
        distances = np.sqrt([squares(query[None], centre)[0] for centre in model.cluster_centers_])
        assert route.distance == pytest.approx(distances[route.prompt], abs=1e-3)
        others = np.delete(distances, route.prompt) - distances[route.prompt]
        assert route.margin == (pytest.approx(others.min(), abs=1e-3) if len(others) else None)
        assert route.margin is None or route.margin >= 0


def test_no_query_gets_the_prompt_of_a_cluster_without_examples() -> None:
    """Such a cluster has a centre all the same, where its rows were in the last step."""
    n_seen = 0
    for seed in range(4):
        model = QKMeans(50, epsilon=3, random_state=seed, max_norm=1.0).fit(unit_rows(167, seed))
        prompts = routed.prompts(model, 2)
        distances = model.transform(queries := unit_rows(1000, seed + 1000))
        distances[:, [not prompt for prompt in prompts]] = np.inf
        n_seen += sum(not prompts[label] for label in model.predict(queries))
        for query, own in zip(queries, distances, strict=True):
            route = RoutedSelector().route(model._model, query)
            assert routed.select(model, 2, 0, query) == prompts[route.prompt] != []
            assert route.distance == own.min()
            assert route.margin == np.partition(own, 1)[1] - own.min()
    assert n_seen, "no query was nearest to an empty cluster: the test shows nothing"


@pytest.mark.filterwarnings("ignore::erase_core.DataWarning")
def test_between_equal_centres_the_first_is_nearer() -> None:
    ids: list[Id] = [5, 3, 9, 1]
    model = QKMeans(3, max_norm=1.0).fit(np.repeat(unit_rows(1), 4, axis=0), ids=cast("list[int]", ids))
    # One centre has all rows, and the others, which are equal to it, have none.
    assert routed.prompts(model, 3) == [[1, 3, 5], [], []]
    for query in unit_rows(4, 3):
        assert RoutedSelector().route(model._model, query) == (0, ANY, None)


def test_the_prompts_are_all_that_a_query_can_get() -> None:
    ids: list[Id] = list(range(40))
    model = model_of(ids, None, 4)
    for selector in (kmeans, draw, routed):
        prompts = selector.prompts(model, 4)
        assert all(selector.select(model, 4, 0, query) in prompts for query in unit_rows(30, 8))
        assert len(prompts) == (4 if selector is routed else 1)
    assert knn.prompts(model, 4) == []
    assert possible_prompts(Settings(), None) == possible_prompts(Settings(strategy="routed"), None) == [[]]


@given(seed=st.integers(0, 2**32), n_prompts=st.integers(1, 12), n_shots=st.integers(1, 16))
def test_routes_after_removals_and_additions_are_those_of_the_survivors(
    seed: int, n_prompts: int, n_shots: int
) -> None:
    rng = np.random.default_rng(seed)
    rows = np.concatenate([unit_rows(90, seed % 7), np.repeat(unit_rows(10, 3), 3, axis=0)])
    ids: list[Id] = rng.permutation(len(rows)).tolist()
    known, queries = set(ids[:90]), unit_rows(20, 99)
    model = model_of(ids[:90], rows[:90], n_prompts, seed)
    for _ in range(int(rng.integers(1, 8))):
        # Of the prompts, too, so that lists run short.
        shown = [id_ for prompt in routed.prompts(model, n_shots) for id_ in prompt]
        gone = {int(each) for each in rng.choice(shown, size=min(len(shown), int(rng.integers(1, 12))), replace=False)}
        gone = set(list(gone)[: max(1, len(known) - n_prompts)])
        model.remove(sorted(gone))
        known -= gone
        back = [place for place, id_ in enumerate(ids) if id_ not in known and rng.random() < 0.1]
        if back:
            model.add(rows[back], ids=[cast("int", ids[place]) for place in back])
            known |= {ids[place] for place in back}
    places = [place for place, id_ in enumerate(ids) if id_ in known]
    once = QKMeans(n_prompts, max_norm=1.0, random_state=seed)
    once.fit(rows[places], ids=[cast("int", ids[place]) for place in places])
    assert routed.prompts(model, n_shots) == routed.prompts(once, n_shots)
    for query in queries:
        assert RoutedSelector().route(model._model, query) == RoutedSelector().route(once._model, query)


# ---- all ----
@pytest.mark.parametrize("selector", [kmeans, draw, knn, routed], ids=["kmeans", "random", "knn", "routed"])
def test_a_selection_depends_neither_on_the_order_nor_on_the_history(selector: Chosen) -> None:
    rng = np.random.default_rng(0)
    ids: list[Id] = [f"row {i}" for i in range(30)]
    rows, query = unit_rows(30), unit_rows(1, 5)[0]
    for _ in range(20):
        kept = rng.permutation(30)[: rng.integers(4, 30)].tolist()
        once = model_of([ids[i] for i in kept], rows[kept], 4)
        longer = model_of(ids, rows, 4)
        longer.remove([str(id_) for i, id_ in enumerate(ids) if i not in kept])
        assert selector.select(longer, 4, 0, query) == selector.select(once, 4, 0, query)
        assert selector.prompts(longer, 4) == selector.prompts(once, 4)


def test_the_draw_is_the_one_that_is_written_down() -> None:
    """A change of it would change every store's prompts, and be none of a store's version."""
    ids: list[Id] = ["a", "b", "c", 5, 7]

    def key(id_: Id) -> bytes:
        kind = "int" if isinstance(id_, int) else "str"
        return hashlib.blake2b(f"{kind}:{id_}".encode(), key=(9).to_bytes(8, "little"), digest_size=16).digest()

    for of_a_kind in (ids[:3], ids[3:]):
        assert draw.select(model_of(of_a_kind), 2, 9, None) == heapq.nsmallest(2, of_a_kind, key=key)
