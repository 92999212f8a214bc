"""A worker that dies at any moment: an update is whole or absent, and the rows are those that they were.

Here workers are objects of this process, and die at every request in turn. test_engines.py kills real ones.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from erase_core import MissingPackageError, ParameterError, PartError, UnknownIdError, WorkerLostError
from erase_core.distributed import DistributedQKMeans, holder
from erase_core.distributed.engines.protocol import Lost, Place
from made_parts import SETTINGS, digest_of, made_rows, write_part
from mortal_engine import MortalEngine

X = made_rows(150)
ROWS = dict(enumerate(X))
# 0, 1, 2 ... are in three files; 120 and above come later.
CUTS = [(0, 50), (50, 60), (60, 120)]
LATE = pytest.mark.parametrize("late", [False, True], ids=["before it is done", "after it is done"])


def some(ids: Any) -> dict[int, Any]:
    return {id_: ROWS[id_] for id_ in ids}


@pytest.fixture
def files(tmp_path: Path) -> list[Path]:
    return [write_part(tmp_path / f"{a}.npy", range(a, b), X[a:b]) for a, b in CUTS]


def fitted(parts: list[Any]) -> tuple[DistributedQKMeans, MortalEngine]:
    engine = MortalEngine()
    model = DistributedQKMeans(**SETTINGS, engine=engine, n_shards=3).fit(parts)
    model.digest()  # the rows of a new model are hashed once
    engine.arm()
    return model, engine


def on_panel(model: DistributedQKMeans, wanted: bool) -> int:
    """A row that is on the panel, or off it."""
    panel = {*np.asarray(model._clustering._coordinator.panel_ids()).tolist()}
    return next(id_ for id_ in range(120) if (id_ in panel) == wanted)


def more_files(model: DistributedQKMeans) -> list[Path]:
    folder = Path(model._clustering._shards.parts[0].name).parent
    return [write_part(folder / f"more-{a}.npy", range(a, b), X[a:b]) for a, b in ((120, 130), (130, 150))]


UPDATES: dict[str, Callable[[DistributedQKMeans], tuple[Callable[[], object], set[int]]]] = {
    "one row off the panel": lambda m: (lambda: m.remove(on_panel(m, False)), {*range(120)} - {on_panel(m, False)}),
    "one row on the panel": lambda m: (lambda: m.remove(on_panel(m, True)), {*range(120)} - {on_panel(m, True)}),
    "several rows": lambda m: (lambda: m.remove(range(40, 75)), {*range(120)} - {*range(40, 75)}),
    "files that come": lambda m: (lambda: m.add(more_files(m)), {*range(150)}),
    "rows that come": lambda m: (lambda: m.add([(range(120, 150), X[120:])]), {*range(150)}),
}


@LATE
@pytest.mark.parametrize("update", UPDATES)
def test_an_update_is_whole_wherever_a_worker_dies(files: list[Path], update: str, late: bool) -> None:
    """Every request of the update in turn is the last of its worker, and then every pair of neighbours."""
    model, engine = fitted(files)
    UPDATES[update](model)[0]()
    n_requests = len(engine.methods)
    assert n_requests >= 3
    for fatal in [*((at,) for at in range(n_requests)), *((at, at + 1) for at in range(n_requests))]:
        model, engine = fitted(files)
        call, left = UPDATES[update](model)
        engine.arm(*fatal, late=late)
        call()
        assert model.digest() == digest_of(some(left)), (fatal, engine.methods)
        # And the worker that took its place has what the other had.
        engine.arm()
        model.remove(min(left))
        assert model.digest() == digest_of(some(left - {min(left)}))


@LATE
def test_a_fit_is_whole_wherever_a_worker_dies(files: list[Path], late: bool) -> None:
    engine = MortalEngine()
    DistributedQKMeans(**SETTINGS, engine=engine, n_shards=3).fit(files)
    methods = [*engine.methods]
    for at in range(len(methods)):
        engine = MortalEngine()
        engine.arm(at, late=late)
        model = DistributedQKMeans(**SETTINGS, engine=engine, n_shards=3).fit(files)
        assert model.digest() == digest_of(some(range(120))), methods[at]


def test_a_worker_that_dies_between_updates_is_replaced(files: list[Path]) -> None:
    model, engine = fitted(files)
    model.remove([3, 55, 100])
    left = {*range(120)} - {3, 55, 100}
    for record in model._clustering._shards.records:
        engine.stop(record.place)
    assert model.digest() == digest_of(some(left))  # which needs no worker
    assert model.labels(7).shape == (1,)
    model.remove(8)
    assert model.digest() == digest_of(some(left - {8}))
    assert model.gather().digest() == model.digest()


def test_a_holder_is_started_again_if_the_engine_chose_a_worker_that_is_gone(
    files: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It may not know yet that the worker died."""
    model, engine = fitted(files)
    start, gone = engine.start, [Place("gone", None)]

    def started(count: int) -> list[Place]:
        if gone:
            raise Lost(gone.pop())
        return start(count)

    monkeypatch.setattr(engine, "start", started)
    engine.stop(model._clustering._shards.records[0].place)
    model.remove(8)
    assert gone == []
    assert model.digest() == digest_of(some({*range(120)} - {8}))


