"""The contract: after any additions and removals the model is, bit for bit, that of a fit on the rows that remain.

A hypothesis state machine looks for the corners, with the whole visible state compared after every rule; a plain random
loop looks for the rare, by number. What a fit must be is test_against_oracle's business.
"""

from __future__ import annotations

import copy
import pickle
import tempfile
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest
from erase_core import QKMeans, UpdateReport
from fits import Config, Id, Row, fresh, id_list, matrix, state
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from problems import INT_IDS, TEXT_IDS, Problem, problems, random_config, random_rows, row_sets

MAX_ROWS = 20

# Of so few rows, many of them equal or much larger than the others.
pytestmark = pytest.mark.filterwarnings("ignore::erase_core.DataWarning")


class Contract(RuleBasedStateMachine):
    """One estimator, and beside it the rows that it should be a fit of."""

    def __init__(self) -> None:
        super().__init__()
        self.directory = tempfile.TemporaryDirectory()
        self.problem = Problem(Config(), "grid")
        self.rows: dict[Id, Row] = {}
        self.ids = INT_IDS
        self.model = QKMeans()

    def teardown(self) -> None:
        self.directory.cleanup()

    @initialize(problem=problems(), ids=st.sampled_from([INT_IDS, TEXT_IDS]), data=st.data())
    def fit(self, problem: Problem, ids: list[Id], data: st.DataObject) -> None:
        self.problem, self.ids = problem, ids
        least = problem.config.n_clusters
        self.rows = data.draw(row_sets(problem, ids, least, max(least, 12)))
        self.model = problem.config.estimator()
        self.refit()

    # ---- additions ----
    def _add(self, new: dict[Id, Row]) -> None:
        report = self.model.add(matrix(list(new.values()), self.problem.config.d), ids=id_list(list(new)))
        self.rows |= new
        self._check(report, len(new), 0)

    def _absent(self) -> list[Id]:
        return [id_ for id_ in self.ids if id_ not in self.rows]

    @precondition(lambda self: len(self.rows) < MAX_ROWS)
    @rule(data=st.data())
    def add_one(self, data: st.DataObject) -> None:
        self._add(data.draw(row_sets(self.problem, self._absent(), 1, 1)))

    @precondition(lambda self: len(self.rows) < MAX_ROWS - 6)
    @rule(data=st.data())
    def add_many(self, data: st.DataObject) -> None:
        self._add(data.draw(row_sets(self.problem, self._absent(), 2, 6)))

    @precondition(lambda self: 0 < len(self.rows) < MAX_ROWS)
    @rule(data=st.data())
    def add_duplicate_of_a_row(self, data: st.DataObject) -> None:
        self._add({data.draw(st.sampled_from(self._absent())): data.draw(st.sampled_from(list(self.rows.values())))})

    @precondition(lambda self: self.ids is INT_IDS and len(self.rows) < MAX_ROWS and 2**63 - 1 not in self.rows)
    @rule(data=st.data())
    def add_under_the_default_id(self, data: st.DataObject) -> None:
        row = data.draw(self.problem.rows())
        next_id = max((id_ for id_ in self.rows if isinstance(id_, int)), default=-1) + 1
        report = self.model.add([row])
        self.rows[next_id] = row
        self._check(report, 1, 0)

    # ---- removals ----
    def _remove(self, gone: list[Id], as_given: Callable[[list[Id]], list[Id]] = list) -> None:
        report = self.model.remove(id_list(as_given(gone)))
        for id_ in gone:
            del self.rows[id_]
        self._check(report, 0, len(gone))

    @precondition(lambda self: self.rows)
    @rule(data=st.data())
    def remove_one_by_its_bare_id(self, data: st.DataObject) -> None:
        gone = data.draw(st.sampled_from(list(self.rows)))
        report = self.model.remove(gone)
        del self.rows[gone]
        self._check(report, 0, 1)

    @precondition(lambda self: self.rows)
    @rule(data=st.data(), twice=st.booleans())
    def remove_many(self, data: st.DataObject, twice: bool) -> None:
        present, most = list(self.rows), len(self.rows) // 2 + 1
        gone = data.draw(st.lists(st.sampled_from(present), unique=True, min_size=1, max_size=most))
        self._remove(gone, (lambda ids: ids + ids[:1]) if twice else list)

    @precondition(lambda self: self.rows)
    @rule(data=st.data())
    def remove_seeds(self, data: st.DataObject) -> None:
        self._remove(data.draw(st.lists(st.sampled_from(self.model._model.seeds()), unique=True, min_size=1)))

    @precondition(lambda self: self.rows)
    @rule(data=st.data())
    def remove_exemplars(self, data: st.DataObject) -> None:
        exemplars = [id_ for id_ in self.model.exemplars_ if id_ is not None]
        self._remove(data.draw(st.lists(st.sampled_from(exemplars), unique=True, min_size=1)))

    @precondition(lambda self: 0 < len(self.rows) < 3)
    @rule()
    def remove_all(self) -> None:
        self._remove(list(self.rows))

    @precondition(lambda self: self.rows)
    @rule(data=st.data())
    def replace_a_row(self, data: st.DataObject) -> None:
        id_ = data.draw(st.sampled_from(list(self.rows)))
        self._remove([id_])
        self._add({id_: data.draw(self.problem.rows())})

    # ---- what changes nothing ----
    @precondition(lambda self: len(self.rows) >= self.problem.config.n_clusters)
    @rule()
    def refit(self) -> None:
        self.model.fit(matrix(list(self.rows.values()), self.problem.config.d), ids=id_list(list(self.rows)))

    @rule(threads=st.sampled_from([None, 1, 2]))
    def save_and_load(self, threads: int | None) -> None:
        path = Path(self.directory.name) / "model"
        self.model.save(path)
        self.model = QKMeans.load(path, n_threads=threads)

    @rule()
    def pickle_and_unpickle(self) -> None:
        self.model = pickle.loads(pickle.dumps(self.model))

    @rule()
    def deepcopy(self) -> None:
        self.model = copy.deepcopy(self.model)

    @rule()
    def remove_nothing(self) -> None:
        self._remove([])

    @precondition(lambda self: not self.rows)
    @rule()
    def change_kind_of_ids(self) -> None:
        self.ids = TEXT_IDS if self.ids is INT_IDS else INT_IDS

    # ---- the law ----
    def _check(self, report: UpdateReport, added: int, removed: int) -> None:
        assert (report.n_added, report.n_removed) == (added, removed)
        assert report.path != "certified" or report.first_iteration is None
        assert report.path != "replayed" or report.first_iteration is not None

    @invariant()
    def is_a_fresh_fit_of_the_survivors(self) -> None:
        assert state(self.model) == state(fresh(self.rows, self.problem.config))


