"""How long a `DistributedQKMeans` takes at sizes that no machine here has: computed from measured costs, and checked.

The costs are measured on one shard in this process and on an engine of two workers on this machine. The arithmetic
(`Simulation`) makes times of them, for any number of rows and workers. Its times for two workers are set against what two
workers here take. `make scale` writes all this into docs/scale.md.
"""

from __future__ import annotations

import argparse
import re
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
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
from measure import around_directions

WORKERS = (1, 2, 4, 8, 16, 32, 64, 100)
ROWS = (10**7, 10**8, 10**9, 10**10)
START, END = "<!-- measured by `make scale` -->", "<!-- end -->"
# Waits of a fit for all shards: to open, to find out the width, to begin, to load, smallest places, to assign, to settle.
TRIPS = 7
GIB = 2**30


@dataclass(frozen=True)
class Costs:
    """What was measured. Times are in seconds, of one thread; sizes in bytes.

    Attributes
    ----------
    load, smallest, assign : float
        For a row: to read it from a file and take it in, to look for the smallest places, to assign it in a fit.
    again : float
        For a row: to assign it anew after centres moved.
    panel_fit, candidate : float
        The coordinator's part of a fit, and what each further candidate for the panel adds to it.
    off, on : float
        A removal off the panel, and the coordinator's part of one on it, without engine and with one shard.
    moved : float
        Share of the removals on the panel after which all rows are assigned anew.
    merge : float
        To merge the part of one more shard.
    trip, message, byte : float
        The engine: one call and its reply; each further call at the same time; each byte.
    sort : float
        To sort one key of 8 bytes, where ids of shards must be compared.
    panel : int
        Rows on the panel.
    row, held, stored : int
        A row in a message, in a shard, in a file.
    frame, part : int
        Messages: the centres, a shard's part.
    """

    load: float
    smallest: float
    assign: float
    again: float
    panel_fit: float
    candidate: float
    off: float
    on: float
    moved: float
    merge: float
    trip: float
    message: float
    byte: float
    sort: float
    panel: int
    row: int
    held: int
    stored: int
    frame: int
    part: int


@dataclass(frozen=True)
class Assumed:
    """What is assumed of a cluster.

    Attributes
    ----------
    bandwidth, latency : float
        Of the coordinator's connection, in bytes a second, and in seconds there and back.
    disk : float
        Bytes a second that each worker reads its parts with.
    straggler : float
        The time of the slowest worker, as a multiple of the ordinary one.
    memory : float
        Bytes of memory for the rows of a worker.
    """

    bandwidth: float = 1.25e9
    latency: float = 0.2e-3
    disk: float = 500e6
    straggler: float = 1.25
    memory: float = 16 * GIB


# Both workers and the coordinator are on one machine, which has read the files before.
HERE = Assumed(bandwidth=float("inf"), latency=0.0, disk=float("inf"), straggler=1.0)


@dataclass(frozen=True)
class Simulation:
    """Times of a model of so many rows on so many workers, each with one thread."""

    costs: Costs
    assumed: Assumed
    n_rows: int
    workers: int

    @property
    def rows(self) -> int:
        """Rows of the fullest worker."""
        return ceil(self.n_rows / self.workers)

    @property
    def on_panel(self) -> int:
        """Rows on the panel."""
        return min(self.n_rows, self.costs.panel)

    @property
    def memory(self) -> float:
        """Bytes that a worker needs for its rows."""
        return self.rows * self.costs.held

    @property
    def candidates(self) -> float:
        """Bytes that all workers send to the coordinator for the panel."""
        return self.workers * min(self.rows, self.costs.panel) * self.costs.row

    @property
    def fits(self) -> bool:
        """Whether it has them."""
        return self.memory <= self.assumed.memory

    def trip(self, n_bytes: float = 0.0) -> float:
        """Seconds to ask all workers once, with so many bytes for each, there and back together."""
        costs, assumed = self.costs, self.assumed
        carried = self.workers * n_bytes * (costs.byte + 1 / assumed.bandwidth)
        return costs.trip + assumed.latency + (self.workers - 1) * costs.message + carried

    def passes(self, row: float) -> float:
        """Seconds until all workers have done for each of their rows what takes `row` seconds."""
        return self.assumed.straggler * self.rows * row

    @property
    def fit(self) -> float:
        """Seconds of a fit."""
        costs = self.costs
        load = max(costs.load, costs.stored / self.assumed.disk)
        candidates = min(self.rows, costs.panel)
        sent = candidates * costs.row + costs.frame + 2 * costs.part
        coordinator = costs.panel_fit + (self.workers * candidates - self.on_panel) * costs.candidate
        talk = (TRIPS - 1) * self.trip() + self.trip(sent) + 2 * self.workers * costs.merge
        return self.passes(load + costs.smallest + costs.assign) + coordinator + talk

    @property
    def comparing(self) -> float:
        """Seconds that a fit takes longer if the ids of the shards must be compared one by one."""
        costs, assumed = self.costs, self.assumed
        return self.n_rows * (8 * (costs.byte + 1 / assumed.bandwidth) + costs.sort) + self.passes(costs.sort)

    @property
    def off(self) -> float:
        """Seconds of the removal of a row that is not on the panel."""
        return self.costs.off + self.trip(self.costs.part) + (self.workers - 1) * self.costs.merge

    @property
    def on(self) -> float:
        """Seconds of the removal of a row on the panel, in the mean."""
        costs = self.costs
        assign = self.passes(costs.again) + self.trip(costs.frame + costs.part) + self.workers * costs.merge
        return self.off + self.trip(costs.row) - self.trip() + costs.on + costs.moved * assign

    @property
    def mean(self) -> float:
        """Seconds of the removal of a row at random, in the mean."""
        share = self.on_panel / self.n_rows
        return (1 - share) * self.off + share * self.on