def test_a_row_that_was_removed_and_came_again_is_read_from_its_new_part(files: list[Path], tmp_path: Path) -> None:
    model, engine = fitted(files)
    model.remove([5, 70])
    new = -X[:2]
    model.add([write_part(tmp_path / "new.npy", [5, 70], new)])
    rows = some(range(120)) | {5: new[0], 70: new[1]}
    assert model.digest() == digest_of(rows)
    for record in model._clustering._shards.records:
        engine.stop(record.place)
    model.remove(0)
    assert model.digest() == digest_of({id_: row for id_, row in rows.items() if id_})


@LATE
@pytest.mark.parametrize("n_parts", [1, 3])
def test_a_worker_may_die_before_the_rows_are_hashed(files: list[Path], n_parts: int, late: bool) -> None:
    """Also one whose shard has no rows."""
    rows = range(CUTS[n_parts - 1][1])
    for at in range(3):
        engine = MortalEngine()
        model = DistributedQKMeans(**SETTINGS, engine=engine, n_shards=3).fit(files[:n_parts])
        engine.stop(model._clustering._shards.records[at].place)
        engine.arm(at, late=late)
        assert model.digest() == digest_of(some(rows))
        engine.stop(model._clustering._shards.records[at].place)
        model.remove(3)
        assert model.digest() == digest_of(some({*rows} - {3}))


def test_a_file_that_was_changed_before_the_rows_were_hashed_is_named(files: list[Path]) -> None:
    engine = MortalEngine()
    model = DistributedQKMeans(**SETTINGS, engine=engine, n_shards=3).fit(files)
    write_part(files[1], range(50, 60), X[60:70])
    # Its shard has not sent its hash.
    record = model._clustering._shards.records[1]
    model._clustering._shards._hashing = model._clustering._shards._hashing[:1]
    engine.stop(record.place)
    with pytest.raises(PartError, match=r"the rows of .*50\.npy are not those that the model had"):
        model.remove(0)


# ---- rows that cannot be read again ----
def arrays() -> list[Any]:
    return [(range(a, b), X[a:b]) for a, b in CUTS]


@LATE
def test_a_removal_is_completed_when_lost_arrays_are_given_again(late: bool) -> None:
    model, engine = fitted(arrays())
    engine.arm(1, late=late)
    with pytest.raises(
        WorkerLostError,
        match=r"part 1, an array, which.*restore\(parts\).*That completes the removal",
    ):
        model.remove(on_panel(model, False))
    engine.arm()
    gone = on_panel(model, False)
    for _ in range(2):
        with pytest.raises(WorkerLostError):
            model.digest()
    with pytest.raises(ParameterError, match="parts must be the 1 parts that are missing, in their order: part 1"):
        model.restore([])
    with pytest.raises(PartError, match="part 1, an array are not those"):
        model.restore([(range(50, 60), X[60:70])])
    model.restore([(range(50, 60), X[50:60])])
    assert model.digest() == digest_of(some({*range(120)} - {gone}))
    assert model.remove(119).n_removed == 1


def test_a_removal_that_had_not_begun_is_completed_too() -> None:
    """Several ids are looked up first. A removal that was asked for must not be lost with the rows."""
    model, engine = fitted(arrays())
    engine.arm(1)
    with pytest.raises(WorkerLostError, match=r"restore\(parts\).*That completes the removal"):
        model.remove(range(10))
    engine.arm()
    model.restore([arrays()[1]])
    expected, _ = fitted(arrays())
    expected.remove(range(10))
    assert model.digest() == expected.digest()


