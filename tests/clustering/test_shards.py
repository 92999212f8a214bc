"""Rows in several places (`_core.Shard`, `_core.Coordinator`) give the model of one place."""

from __future__ import annotations

import pickle
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import oracle
import pytest
from erase_core._core import Coordinator, Shard, merge_parts, read_part
from erase_core.errors import DataError, IdKindError, ModelFileError, ParameterError, UnknownIdError
from fits import Config, Id, fresh, id_list, matrix, oracle_fit, state
from hypothesis import given
from hypothesis import strategies as st
from problems import problems, row_sets


class Places:
    """A coordinator with its shards; rows go where their ids say."""

    def __init__(self, config: Config, shards: int) -> None:
        self.config = config
        keywords: dict[str, Any] = config.core()
        self.model = Coordinator(config.d, n_threads=1, cache_bytes=None, **keywords)
        self.shards = [Shard(self.model.parameters(), 1, None) for _ in range(shards)]

    def shard_of(self, id_: Id) -> int:
        return (id_ if isinstance(id_, int) else len(id_)) % len(self.shards)

    def add(self, rows: Mapping[Id, Sequence[float]]) -> None:
        for number, shard in enumerate(self.shards):
            ids = [id_ for id_ in rows if self.shard_of(id_) == number]
            shard.add(matrix([rows[id_] for id_ in ids], self.config.d), id_list(ids))

    def part(self, nearest: int = 1) -> bytes:
        return merge_parts([shard.part(nearest) for shard in self.shards])

    def complete(self) -> None:
        for shard in self.shards:
            if self.model.n_rows:
                shard.assign(self.model.frame_message())
        self.model.complete(self.part(18))

    def fit(self, rows: Mapping[Id, Sequence[float]]) -> None:
        self.add(rows)
        panel = self.config.panel or 0
        self.model.fit([shard.smallest(None, panel) for shard in self.shards], self.part())
        self.complete()

    def change(self, removed: Sequence[Id], added: Mapping[Id, Sequence[float]]) -> bool:
        """One update. Return whether the centres moved."""
        mark, leaving = self.model.mark(), self.model.on_panel(id_list(removed))
        gone = [id_ for shard in self.shards for id_ in shard.remove(id_list(removed))]
        assert sorted(gone, key=str) == sorted(removed, key=str)
        self.add(added)
        candidates = [shard.candidates(id_list(list(added)), mark) for shard in self.shards]
        if leaving:
            candidates += [shard.smallest(mark, len(leaving)) for shard in self.shards]
        report, moved = self.model.exchange(id_list(removed), candidates, self.part(18))
        assert report.n_removed >= len(leaving)
        assert self.model.is_complete is not moved
        if moved:
            self.complete()
        return moved


@given(st.data())
def test_shards_give_the_model_of_the_oracle(data: st.DataObject) -> None:
    problem = data.draw(problems())
    config = replace(problem.config, panel=problem.config.panel or 16)
    problem = replace(problem, config=config)
    as_text = data.draw(st.booleans())
    ids: list[Id] = [f"{'x' * (i % 5)}{i}" if as_text else i for i in range(24)]
    first = data.draw(row_sets(problem, ids[:16], 0, 16))
    more = data.draw(row_sets(problem, ids[16:], 0, 8))
    places = Places(config, data.draw(st.integers(1, 5)))
    places.fit(first)
    expected = oracle_fit(first, config)
    assert places.model.digest() == oracle.digest(expected)
    removed = data.draw(st.lists(st.sampled_from(sorted(first, key=str)), unique=True)) if first else []
    places.change(removed, more)
    rows = {id_: row for id_, row in {**first, **more}.items() if id_ not in removed}
    expected = oracle_fit(rows, config)
    assert places.model.digest() == oracle.digest(expected)
    assert places.model.exemplars() == expected.exemplars
    assert places.model.counts().tolist() == (expected.result.counts if expected.result else [])
    labels = dict(zip(expected.ids, expected.labels, strict=True))
    for shard in places.shards:
        here = list(shard.ids())
        assert shard.labels(id_list(here)).tolist() == [labels[id_] for id_ in here] if here else shard.n_rows == 0


