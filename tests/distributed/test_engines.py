"""dask.distributed and Ray: the bits of one process, workers that are killed during a call, and nothing left behind.

Each engine is started once, and Ray once more for --slow. The laws are in tests/support/engine_laws.py.
"""

from __future__ import annotations

import importlib.util
import json
import logging
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import engine_laws
import numpy as np
import pytest
from engine_laws import DEADLY, LAWS, ON_RAY, SHORT, X, left
from erase_core import ParameterError
from erase_core.distributed import DistributedQKMeans
from made_parts import SETTINGS
from processes import HANG

LONG = [law for law in ON_RAY if law != SHORT]


@pytest.fixture(scope="module", params=["processes", "threads"])
def client(request: pytest.FixtureRequest) -> Iterator[Any]:
    distributed = pytest.importorskip("distributed")
    # It reports that a worker was killed.
    logging.getLogger("distributed").setLevel(logging.CRITICAL)
    processes = request.param == "processes"
    with (
        distributed.LocalCluster(
            n_workers=2, threads_per_worker=1, processes=processes, dashboard_address=":0", memory_limit=0
        ) as cluster,
        distributed.Client(cluster) as client,
    ):
        yield client


def outcomes_on_ray(*laws: str) -> dict[str, str | None]:
    """What went wrong with each law, on a Ray that is started for them."""
    if importlib.util.find_spec("ray") is None:
        pytest.skip("needs ray")
    program = [sys.executable, engine_laws.__file__, *laws]
    done = subprocess.run(program, capture_output=True, text=True, timeout=HANG)
    assert done.returncode == 0, done.stderr
    outcomes: dict[str, str | None] = json.loads(done.stdout.splitlines()[-1])
    return outcomes


@pytest.mark.parametrize("law", LAWS)
def test_laws_on_dask(client: Any, tmp_path: Path, law: str) -> None:
    if law in DEADLY and client.cluster.scheduler_address.startswith("inproc"):
        pytest.skip("its workers are threads of this process")
    LAWS[law](client, tmp_path)


def test_a_short_law_on_ray() -> None:
    assert outcomes_on_ray(SHORT) == {SHORT: None}


@pytest.fixture(scope="module")
def outcomes() -> dict[str, str | None]:
    return outcomes_on_ray(*LONG)


@pytest.mark.slow
@pytest.mark.parametrize("law", LONG)
def test_laws_on_ray(outcomes: dict[str, str | None], law: str) -> None:
    assert outcomes[law] is None, outcomes[law]


def test_dask_collections_are_computed_where_the_shards_are(client: Any) -> None:
    arrays = pytest.importorskip("dask.array")
    with DistributedQKMeans(**SETTINGS, engine=client) as model:
        model.fit(arrays.from_array(X[:100], chunks=(30, 4)))
        assert model.digest() == left(up_to=100)
        delayed: Any = pytest.importorskip("dask").delayed

        piece = delayed(lambda: (np.arange(100, 150), X[100:150]))()
        model.add([piece])
        assert model.digest() == left(up_to=150)


def test_an_address_of_dask_is_connected_to_and_disconnected(client: Any) -> None:
    address = client.cluster.scheduler_address
    if not address.startswith("tcp://"):
        pytest.skip("its scheduler is in this process")
    before = clients_of(client)
    with DistributedQKMeans(**SETTINGS, engine=address.replace("tcp://", "dask://")) as model:
        model.fit([X[:60], X[60:100]])
        assert model.digest() == left(up_to=100)
        assert clients_of(client) == before + 1
    assert clients_of(client) == before


def clients_of(client: Any) -> int:
    """How many clients the scheduler has."""
    return int(client.run_on_scheduler(lambda dask_scheduler: len(dask_scheduler.clients)))


@pytest.mark.parametrize("given", ["rays", None, 3, "dask"])
def test_other_engines_are_refused(given: Any) -> None:
    with pytest.raises(ParameterError, match="engine must be a dask Client, 'dask://host:port', 'ray'"):
        DistributedQKMeans(**SETTINGS, engine=given).fit([X])