@LATE
def test_an_addition_is_undone_when_arrays_are_lost(late: bool) -> None:
    model, engine = fitted(arrays())
    before = model.digest()
    model.add([(range(120, 150), X[120:])])
    n_requests = len(engine.methods)
    undone = 0
    for at in range(n_requests):
        model, engine = fitted(arrays())
        engine.arm(at, late=late)
        try:
            model.add([(range(120, 150), X[120:])])
        except WorkerLostError:
            engine.arm()
            lost = sorted(number for record in model._clustering._shards.lost() for number in record.numbers)
            undone += lost != []
            if model._clustering._shards.parts[3:] == []:
                assert model.digest() == before
                model.restore([arrays()[number] for number in lost])
                assert model.digest() == before
                model.add([(range(120, 150), X[120:])])
            else:  # it was whole; the rows that are lost are given again
                every = [*arrays(), (range(120, 150), X[120:])]
                model.restore([every[number] for number in lost])
        assert model.digest() == digest_of(ROWS)
    assert undone > 3


def test_an_unknown_id_is_an_error_though_a_worker_dies(files: list[Path]) -> None:
    model, engine = fitted(files)
    before = model.digest()
    for at in range(3):
        engine.arm(at)
        with pytest.raises(UnknownIdError, match=r"ids are not in the model: 999\. Nothing was removed"):
            model.remove(999)
    assert model.digest() == before


def test_a_file_that_was_changed_is_named(files: list[Path]) -> None:
    model, engine = fitted(files)
    write_part(files[1], range(50, 60), X[60:70])
    engine.stop(model._clustering._shards.records[1].place)
    with pytest.raises(PartError, match=r"the rows of .*50\.npy are not those that the model had"):
        model.remove(0)
    write_part(files[1], range(50, 60), X[50:60])
    assert model.digest() == digest_of(some(range(1, 120)))


def test_rows_may_be_erased_from_their_file_after_their_removal(files: list[Path]) -> None:
    model, engine = fitted(files)
    model.remove([50, 51])
    write_part(files[1], range(52, 60), X[52:60])
    engine.stop(model._clustering._shards.records[1].place)
    model.remove(0)
    assert model.digest() == digest_of(some({*range(120)} - {0, 50, 51}))


@LATE
@pytest.mark.parametrize("call", ["gather", "redistribute", "resume"])
def test_a_worker_may_die_while_all_rows_are_read(files: list[Path], tmp_path: Path, call: str, late: bool) -> None:
    def done(engine: MortalEngine) -> str:
        if call == "gather":
            return model.gather().digest()
        if call == "redistribute":
            return model.redistribute(2).digest()
        return DistributedQKMeans.resume(tmp_path / "saved", engine).digest()

    model, engine = fitted(files)
    model.save(tmp_path / "saved")
    engine.arm()
    done(engine)
    n_requests = len(engine.methods)
    assert n_requests >= 3
    for at in range(n_requests):
        model, engine = fitted(files)
        engine.arm(at, late=late)
        assert done(engine) == digest_of(some(range(120))), at
        if call == "redistribute":
            model.remove(3)
            assert model.digest() == digest_of(some({*range(120)} - {3})), at


def test_an_engine_that_starts_nothing_is_one_error(monkeypatch: pytest.MonkeyPatch) -> None:
    def lost(engine: MortalEngine, count: int) -> Any:
        raise Lost(Place("somewhere", None))

    monkeypatch.setattr(MortalEngine, "start", lost)
    with pytest.raises(WorkerLostError, match=r"worker somewhere is lost, .* Start workers, and repeat"):
        DistributedQKMeans(**SETTINGS, engine=MortalEngine()).fit([X])


def test_a_worker_of_another_version_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(holder, "__version__", "0.0.1")
    with pytest.raises(MissingPackageError, match=r"worker local-0 has erase-core 0\.0\.1, .* Install erase-core=="):
        DistributedQKMeans(**SETTINGS, engine=MortalEngine()).fit([X])


@pytest.mark.parametrize("is_hashed", [True, False])
def test_a_removal_that_cannot_begin_is_completed_too(is_hashed: bool, tmp_path: Path) -> None:
    """Rows are lost before it, as by the call before."""
    engine = MortalEngine()
    model = DistributedQKMeans(**SETTINGS, engine=engine, n_shards=3).fit(arrays())
    if is_hashed:
        model.save(tmp_path / "saved")
    engine.stop(model._clustering._shards.records[1].place)
    for ids in (7, [8, 55]):
        with pytest.raises(WorkerLostError, match="Call restore"):
            model.remove(ids)
    left = {*range(120)} - {7, 8, 55}
    if is_hashed:
        assert DistributedQKMeans.resume(tmp_path / "saved", "local", parts=arrays()).digest() == digest_of(some(left))
        return
    model.restore(arrays()[1:2])
    assert model.digest() == digest_of(some(left))