@pytest.fixture(scope="module")
def some_rows() -> dict[Id, list[float]]:
    rng = np.random.default_rng(5)
    centres = rng.normal(size=(8, 12))
    x = centres[rng.integers(0, 8, 900)] + 0.4 * rng.normal(size=(900, 12))
    return {int(id_): row.tolist() for id_, row in enumerate(x)}


def test_the_estimator_has_the_same_results(some_rows: dict[Id, list[float]]) -> None:
    config = Config(n_clusters=6, panel=100, seed=3, d=12)
    places = Places(config, 3)
    first: dict[Id, list[float]] = {id_: some_rows[id_] for id_ in range(800)}
    places.fit(first)
    alone = config.estimator().fit(matrix(list(first.values()), 12), ids=id_list(list(first)))
    added: dict[Id, list[float]] = {id_: some_rows[id_] for id_ in range(800, 900)}
    removed = range(0, 120, 2)
    places.change(list(removed), added)
    alone.remove(removed)
    alone.add(matrix(list(added.values()), 12), ids=id_list(list(added)))
    model = places.model
    assert model.digest() == alone.digest()
    assert model.n_rows == len(alone.ids_)
    assert model.inertia.hex() == alone.inertia_.hex()
    assert model.resolution.hex() == alone.resolution_.hex()
    assert model.centres().tobytes() == alone.cluster_centers_.tobytes()
    assert model.nearest(18) == alone.nearest(18)
    queries = matrix([some_rows[3], [1e6] * 12], 12)
    assert model.predict(queries).tolist() == alone.predict(queries).tolist()
    assert model.transform(queries).tobytes() == alone.transform(queries).tobytes()
    gathered = model.gather([shard.rows(at, at + 50) for shard in places.shards for at in range(0, 400, 50)], 1, None)
    assert gathered.to_bytes() == alone._model.to_bytes()
    assert state(gathered) == state(alone)


def test_most_removals_move_nothing(some_rows: dict[Id, list[float]]) -> None:
    """Off the panel no message names the panel, and no shard assigns its rows anew."""
    places = Places(Config(n_clusters=6, panel=60, max_norm=20.0, seed=1, d=12), 2)
    places.fit(some_rows)
    off = [id_ for id_ in some_rows if id_ not in places.model.panel_ids()][:40]
    frame = places.model.frame_message()
    for id_ in off:
        assert not places.change([id_], {})
    assert places.model.frame_message() == frame
    rows = {id_: row for id_, row in some_rows.items() if id_ not in off}
    assert places.model.digest() == fresh(rows, places.config).digest()


def test_a_coordinator_is_saved_and_taken_up_again(some_rows: dict[Id, list[float]]) -> None:
    places = Places(Config(n_clusters=6, panel=60, seed=1, d=12), 2)
    places.fit(some_rows)
    digest = places.model.digest()
    again = pickle.loads(pickle.dumps(places.model))
    assert again.digest() == digest
    places.model = again
    places.change([0, 1, 2], {})
    rows = {id_: row for id_, row in some_rows.items() if id_ not in (0, 1, 2)}
    assert again.digest() == fresh(rows, places.config).digest()


def test_a_shard_that_is_read_again_has_the_same_hash(some_rows: dict[Id, list[float]]) -> None:
    places = Places(Config(n_clusters=6, panel=60, seed=1, d=12), 2)
    places.fit(some_rows)
    before, digest = places.shards[1].part(), places.model.digest()
    places.shards[1] = Shard(places.model.parameters(), 1, None)
    lost = [id_ for id_ in reversed(some_rows) if places.shard_of(id_) == 1]
    places.shards[1].add(matrix([some_rows[id_] for id_ in lost], 12), id_list(lost))
    assert read_part(places.shards[1].part())["row_hash"] == read_part(before)["row_hash"]
    assert read_part(places.part())["counts"] is None
    places.complete()
    assert places.shards[1].part() == before
    assert places.model.digest() == digest