# ---- what is measured ----
def timed(run: Callable[..., Any], *arguments: Any) -> tuple[float, Any]:
    """Return the seconds of a call, and its result."""
    start = time.perf_counter()
    result = run(*arguments)
    return time.perf_counter() - start, result


def written(folder: Path, X: np.ndarray[Any, Any], parts: int) -> list[Path]:
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


def shard_costs(folder: Path, X: np.ndarray[Any, Any], k: int, removals: int) -> dict[str, Any]:
    """Measure shard and coordinator, in this process, without an engine."""
    n, dim = X.shape
    parameters = core_parameters(QKMeans(n_clusters=k, max_norm=1.0, n_threads=1), dim)
    coordinator = Coordinator(dim, **parameters, seed=0)
    panel = parameters["panel"]
    holder = Holder()
    holder.open(coordinator.parameters(), dim, (1, None))
    part = parts_of(written(folder, X, 1), ("id", "vector"))[0]
    holder.begin({})
    before = private_memory()
    load, _ = timed(holder.load, 0, part, None)
    holder.settle()
    smallest, (candidates, rows_part) = timed(holder.smallest, panel)
    panel_fit, _ = timed(coordinator.fit, [candidates], merge_parts([rows_part]))
    frame = coordinator.frame_message()
    assign, assigned = timed(holder.assign, frame)
    held = private_memory() - before
    coordinator.complete(merge_parts([assigned]))
    on = []
    for id_ in np.random.default_rng(0).permutation(np.asarray(coordinator.panel_ids()))[:removals]:
        on.append(panel_removal(coordinator, holder, int(id_)))
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


def coordinator_costs(X: np.ndarray[Any, Any], k: int) -> dict[str, float]:
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
            holders[-1].begin({})
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
    """Remove rows off the panel one by one, and return the seconds of each."""
    panel = set(np.asarray(panel_of(model)).tolist())
    off = [id_ for id_ in range(model.n_rows_) if id_ not in panel][:removals]
    return [timed(model.remove, id_)[0] for id_ in off]


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
@dataclass(frozen=True)
class Check:
    """Measured times beside those of the simulation."""

    n_rows: int
    what: str
    measured: float
    simulated: float


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
            found.append(Check(n, "removal off the panel", median(off_removals(model, removals)), simulated.off))
            found.append(Check(n, "removal on the panel, mean", fmean(on_removals(model, removals)), simulated.on))
    return found


# ---- the page ----
def duration(seconds: float) -> str:
    """Return a time with two digits and a unit."""
    for unit, size in (("h", 3600.0), ("min", 60.0), ("s", 1.0), ("ms", 1e-3)):
        if seconds >= 0.995 * size or unit == "ms":
            number = seconds / size
            return f"{number:.0f} {unit}" if number >= 9.95 else f"{number:.1f} {unit}"
    raise AssertionError


def size(n_bytes: float) -> str:
    """Return an amount of memory in GiB."""
    gib = n_bytes / GIB
    return f"{gib:.0f} GiB" if gib >= 9.95 else f"{gib:.1f} GiB"


def power(n: int) -> str:
    """Return a number of rows as a power of ten, if it is one."""
    digits = len(str(n)) - 1
    return f"10^{digits}" if n == 10**digits else str(n)


def table(title: str, of: Callable[[Simulation], str], costs: Costs, assumed: Assumed) -> list[str]:
    """Return a table with a line for each number of rows and a column for each number of workers."""
    lines = [
        f"| {title} | " + " | ".join(f"{workers}" for workers in WORKERS) + " |",
        "|---" * (len(WORKERS) + 1) + "|",
    ]
    for n in ROWS:
        cells = [of(Simulation(costs, assumed, n, workers)) for workers in WORKERS]
        lines.append(f"| {power(n)} | " + " | ".join(cells) + " |")
    return [*lines, ""]


