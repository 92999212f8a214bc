"""What holds of a distributed model on any engine. As a program: laws by name on Ray, in a process of its own.

Ray does not wait for the processes that it has started, and cannot be started twice in a process after a failure.
"""

from __future__ import annotations

import json
import logging
import os
import pickle
import signal
import sys
import tempfile
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

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
# How often Ray is started, if it takes longer than it allows itself on a busy machine.
TRIES = 5
# Bytes. The least that Ray allows is 75 MB.
OBJECT_STORE = 80 * 2**20


def files_in(folder: Path) -> list[Path]:
    return [write_part(folder / f"{at}.npy", range(a, b), X[a:b]) for at, (a, b) in enumerate(CUTS)]


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


def has_the_bits_of_one_process(engine: Any, folder: Path, n_shards: int = 2, then: int = 1) -> None:
    with DistributedQKMeans(**SETTINGS, engine=engine, n_shards=n_shards) as model:
        assert model.fit(files_in(folder)).digest() == left()
        model.remove([0, 155, 240])
        assert model.digest() == left(0, 155, 240)
        model.remove(7)
        model.redistribute(then)
        with pytest.raises(UnknownIdError):
            model.remove(7)
        model.add([(range(241, 300), X[241:])])
        assert model.digest() == left(0, 155, 240, 7, up_to=300)
        assert model.gather().digest() == model.digest()


def has_them_with_any_number_of_shards(engine: Any, folder: Path) -> None:
    for n_shards in (1, 2, 3, 7):
        has_the_bits_of_one_process(engine, folder, n_shards, 3)


def carries_long_messages(engine: Any, folder: Path) -> None:
    rows = made_rows(3000, 64)
    with DistributedQKMeans(4, panel=2000, engine=engine) as model:
        model.fit([(range(3000), rows)])
        assert model.digest() == digest_of(dict(enumerate(rows)), panel=2000)
        # What a shard sends of its rows for the panel, and what is sent to it.
        assert min(model.traffic.received, model.traffic.sent) > 4 * 64 * 1024


def replaces_a_worker_that_is_killed_during_an_update(engine: Any, folder: Path) -> None:
    with DistributedQKMeans(**SETTINGS, engine=engine, n_shards=2) as model:
        both_workers(engine)
        model.fit(files_in(folder))
        model.remove(3)
        connected = model._connected()
        killed = kill_at(connected, "change")
        model.remove([4, 200])
        assert len(killed) == 1
        assert model.digest() == left(3, 4, 200)
        model.remove(5)
        assert model.digest() == left(3, 4, 5, 200)


def asks_for_arrays_that_are_lost(engine: Any, folder: Path) -> None:
    parts = [(range(a, b), X[a:b]) for a, b in CUTS]
    with DistributedQKMeans(**SETTINGS, engine=engine, n_shards=2) as model:
        both_workers(engine)
        model.fit(parts)
        model.digest()  # the rows of a new model are hashed once
        connected, (record, _) = model._connected(), model._clustering._shards.records
        os.kill(process_of(connected, record.place), signal.SIGKILL)
        with pytest.raises(WorkerLostError, match=r"Call restore\(parts\)"):
            model.remove(25)
        lost = sorted(number for each in model._clustering._shards.lost() for number in each.numbers)
        model.restore([parts[number] for number in lost])
        assert model.digest() == left(25)


def passes_errors_of_a_holder_on(engine: Any, folder: Path) -> None:
    with DistributedQKMeans(**SETTINGS, engine=engine) as model:
        model.fit([(range(100), X[:100])])
        with pytest.raises(UnknownIdError, match="5000"):
            model.labels(5000)
        with pytest.raises(ValueError, match=r"nowhere\.npy cannot be read"):
            model.add([folder / "nowhere.npy"])
        assert model.digest() == left(up_to=100)


def reads_the_blocks_of_a_ray_data_set(engine: Any, folder: Path) -> None:
    """Where they are: the rows are in no message but for those of the panel. And again, if a worker dies."""
    import pyarrow
    import ray.data

    rows = made_rows(6000, 64)
    tables = [
        pyarrow.table({"id": [*range(a, b)], "vector": pyarrow.array([*rows[a:b]], pyarrow.list_(pyarrow.float32()))})
        for a, b in ((0, 2500), (2500, 2500), (2500, 6000))
    ]
    by_id = dict(enumerate(rows))
    with DistributedQKMeans(**SETTINGS, engine=engine, n_shards=2) as model:
        model.fit(ray.data.from_arrow(tables))
        model.remove(3)
        assert model.digest() == digest_of({id_: row for id_, row in by_id.items() if id_ != 3})
        assert model.traffic.sent + model.traffic.received < rows.nbytes / 8
        os.kill(process_of(model._connected(), model._clustering._shards.records[0].place), signal.SIGKILL)
        model.remove(4000)
        assert model.digest() == digest_of({id_: row for id_, row in by_id.items() if id_ not in {3, 4000}})
        # Arrays are a column of tensors, here without ids.
        tensors = ray.data.from_numpy([rows[:2500], rows[2500:]])
        model.fit(tensors, columns=("id", "data"))
        assert model.digest() == digest_of(by_id)
    with (
        DistributedQKMeans(**SETTINGS, engine="local") as local,
        pytest.raises(ParameterError, match=r"part 0, block 0 of a Ray data set.*only engine='ray'.*to Parquet"),
    ):
        local.fit(tensors, columns=("id", "data"))


LAWS: dict[str, Callable[[Any, Path], None]] = {
    law.__name__: law
    for law in (
        has_the_bits_of_one_process,
        has_them_with_any_number_of_shards,
        carries_long_messages,
        replaces_a_worker_that_is_killed_during_an_update,
        asks_for_arrays_that_are_lost,
        passes_errors_of_a_holder_on,
    )
}
# Those on Ray, the one of them that is checked without --slow, and those that kill a process. To start Ray takes up to
# a minute if the machine is busy, and each shard some seconds.
ON_RAY = LAWS | {reads_the_blocks_of_a_ray_data_set.__name__: reads_the_blocks_of_a_ray_data_set}
SHORT = has_the_bits_of_one_process.__name__
DEADLY = {"replaces_a_worker_that_is_killed_during_an_update", "asks_for_arrays_that_are_lost"}


def start_ray() -> None:
    import ray

    for attempt in range(TRIES):
        try:
            ray.init(
                num_cpus=2,
                include_dashboard=False,
                log_to_driver=False,
                logging_level=logging.CRITICAL,
                object_store_memory=OBJECT_STORE,
            )
            return
        except Exception:
            ray.shutdown()
            if attempt == TRIES - 1:
                raise


def main() -> None:
    """Check laws that are named. Print as JSON what went wrong with each; null if nothing."""
    import ray

    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    start_ray()
    outcomes: dict[str, str | None] = {}
    for name in sys.argv[1:]:
        try:
            with tempfile.TemporaryDirectory() as folder:
                ON_RAY[name]("ray", Path(folder))
            outcomes[name] = None
        except Exception:
            outcomes[name] = traceback.format_exc()
    ray.shutdown()
    sys.stdout.write("\n" + json.dumps(outcomes) + "\n")


if __name__ == "__main__":
    main()