def test_what_a_part_says(some_rows: dict[Id, list[float]]) -> None:
    places = Places(Config(n_clusters=6, panel=60, seed=1, d=12), 3)
    places.fit(some_rows)
    said = read_part(places.part(3))
    assert said["n_rows"] == 900
    assert said["frame"] == places.model.frame == places.shards[0].frame
    assert said["exponent"] == max(shard.exponent or 0 for shard in places.shards)
    assert said["counts"] is not None
    assert said["counts"].tolist() == places.model.counts().tolist()
    assert said["nearest"] is not None
    assert [[id_ for _, id_ in near] for near in said["nearest"]] == places.model.nearest(3)
    assert len(said["row_hash"] or b"") == 2048


def test_the_hash_of_the_rows_is_optional(some_rows: dict[Id, list[float]]) -> None:
    places = Places(Config(n_clusters=6, panel=60, seed=1, d=12), 2)
    places.add(some_rows)
    without = merge_parts([shard.part(row_hash=False) for shard in places.shards])
    assert read_part(without)["row_hash"] is None
    places.model.fit([shard.smallest(None, 60) for shard in places.shards], without)
    for shard in places.shards:
        shard.assign(places.model.frame_message())
    places.model.complete(merge_parts([shard.part(row_hash=False) for shard in places.shards]))
    alone = fresh(some_rows, places.config)
    assert places.model.inertia.hex() == alone.inertia.hex()
    with pytest.raises(DataError, match="no hash of the rows"):
        places.model.digest()
    places.complete()
    assert places.model.digest() == alone.digest()
    # It is known from then on.
    assert places.shards[0].part(row_hash=False) == places.shards[0].part()


def test_errors(some_rows: dict[Id, list[float]]) -> None:
    config = Config(n_clusters=6, panel=60, seed=1, d=12)
    places = Places(config, 2)
    places.fit(some_rows)
    model, shard = places.model, places.shards[0]
    digest = model.digest()
    with pytest.raises(ParameterError, match=r"panel must be a number of rows \(not None\)"):
        Places(replace(config, panel=None), 1)
    with pytest.raises(ModelFileError, match=r"not a valid message: .*kind"):
        Shard(model.frame_message(), 1, None)
    with pytest.raises(ModelFileError, match="checksum"):
        shard.assign(model.frame_message()[:-1] + b"x")
    with pytest.raises(ModelFileError, match="other parameters"):
        shard.take(Places(replace(config, seed=2), 1).shards[0].rows(0, 1))
    with pytest.raises(ModelFileError, match="no parts"):
        merge_parts([])
    with pytest.raises(DataError, match="1 rows of the panel are missing"):
        model.exchange(model.seeds()[:1], [], places.part())  # type: ignore[arg-type]
    with pytest.raises(DataError, match="the parts have 18 nearest rows: complete the model with parts of 30"):
        model.nearest(30)
    with pytest.raises(DataError, match="not of the rows"):
        model.complete(shard.part())
    with pytest.raises(DataError, match="rows were gathered"):
        model.gather([shard.rows(0, 900)], 1, None)
    with pytest.raises(UnknownIdError, match="not in this shard: id 1;"):
        shard.rows_of([1])
    with pytest.raises(ParameterError, match="nearest must be from 1 to 64"):
        shard.part(65)
    with pytest.raises(IdKindError):
        shard.add(matrix([some_rows[0]], 12), ["a"])
    unassigned = Shard(model.parameters(), 1, None)
    unassigned.add(matrix([[1e9] * 12], 12), [-1])
    with pytest.raises(DataError, match="not assigned"):
        unassigned.labels([-1])
    with pytest.raises(ParameterError, match="centres must be of an exponent of at least"):
        unassigned.assign(model.frame_message())
    assert model.digest() == digest


def test_an_unfitted_model_is_empty() -> None:
    config = Config(n_clusters=3, panel=8, d=2)
    places = Places(config, 2)
    assert places.model.is_complete
    assert places.model.digest() == fresh({}, config).digest()
    assert places.model.exemplars() == []
