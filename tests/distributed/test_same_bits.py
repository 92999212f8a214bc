"""The law: wherever rows lie, and whatever came, went, moved and died meanwhile, the bits are those of one process."""

from __future__ import annotations

import copy
import itertools
import pickle
import shutil
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from erase_core import EraseError, NotPicklableError, ParameterError, QKMeans
from erase_core.distributed import DistributedQKMeans
from erase_core.distributed.engines.local import LocalEngine
from erase_core.distributed.engines.protocol import Engine
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from made_parts import SETTINGS, digest_of, made_rows, write_part
from mortal_engine import MortalEngine
from numpy.typing import NDArray
from sklearn.exceptions import NotFittedError

# Few rows that are small beside `max_norm`: equal bits do not need precision.
pytestmark = pytest.mark.filterwarnings("ignore::erase_core.DataWarning")

POOL = made_rows(400)
SHARDS = st.sampled_from([1, 2, 3, 7])


class Spread(RuleBasedStateMachine):
    """A model in shards beside the rows that it should have."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp())
        self.engine = MortalEngine()
        self.rows: dict[int, NDArray[np.float32]] = {}
        self.fresh = itertools.count()
        self.files = itertools.count()

    def new_parts(self, sizes: list[int], scale: float, reused: int) -> list[Path]:
        """Files of new rows, some with ids that were removed before."""
        free = sorted({*range(reused)} - self.rows.keys())
        parts = []
        for size in sizes:
            ids = [free.pop() if free else 10_000 + next(self.fresh) for _ in range(size)]
            rows = np.float32(scale) * POOL[[id_ % len(POOL) for id_ in ids]].reshape(size, POOL.shape[1])
            self.rows |= dict(zip(ids, rows, strict=True))
            parts.append(write_part(self.folder / f"{next(self.files)}.npy", ids, rows))
        return parts

    @initialize(
        n_shards=SHARDS,
        sizes=st.lists(st.integers(0, 60), min_size=1, max_size=6),
        max_norm=st.sampled_from([None, 1000.0]),
        panel=st.sampled_from([4, 40, 1000]),
    )
    def fit(self, n_shards: int, sizes: list[int], max_norm: float | None, panel: int) -> None:
        self.settings = {"max_norm": max_norm, "panel": panel}
        parts = self.new_parts([*sizes, 4], 1, 0)
        self.model = DistributedQKMeans(**(SETTINGS | self.settings), engine=self.engine, n_shards=n_shards)
        self.model.fit(parts)

    @rule(
        sizes=st.lists(st.integers(0, 12), max_size=3), scale=st.sampled_from([1.0, 0.1, 20.0]), seed=st.integers(0, 50)
    )
    def add(self, sizes: list[int], scale: float, seed: int) -> None:
        self.model.add(self.new_parts(sizes, scale, seed))

    @precondition(lambda self: self.rows)
    @rule(data=st.data())
    def remove(self, data: st.DataObject) -> None:
        ids = data.draw(st.lists(st.sampled_from(sorted(self.rows)), min_size=1, max_size=8, unique=True))
        assert self.model.remove(ids).n_removed == len(ids)
        for id_ in ids:
            del self.rows[id_]

    @precondition(lambda self: len(self.rows) > 20)
    @rule(share=st.floats(0.5, 1), seed=st.integers(0, 100))
    def remove_most(self, share: float, seed: int) -> None:
        ids = np.random.default_rng(seed).permutation(sorted(self.rows))[: int(share * len(self.rows))]
        self.model.remove(ids)
        for id_ in ids.tolist():
            del self.rows[id_]

    @rule(n_shards=SHARDS)
    def redistribute(self, n_shards: int) -> None:
        self.model.redistribute(n_shards)

    @rule(at=st.integers(0, 100))
    def a_worker_dies(self, at: int) -> None:
        records = self.model._clustering._shards.records
        self.engine.stop(records[at % len(records)].place)

    @rule(at=st.integers(0, 20), late=st.booleans())
    def a_worker_will_die(self, at: int, late: bool) -> None:
        self.engine.arm(at, late=late)

    @rule()
    def resume(self) -> None:
        self.engine.arm()
        self.model.save(self.folder / "saved")
        self.model = DistributedQKMeans.resume(self.folder / "saved", self.engine)

    @invariant()
    def the_bits_are_those_of_one_process(self) -> None:
        if not hasattr(self, "model"):
            return
        if self.rows:
            assert self.model.digest() == digest_of(self.rows, **self.settings)
        assert self.model.n_rows_ == len(self.rows)

    def teardown(self) -> None:
        shutil.rmtree(self.folder)


TestSpread = Spread.TestCase
TestSpread.settings = settings(max_examples=25, deadline=None, derandomize=True, stateful_step_count=12)


@pytest.mark.slow
def test_long_histories() -> None:
    from hypothesis.stateful import run_state_machine_as_test

    run_state_machine_as_test(Spread, settings=settings(max_examples=1500, stateful_step_count=40, deadline=None))


# ---- other kinds of ids and settings ----
@pytest.mark.parametrize("n_shards", [1, 2, 3, 7])
def test_ids_may_be_strings(n_shards: int) -> None:
    ids = [f"row {number}" for number in range(200)]
    with DistributedQKMeans(**SETTINGS, engine="local", n_shards=n_shards) as model:
        model.fit([(ids[:90], POOL[:90]), (ids[90:], POOL[90:200])])
        model.remove("row 5")
        model.remove(ids[50:120])
        rows = {id_: POOL[at] for at, id_ in enumerate(ids) if at != 5 and not 50 <= at < 120}
        assert model.digest() == digest_of(rows)
        assert model.exemplars_ == model.gather().exemplars_


@pytest.mark.parametrize(
    "settings",
    [{"projection": 5}, {"projection": POOL[:5]}, {"center": POOL[0]}, {"epsilon": 0.3, "gamma": 0.0, "max_iter": 2}],
    ids=["signs", "matrix", "center", "others"],
)
def test_settings_are_those_of_one_process(settings: dict[str, Any], tmp_path: Path) -> None:
    rows = dict(enumerate(POOL[:200]))
    with DistributedQKMeans(**SETTINGS, **settings, engine="local", n_shards=3) as model:
        model.fit([write_part(tmp_path / f"{a}.npy", range(a, a + 50), POOL[a : a + 50]) for a in range(0, 200, 50)])
        assert model.digest() == digest_of(rows, **settings)
        model.save(tmp_path / "saved")
        model.remove(8)
        del rows[8]
    with DistributedQKMeans.resume(tmp_path / "saved", "local") as model:
        assert model.digest() == digest_of(rows, **settings)


def test_results_are_those_of_one_process() -> None:
    one = QKMeans(**SETTINGS).fit(POOL[:300])
    with DistributedQKMeans(**SETTINGS, engine=LocalEngine(3)) as model:
        model.fit([POOL[a : a + 60] for a in range(0, 300, 60)])
        one.remove(17)
        model.remove(17)
        assert np.array_equal(model.cluster_centers_, one.cluster_centers_)
        assert (model.inertia_, model.resolution_, model.n_iter_) == (one.inertia_, one.resolution_, one.n_iter_)
        assert (model.exemplars_, model.seed_, model.n_features_in_) == (one.exemplars_, one.seed_, one.n_features_in_)
        assert model.nearest(30) == one.nearest(30)
        assert model.nearest(1) == one.nearest(1)
        assert np.array_equal(model.labels(one.ids_), one.labels_)
        assert np.array_equal(model.predict(POOL), one.predict(POOL))
        assert np.array_equal(model.transform(POOL), one.transform(POOL))
        assert model.score(POOL) == one.score(POOL)
        gathered = model.gather()
        assert gathered.digest() == one.digest()
        assert np.array_equal(gathered.labels_, one.labels_)
        assert gathered.remove(3).n_removed == 1


def test_rows_that_are_all_gone_can_come_again() -> None:
    with DistributedQKMeans(**SETTINGS, engine=LocalEngine(3)) as model:
        model.fit([POOL[:50]])
        model.remove(range(50))
        assert model.n_rows_ == 0
        assert model.exemplars_ == []
        model.add([(["a", "b"], POOL[:2])])
        assert model.digest() == digest_of({"a": POOL[0], "b": POOL[1]})


# ---- messages ----
class Counting(LocalEngine):
    """Forgets nothing that is sent or received."""

    def __init__(self) -> None:
        super().__init__()
        self.carried: list[bytes] = []

    def _send(self, place: Any, request: bytes) -> Any:
        replies = super()._send(place, request)
        self.carried += [request, *replies]
        return replies


def off_panel(model: DistributedQKMeans, start: int = 0) -> int:
    """A row that is not on the panel: the first from some number on."""
    panel = {*np.asarray(model._clustering._coordinator.panel_ids()).tolist()}
    return next(id_ for id_ in itertools.count(start) if id_ not in panel)


@pytest.mark.parametrize("limit", [None, 200])
def test_a_removal_off_the_panel_is_one_trip_whose_size_does_not_depend_on_the_rows(limit: int | None) -> None:
    sizes = []
    for n_rows in (300, 3000):
        rows = made_rows(n_rows)
        engine = LocalEngine(3, limit)
        model = DistributedQKMeans(**SETTINGS, engine=engine).fit([rows[::2], rows[1::2]])
        gone = off_panel(model)
        model.digest()  # the rows of a new model are hashed once
        engine.traffic.trips = engine.traffic.sent = engine.traffic.received = 0
        model.remove(gone)
        assert engine.traffic.trips == 1
        sizes.append(engine.traffic.sent + engine.traffic.received)
    assert max(sizes) - min(sizes) < 64


def test_rows_off_the_panel_do_not_travel(tmp_path: Path) -> None:
    """Their files are read where they are held. What a shard offers for the panel does travel."""
    rows = made_rows(500)
    parts = [write_part(tmp_path / f"{a}.npy", range(a, a + 250), rows[a : a + 250]) for a in (0, 250)]
    engine = Counting()
    model = DistributedQKMeans(4, panel=20, max_norm=64.0, engine=engine).fit(parts)
    for start in (0, 100, 200):
        model.remove(off_panel(model, start))
    # A row as it is kept: 16-bit integers at the scale of 64.
    kept = np.round(rows.astype(np.float64) * 2.0 ** (14 - 6)).astype("<i2")
    carried = b"\n".join(engine.carried)
    seen = sum(row.tobytes() in carried or given.tobytes() in carried for row, given in zip(kept, rows, strict=True))
    assert 20 <= seen <= 2 * 20 + 20


def test_an_error_changes_nothing() -> None:
    with DistributedQKMeans(**SETTINGS, engine=LocalEngine(3)) as model:
        model.fit([(range(100), POOL[:100]), (range(100, 200), POOL[100:200])])
        before = model.digest()
        wrong: list[Any] = [
            [(range(200, 210), POOL[200:210]), ([5], POOL[:1])],
            [(range(200, 210), POOL[200:210]), ([200], POOL[:1])],
            [(["a"], POOL[:1])],
            [([300], np.full((1, 8), np.nan))],
            [([300], POOL[:1, :5])],
            [(range(200, 210), 1e6 * POOL[200:210]), ([5], POOL[:1])],
            [(range(200, 210), POOL[200:210]), "/nowhere.npy"],
            [POOL[:3], ([900], POOL[:1])],
        ]
        for parts in wrong:
            with pytest.raises(EraseError):
                model.add(parts)
            assert model.digest() == before
        assert model.add([(range(200, 210), POOL[200:210])]).n_added == 10
        assert model.digest() == digest_of(dict(enumerate(POOL[:210])))


def test_a_model_is_neither_copied_nor_pickled() -> None:
    """Two models would change the same rows."""
    model = DistributedQKMeans(**SETTINGS, engine="local").fit([POOL[:50]])
    for call in (copy.copy, copy.deepcopy, pickle.dumps):
        with pytest.raises(NotPicklableError, match="Use save and resume, or gather"):
            call(model)


def test_a_model_without_rows_says_what_to_do() -> None:
    model = DistributedQKMeans(**SETTINGS, engine="local")
    with pytest.raises(NotFittedError):
        model.digest()
    model.fit([POOL[:50]]).close()
    with pytest.raises(ParameterError, match="the model is closed"):
        model.digest()
    with pytest.raises(ParameterError, match="panel must be 'auto' or an integer"):
        DistributedQKMeans(4, panel=None, engine="local").fit([POOL])  # type: ignore[arg-type]


def test_an_engine_is_not_asked_for_what_the_coordinator_knows() -> None:
    engine: Engine = LocalEngine(2)
    model = DistributedQKMeans(**SETTINGS, engine=engine).fit([POOL[:100]])
    model.digest()  # the rows of a new model are hashed once
    trips = engine.traffic.trips
    model.digest(), model.predict(POOL), model.exemplars_, model.inertia_, model.cluster_centers_
    assert engine.traffic.trips == trips
