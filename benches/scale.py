"""How long a `DistributedQKMeans` takes at sizes that no machine here has: computed from measured costs, and checked.

The costs are measured on one shard in this process and on an engine of two workers on this machine. `scale_times` makes
times of them, for any number of rows and workers. Those for two workers are set against what two workers here take.
`make scale` writes all this into docs/scale.md.
"""

from __future__ import annotations

import argparse
import re
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from math import ceil
from pathlib import Path
from statistics import fmean, median
from typing import Any

import numpy as np
from erase_core import QKMeans
from erase_core._core import Coordinator, merge_parts
from erase_core.distributed import DistributedQKMeans
from erase_core.distributed.engines.protocol import Engine
from erase_core.distributed.holder import Holder
from erase_core.distributed.parts import parts_of
from erase_core.kmeans import core_parameters
from measure import Matrix, around_directions
from scale_page import Check, page, put_between
from scale_times import HERE, Assumed, Costs, Simulation

# Removals that are not measured: right after a fit, workers are still busy.
FIRST = 50


def timed(run: Callable[..., Any], *arguments: Any) -> tuple[float, Any]:
    """Return the seconds of a call, and its result."""
    start = time.perf_counter()
    result = run(*arguments)
    return time.perf_counter() - start, result


def written(folder: Path, X: Matrix, parts: int) -> list[Path]:
    """Write rows into files, with ids in ranges of their own."""
    paths = []
    for at, ids in enumerate(np.array_split(np.arange(len(X)), parts)):
        paths.append(folder / f"{len(X)}-{parts}-{at}.npy")
        np.save(paths[-1], X[ids])
        np.save(paths[-1].with_suffix(".ids.npy"), ids)
    return paths


def private_memory() -> int:
    """Return the bytes of memory that are this process's own."""
    found = re.search(r"RssAnon:\s+(\d+) kB", Path("/proc/self/status").read_text())
    assert found is not None
    return int(found[1]) * 1024


def shard_costs(folder: Path, X: Matrix, k: int, removals: int) -> dict[str, Any]:
    """Measure shard and coordinator, in this process, without an engine."""
    n, dim = X.shape
    parameters = core_parameters(QKMeans(n_clusters=k, max_norm=1.0, n_threads=1), dim)
    coordinator = Coordinator(dim, **parameters, seed=0)
    panel = parameters["panel"]
    holder = Holder()
    holder.open(coordinator.parameters(), dim, (1, None))
    part = parts_of(written(folder, X, 1), ("id", "vector"))[0]
    holder.begin({}, 0)
    before = private_memory()
    load, _ = timed(holder.load, 0, part, None)
    holder.settle()
    smallest, (candidates, rows_part) = timed(holder.smallest, panel)
    panel_fit, _ = timed(coordinator.fit, [candidates], merge_parts([rows_part]))
    frame = coordinator.frame_message()
    assign, assigned = timed(holder.assign, frame)
    held = private_memory() - before
    coordinator.complete(merge_parts([assigned]))
    order = np.random.default_rng(0).permutation(np.asarray(coordinator.panel_ids()))
    on = [panel_removal(coordinator, holder, int(id_)) for id_ in order[:removals]]
    moved = [seconds for _, seconds in on if seconds is not None]
    return {
        "load": load / n,
        "smallest": smallest / n,
        "assign": assign / n,
        "again": fmean(moved or [0.0]) / n,
        "panel_fit": panel_fit,
        "on": fmean(seconds for seconds, _ in on),
        "moved": len(moved) / len(on),
        "panel": panel,
        "row": ceil(len(candidates) / min(n, panel)),
        "held": ceil(held / n),
        "stored": X.itemsize * dim + 8,
        "frame": len(frame),
        "part": len(assigned),
    }


def panel_removal(coordinator: Coordinator, holder: Holder, id_: int) -> tuple[float, float | None]:
    """Remove a row of the panel. Return the seconds of this, and those of assigning all rows if the centres moved."""

    def remove() -> bool:
        change = holder.change([id_], coordinator.mark(), 1, False)
        assert change.part is not None
        return coordinator.exchange([id_], change.candidates, merge_parts([change.part]))[1]

    seconds, moved = timed(remove)
    if not moved:
        return seconds, None
    again, part = timed(holder.assign, coordinator.frame_message())
    coordinator.complete(merge_parts([part]))
    return seconds, again