def time_of(of: Callable[[Simulation], float]) -> Callable[[Simulation], str]:
    """Return a time, in parentheses where the rows do not fit into the workers' memory."""
    return lambda simulated: duration(of(simulated)) if simulated.fits else f"({duration(of(simulated))})"


def page(costs: Costs, assumed: Assumed, found: Sequence[Check], settings: str) -> str:
    """Return what stands between the markers of docs/scale.md."""
    lines = [
        f"Measured: {settings}.",
        "",
        "| cost, one thread | |",
        "|---|---|",
        f"| a row, read from a file and taken in | {costs.load * 1e6:.2f} us |",
        f"| a row, in the search for the smallest places | {costs.smallest * 1e6:.2f} us |",
        f"| a row, assigned in a fit | {costs.assign * 1e6:.2f} us |",
        f"| a row, assigned anew after centres moved | {costs.again * 1e6:.2f} us |",
        f"| the coordinator's part of a fit | {duration(costs.panel_fit)} |",
        f"| each further candidate for the panel | {costs.candidate * 1e6:.2f} us |",
        f"| a removal off the panel, without engine | {duration(costs.off)} |",
        f"| the coordinator's part of a removal on the panel, mean | {duration(costs.on)} |",
        f"| share of removals on the panel that move centres | {costs.moved:.0%} |",
        f"| one call of the engine and its reply | {duration(costs.trip)} |",
        f"| each further call at the same time | {duration(costs.message)} |",
        f"| bytes of a row: in a shard, in a message, in a file | {costs.held}, {costs.row}, {costs.stored} |",
        f"| bytes of the centres, and of a shard's part | {costs.frame}, {costs.part} |",
        "",
        f"Assumed: the coordinator's connection carries {assumed.bandwidth / 1e9:.2f} GB/s, with {assumed.latency * 1e3:.1f} ms "
        f"there and back; each worker reads {assumed.disk / 1e6:.0f} MB/s from its disk and has {size(assumed.memory)} for rows; "
        f"the slowest worker takes {assumed.straggler:g} times as long as the others.",
        "",
        "## Fit",
        "",
        f"In parentheses: a worker would need more memory than {size(assumed.memory)}. See the next table.",
        "",
        *table("rows, by workers", time_of(lambda each: each.fit), costs, assumed),
        f"With {WORKERS[-1]} workers the coordinator needs {size(Simulation(costs, assumed, ROWS[-1], WORKERS[-1]).candidates)} for "
        "the candidates of all.",
        "",
        f"If shards have ids that are not integers in separate ranges, they are compared: {compared(costs, assumed)}.",
        "",
        "## Memory of a worker",
        "",
        *table("rows, by workers", lambda each: size(each.memory), costs, assumed),
        "## A removal off the panel",
        "",
        "It does not depend on the number of rows.",
        "",
        "| workers | " + " | ".join(map(str, WORKERS)) + " |",
        "|---" * (len(WORKERS) + 1) + "|",
        "| time | " + " | ".join(duration(Simulation(costs, assumed, ROWS[0], each).off) for each in WORKERS) + " |",
        "",
        "## A removal on the panel, mean",
        "",
        *table("rows, by workers", time_of(lambda each: each.on), costs, assumed),
        f"One removal at random is of a row on the panel with the probability {costs.panel} / rows.",
        "",
        "## The mean of removals at random",
        "",
        *table("rows, by workers", time_of(lambda each: each.mean), costs, assumed),
        "## Against two workers here",
        "",
        "Two processes of dask with one thread each, and the coordinator, on this machine. The simulation assumes no network, no "
        "slower worker, and files that are in memory.",
        "",
        "| rows | what | measured | simulated | measured / simulated |",
        "|---|---|---|---|---|",
    ]
    for each in found:
        ratio = each.measured / each.simulated
        times = f"{duration(each.measured)} | {duration(each.simulated)}"
        lines.append(f"| {each.n_rows} | {each.what} | {times} | {ratio:.2f} |")
    return "\n".join([*lines, ""])


def compared(costs: Costs, assumed: Assumed) -> str:
    times = [f"{duration(Simulation(costs, assumed, n, 100).comparing)} for {power(n)} rows" for n in ROWS]
    return f"{', '.join(times[:-1])} and {times[-1]} more, with 100 workers"


def put_between(text: str, made: str) -> str:
    """Return a page with new text between its markers."""
    before, rest = text.split(START)
    _, after = rest.split(END)
    return f"{before}{START}\n\n{made}\n{END}{after}"


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