TestContract = Contract.TestCase
TestContract.settings = settings(stateful_step_count=40)


def test_an_emptied_model_shows_no_trace_of_the_kind_its_ids_were() -> None:
    never = fresh({}, Config())
    for ids in (INT_IDS[:5], TEXT_IDS[:5]):
        model = fresh({id_: [1.0, 2.0] for id_ in ids}, Config())
        model.remove(id_list(ids))
        assert state(model) == state(never)
        assert type(model.ids()) is type(never.ids())


# ---- by number ----
@dataclass
class Tally:
    """What a random loop has done. `paths` counts operations by direction and path."""

    rows: int = 0
    paths: Counter[tuple[str, str]] = field(default_factory=Counter)

    def __str__(self) -> str:
        total = sum(self.paths.values())
        shares = ", ".join(f"{way} {path} {count / total:.1%}" for (way, path), count in sorted(self.paths.items()))
        return f"{total} operations, {self.rows} row updates, no mismatch; {shares}"


def churn_one(rng: np.random.Generator, tally: Tally, steps: int) -> None:
    """One random model through `steps` random operations, each compared with a fresh fit."""
    d, most = int(rng.integers(1, 9)), int(rng.choice([8, 40, 80, 200]))
    x, config = random_rows(rng, 2 * most, d), random_config(rng, d)
    names: list[Id] = [f"r{i}" for i in range(2 * most)] if rng.random() < 0.2 else list(range(-most, most))
    pool = {id_: row.tolist() for id_, row in zip(names, x, strict=True)}
    present: list[Id] = [names[i] for i in rng.permutation(2 * most)[: rng.integers(1, most + 1)]]
    model = fresh({id_: pool[id_] for id_ in present}, config)
    for _ in range(steps):
        coin, batch = rng.random(), int(rng.choice([1] * 12 + [2, 5, most // 2]))
        if present and (coin < 0.5 or len(present) >= most):
            candidates = model.seeds() if coin < 0.05 else [e for e in model.exemplars() if e is not None]
            candidates = candidates if coin < 0.15 else present
            gone = [candidates[i] for i in rng.permutation(len(candidates))[:batch]]
            report, way = model.remove(gone[0] if len(gone) == 1 else id_list(gone)), "remove"
            present = [id_ for id_ in present if id_ not in set(gone)]
        else:
            absent = [id_ for id_ in names if id_ not in set(present)]
            new = [absent[i] for i in rng.permutation(len(absent))[:batch]]
            report, way = model.add(matrix([pool[id_] for id_ in new], d), id_list(new)), "add"
            present += new
        tally.rows += report.n_added + report.n_removed
        tally.paths[way, report.path] += 1
        survivors = {id_: pool[id_] for id_ in present}
        assert state(model) == state(fresh(survivors, config)), (config, survivors, report)


def churn(seed: int, rows: int) -> Tally:
    """Random models until so many rows have come or gone."""
    rng, tally = np.random.default_rng(seed), Tally()
    while tally.rows < rows:
        churn_one(rng, tally, 50)
    return tally


def test_twenty_thousand_row_updates_take_every_path_and_miss_nothing() -> None:
    tally = churn(1, 20_000)
    paths = ("certified", "replayed", "reseeded")
    assert set(tally.paths) == {(way, path) for way in ("add", "remove") for path in paths}


@pytest.mark.slow
def test_a_million_row_updates_miss_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    tally = churn(2, 1_000_000)
    with capsys.disabled():
        print(f"\n{tally}")
    assert tally.rows >= 1_000_000
    assert min(tally.paths.values()) > 1000