def coordinator_costs(X: Matrix, k: int) -> dict[str, float]:
    """Return what further candidates for the panel and further parts cost the coordinator: eight shards against one."""
    dim = X.shape[1]
    parameters = core_parameters(QKMeans(n_clusters=k, max_norm=1.0, n_threads=1), dim)
    panel = parameters["panel"]
    shards = max(2, min(8, len(X) // panel))
    fits, merges = [], []
    for count in (1, shards):
        coordinator, holders = Coordinator(dim, **parameters, seed=0), []
        for ids in np.array_split(np.arange(min(len(X), shards * panel)), count):
            holders.append(Holder())
            holders[-1].open(coordinator.parameters(), dim, (1, None))
            holders[-1].begin({}, 0)
            holders[-1].take(0, "rows", ids.tolist(), X[ids])
        answers = [holder.smallest(panel) for holder in holders]
        merged = merge_parts([part for _, part in answers])
        fits.append(timed(coordinator.fit, [candidates for candidates, _ in answers], merged)[0])
        parts = [holder.assign(coordinator.frame_message()) for holder in holders]
        merges.append(median(timed(merge_parts, parts)[0] for _ in range(50)))
    further = (shards - 1) * panel
    return {"candidate": max(0.0, fits[1] - fits[0]) / further, "merge": max(0.0, merges[1] - merges[0]) / (shards - 1)}


def off_cost(paths: Sequence[Path], k: int, removals: int) -> float:
    """Return the seconds of a removal off the panel by the whole of Python, with one shard in this process."""
    with DistributedQKMeans(k, max_norm=1.0, engine="local", n_shards=1, n_threads=1) as model:
        return median(off_removals(model.fit([*paths]), removals))


def off_removals(model: DistributedQKMeans, removals: int) -> list[float]:
    """Remove rows off the panel one by one, and return the seconds of each but for the first ones."""
    panel = set(np.asarray(panel_of(model)).tolist())
    off = [id_ for id_ in range(model.n_rows_) if id_ not in panel][: FIRST + removals]
    return [timed(model.remove, id_)[0] for id_ in off][FIRST:]


def on_removals(model: DistributedQKMeans, removals: int) -> list[float]:
    """Remove rows of the panel one by one, and return the seconds of each."""
    order = np.random.default_rng(1).permutation(np.asarray(panel_of(model)))
    return [timed(model.remove, int(id_))[0] for id_ in order[:removals]]


def panel_of(model: DistributedQKMeans) -> Any:
    return model._settled()[0].panel_ids()


def engine_costs(engine: Engine) -> dict[str, float]:
    """Measure the engine: calls that do nothing, and one with a long reply."""
    places = engine.start(8)

    def trip(count: int) -> float:
        times = [
            timed(lambda: engine.gather([engine.call(each, "ping") for each in places[:count]]))[0] for _ in range(50)
        ]
        return median(times)

    one, eight = trip(1), trip(8)
    engine.gather([engine.call(places[0], "hold", bytes)])  # whose methods make bytes
    size = 2**22
    long = median(timed(lambda: engine.gather([engine.call(places[0], "zfill", size)]))[0] for _ in range(5))
    for place in places:
        engine.stop(place)
    return {"trip": one, "message": max(0.0, eight - one) / 7, "byte": max(0.0, long - one) / size}


def sort_cost() -> float:
    keys = np.random.default_rng(0).integers(2**63, size=2**20)
    return timed(np.sort, keys)[0] / len(keys)


@contextmanager
def two_workers() -> Iterator[Any]:
    from distributed import Client, LocalCluster

    with (
        LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None, memory_limit=0) as cluster,
        Client(cluster) as client,
    ):
        yield client


# ---- what it is checked against ----
def checks(
    client: Any, costs: Costs, folder: Path, sizes: Sequence[int], dim: int, k: int, removals: int
) -> list[Check]:
    """Fit and remove on two workers, and compare."""
    found = []
    for n in sizes:
        paths = written(folder, around_directions(n, dim), 4)
        simulated = Simulation(costs, HERE, n, 2)
        with DistributedQKMeans(k, max_norm=1.0, engine=client, n_shards=2) as model:
            seconds, _ = timed(model.fit, paths)
            found.append(Check(n, "fit", seconds, simulated.fit))
            found.append(Check(n, "removal off the panel", median(off_removals(model, 5 * removals)), simulated.off))
            found.append(Check(n, "removal on the panel, mean", fmean(on_removals(model, removals)), simulated.on))
    return found


def measured(folder: Path, client: Any, n: int, dim: int, k: int, removals: int) -> Costs:
    """Measure all costs."""
    from erase_core.distributed.engines.dask import DaskEngine

    X = around_directions(n, dim)
    parts: dict[str, Any] = shard_costs(folder, X, k, removals) | engine_costs(DaskEngine(client))
    parts |= coordinator_costs(X, k) | {"sort": sort_cost()}
    parts["off"] = off_cost(written(folder, X, 1), k, 5 * removals)
    return Costs(**parts)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=200_000, help="rows on which costs are measured")
    parser.add_argument("--sizes", type=int, nargs="*", default=[100_000, 400_000], help="rows on two workers")
    parser.add_argument("--dim", type=int, default=384)
    parser.add_argument("--clusters", type=int, default=64)
    parser.add_argument("--removals", type=int, default=60)
    parser.add_argument("--write", type=Path, help="the page to write into, between its markers")
    for name, what in (
        ("bandwidth", "bytes a second"),
        ("latency", "seconds, there and back"),
        ("disk", "bytes a second"),
        ("straggler", "the slowest worker's time, as a multiple"),
        ("memory", "bytes for the rows of a worker"),
    ):
        parser.add_argument(f"--{name}", type=float, default=getattr(Assumed(), name), help=what)
    given = parser.parse_args()
    assumed = replace(Assumed(), **{name: getattr(given, name) for name in Assumed.__dataclass_fields__})
    with tempfile.TemporaryDirectory() as folder, two_workers() as client:
        costs = measured(Path(folder), client, given.rows, given.dim, given.clusters, given.removals)
        found = checks(client, costs, Path(folder), given.sizes, given.dim, given.clusters, given.removals)
    made = page(costs, assumed, found, f"{given.rows} rows of {given.dim} dimensions, {given.clusters} clusters")
    if given.write:
        given.write.write_text(put_between(given.write.read_text(), made))
    print(made)


if __name__ == "__main__":
    main()
