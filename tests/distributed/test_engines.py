"""dask.distributed and Ray: the bits of one process, workers that are killed during a call, and nothing left behind.

Each engine is started once.
"""

from __future__ import annotations

import logging
import os
import pickle
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from erase_core import ParameterError, UnknownIdError, WorkerLostError
from erase_core.distributed import DistributedQKMeans
from erase_core.distributed.engines.protocol import Engine, Place
from made_parts import SETTINGS, digest_of, made_rows, write_part
from processes import HANG

X = made_rows(300)
ROWS = dict(enumerate(X))
# Uneven parts, and one without rows.
CUTS = [(0, 150), (150, 150), (150, 160), (160, 240), (240, 241)]


@contextmanager
def dask_workers(processes: bool) -> Iterator[Any]:
    distributed = pytest.importorskip("distributed")
    # It reports that a worker was killed.
    logging.getLogger("distributed").setLevel(logging.CRITICAL)
    with (
        distributed.LocalCluster(
            n_workers=2, threads_per_worker=1, processes=processes, dashboard_address=":0", memory_limit=0
        ) as cluster,
        distributed.Client(cluster) as client,
    ):
        yield client


@contextmanager
def ray_cluster() -> Iterator[str]:
    ray = pytest.importorskip("ray")
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, logging_level=logging.CRITICAL)
    try:
        yield "ray"
    finally:
        ray.shutdown()


ENGINES: dict[str, Callable[[], Any]] = {
    "dask processes": lambda: dask_workers(True),
    "dask threads": lambda: dask_workers(False),
    "ray": ray_cluster,
}


@pytest.fixture(scope="module", params=ENGINES)
def engine(request: pytest.FixtureRequest) -> Iterator[Any]:
    with ENGINES[request.param]() as engine:
        yield engine


@pytest.fixture
def files(tmp_path: Path) -> list[Path]:
    return [write_part(tmp_path / f"{at}.npy", range(a, b), X[a:b]) for at, (a, b) in enumerate(CUTS)]


def process_of(engine: Engine, place: Place) -> int:
    """The process of a holder."""
    if hasattr(place.handle, "__ray_call__"):
        import ray

        return int(ray.get(place.handle.__ray_call__.remote(lambda _: os.getpid())))
    return int(engine._client.run(os.getpid)[place.name])  # type: ignore[attr-defined]


def kill_at(engine: Engine, method: str) -> list[int]:
    """Let the first worker be killed that is asked for something, while it does it."""
    killed: list[int] = []
    send = engine._send

    def send_and_kill(place: Place, request: bytes) -> Any:
        doomed = request[:1] == b"!" and pickle.loads(request[1:])[0] == method and not killed
        process = process_of(engine, place) if doomed else None
        token = send(place, request)
        if process is not None:
            os.kill(process, signal.SIGKILL)
            killed.append(process)
        return token

    engine._send = send_and_kill  # type: ignore[method-assign]
    return killed


def both_workers(engine: Any) -> None:
    """Wait until a worker that was killed is there again, so that the two shards are in two processes."""
    if not isinstance(engine, str):
        engine.wait_for_workers(2, timeout=HANG)


def left(*gone: int, up_to: int = 241) -> str:
    return digest_of({id_: ROWS[id_] for id_ in range(up_to) if id_ not in gone})


@pytest.mark.parametrize("n_shards", [1, 2, 3, 7])
def test_the_bits_are_those_of_one_process(engine: Any, files: list[Path], n_shards: int) -> None:
    with DistributedQKMeans(**SETTINGS, engine=engine, n_shards=n_shards) as model:
        assert model.fit(files).digest() == left()
        model.remove([0, 155, 240])
        assert model.digest() == left(0, 155, 240)
        model.remove(7)
        model.redistribute(3)
        with pytest.raises(UnknownIdError):
            model.remove(7)
        model.add([(range(241, 300), X[241:])])
        assert model.digest() == left(0, 155, 240, 7, up_to=300)
        assert model.gather().digest() == model.digest()


def test_messages_longer_than_the_limit_of_an_engine_arrive(engine: Any) -> None:
    rows = made_rows(3000, 64)
    with DistributedQKMeans(4, panel=2000, engine=engine) as model:
        model.fit([(range(3000), rows)])
        assert model.digest() == digest_of(dict(enumerate(rows)), panel=2000)
        assert model.traffic.received > 10 * 64 * 1024


def test_a_worker_that_is_killed_during_an_update_is_replaced(engine: Any, files: list[Path]) -> None:
    with DistributedQKMeans(**SETTINGS, engine=engine, n_shards=2) as model:
        both_workers(engine)
        model.fit(files)
        model.remove(3)
        connected = model._connected()
        place = model._clustering._shards.records[0].place
        if process_of(connected, place) == os.getpid():
            pytest.skip("its workers are threads of this process")
        killed = kill_at(connected, "change")
        model.remove([4, 200])
        assert len(killed) == 1
        assert model.digest() == left(3, 4, 200)
        model.remove(5)
        assert model.digest() == left(3, 4, 5, 200)


def test_arrays_that_are_lost_are_asked_for(engine: Any) -> None:
    parts = [(range(a, b), X[a:b]) for a, b in CUTS]
    with DistributedQKMeans(**SETTINGS, engine=engine, n_shards=2) as model:
        both_workers(engine)
        model.fit(parts)
        connected, (record, _) = model._connected(), model._clustering._shards.records
        if process_of(connected, record.place) == os.getpid():
            pytest.skip("its workers are threads of this process")
        os.kill(process_of(connected, record.place), signal.SIGKILL)
        with pytest.raises(WorkerLostError, match=r"Call restore\(parts\)"):
            model.remove(25)
        lost = sorted(number for each in model._clustering._shards.lost() for number in each.numbers)
        model.restore([parts[number] for number in lost])
        assert model.digest() == left(25)


def test_errors_of_a_holder_arrive(engine: Any, tmp_path: Path) -> None:
    with DistributedQKMeans(**SETTINGS, engine=engine) as model:
        model.fit([(range(100), X[:100])])
        with pytest.raises(UnknownIdError, match="5000"):
            model.labels(5000)
        with pytest.raises(ValueError, match=r"nowhere\.npy cannot be read"):
            model.add([tmp_path / "nowhere.npy"])
        assert model.digest() == left(up_to=100)


def test_dask_collections_are_computed_where_the_shards_are(engine: Any) -> None:
    if isinstance(engine, str):
        pytest.skip("an engine of its own")
    arrays = pytest.importorskip("dask.array")
    with DistributedQKMeans(**SETTINGS, engine=engine) as model:
        model.fit(arrays.from_array(X[:100], chunks=(30, 4)))
        assert model.digest() == left(up_to=100)
        import dask

        piece = dask.delayed(lambda: (np.arange(100, 150), X[100:150]))()
        model.add([piece])
        assert model.digest() == left(up_to=150)


@pytest.mark.parametrize("given", ["rays", None, 3, "dask"])
def test_other_engines_are_refused(given: Any) -> None:
    with pytest.raises(ParameterError, match="engine must be a dask Client, 'ray'"):
        DistributedQKMeans(**SETTINGS, engine=given).fit([X])
