"""What rows on other processes cost: two workers on dask and on Ray beside one process of two threads, in the same run.

For each engine and number of rows: a fit with its digest, beside that of one process, with and without the start of
two empty hosts; a removal off the panel, beside an empty round trip of the engine, taken in turns; the bytes that it
sends and receives.

    make distributed                 1e4, 1e5 and 1e6 rows
    make distributed LARGE=1         and 10 000 000 x 384 rows, by parts on the disk (7.7 GB, which are deleted)
"""

from __future__ import annotations

import argparse
import logging
import os
import resource
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from erase_core import QKMeans
from erase_core.distributed import DistributedQKMeans

DIM, CLUSTERS, PARTS = 384, 64, 8
SETTINGS: dict[str, Any] = {"n_clusters": CLUSTERS, "max_norm": 1.0}
BARS = {"fit": 1.3, "removal above a round trip, ms": 1.0}


def write_parts(folder: Path, n_rows: int, n_parts: int = PARTS, dtype: type = np.float32) -> list[Path]:
    """Normalised rows around some directions, in files of equal size."""
    folder.mkdir(exist_ok=True)
    directions = np.random.default_rng(0).normal(size=(4 * CLUSTERS, DIM)).astype(np.float32)
    files = []
    for at in range(n_parts):
        size = n_rows * (at + 1) // n_parts - n_rows * at // n_parts
        generator = np.random.default_rng(at + 1)
        array = np.lib.format.open_memmap(folder / f"{at}.npy", "w+", dtype, (size, DIM))
        for start in range(0, size, 50_000):
            count = min(50_000, size - start)
            rows = directions[generator.integers(len(directions), size=count)]
            rows = rows + 2 * generator.standard_normal((count, DIM), dtype=np.float32)
            array[start : start + count] = rows / np.linalg.norm(rows, axis=1, keepdims=True)
        array.flush()
        files.append(folder / f"{at}.npy")
    return files


@contextmanager
def dask() -> Iterator[Any]:
    import distributed

    logging.getLogger("distributed").setLevel(logging.ERROR)
    with (
        distributed.LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=":0", memory_limit=0) as cluster,
        distributed.Client(cluster) as client,
    ):
        yield client


@contextmanager
def ray() -> Iterator[Any]:
    import ray

    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, logging_level=logging.ERROR)
    try:
        yield "ray"
    finally:
        ray.shutdown()


ENGINES = {"dask": dask, "ray": ray}


def seconds(call: Callable[[], object]) -> float:
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def median_ms(times: list[float]) -> float:
    return 1000 * statistics.median(times)


def in_one_process(files: list[Path], digests: set[str]) -> tuple[float, float, float]:
    """The time of a fit from files, of one of rows that are in memory, and of one from files with its digest."""
    start = time.perf_counter()
    rows = np.concatenate([np.load(file, mmap_mode="r") for file in files])
    read = time.perf_counter() - start
    model = QKMeans(**SETTINGS, n_threads=2)
    fitted = seconds(lambda: model.fit(rows))
    return read + fitted, fitted, read + fitted + seconds(lambda: digests.add(model.digest()))


def start_of_hosts(model: DistributedQKMeans) -> float:
    """The time until two hosts without rows answer: what a fit waits for before it begins."""
    hosts = model._connected()
    start = time.perf_counter()
    places = hosts.start(2)
    hosts.gather([hosts.call(place, "ping") for place in places])
    taken = time.perf_counter() - start
    for place in places:
        hosts.stop(place)
    return taken


def fits(engine: Any, files: list[Path], repeats: int) -> None:
    """A fit with its digest here and on two workers, in turns. The workers always read the files."""
    here: list[tuple[float, float, float]] = []
    there: list[tuple[float, float, float]] = []
    starts: list[float] = []
    digests: set[str] = set()
    with DistributedQKMeans(**SETTINGS, engine=engine, n_shards=2, n_threads=1) as model:
        for _ in range(repeats):
            here.append(in_one_process(files, digests))
            starts.append(start_of_hosts(model))
            fitted = seconds(lambda: model.fit(files))
            hashed = seconds(lambda: digests.add(model.digest()))
            there.append((fitted, fitted, fitted + hashed))
        print(f"  {model.n_rows_:>9} rows: two hosts start in {statistics.median(starts):.2f} s")
    assert len(digests) == 1, "the bits differ"
    for at, what in enumerate(("a fit", "a fit beside one of rows in memory", "a fit and its digest")):
        one, two = (statistics.median(each[at] for each in times) for times in (here, there))
        started = statistics.median(each[at] - start for each, start in zip(there, starts, strict=True))
        print(
            f"            {what}: one process {one:.2f} s, two workers {two:.2f} s, ratio {two / one:.2f}; without the "
            f"start of hosts {started / one:.2f} (bar {BARS['fit']})"
        )


def removals(engine: Any, files: list[Path], count: int) -> None:
    """Removals off the panel and empty round trips, in turns; and what they carry."""
    with DistributedQKMeans(**SETTINGS, engine=engine, n_shards=2, n_threads=1) as model:
        model.fit(files).digest()
        shards, coordinator = model._clustering._shards, model._clustering._coordinator
        panel = {*np.asarray(coordinator.panel_ids()).tolist()}
        ids = np.random.default_rng(0).permutation(model.n_rows_)
        chosen = [id_ for id_ in ids.tolist() if id_ not in panel][:count]
        trips: list[float] = []
        times: list[float] = []
        bytes_ = []
        for id_ in chosen:
            trips.append(seconds(lambda: shards.ask("ping")))
            before = model.traffic.sent + model.traffic.received
            times.append(seconds(lambda id_=id_: model.remove(id_)))  # type: ignore[misc]
            bytes_.append(model.traffic.sent + model.traffic.received - before)
        print(
            f"            a round trip {median_ms(trips):.2f} ms, a removal off the panel "
            f"{median_ms(times):.2f} ms, {median_ms(times) - median_ms(trips):+.2f} ms "
            f"(bar +{BARS['removal above a round trip, ms']}); {statistics.median(bytes_):.0f} bytes"
        )


def large(engine: Any, files: list[Path], n_rows: int) -> None:
    """Rows that are read from the disk by parts."""
    with DistributedQKMeans(**SETTINGS, engine=engine, n_shards=2, n_threads=1) as model:
        fitted = seconds(lambda: model.fit(files))
        hashed = seconds(lambda: model.digest())
        removed = [seconds(lambda id_=id_: model.remove(id_)) for id_ in range(0, n_rows, n_rows // 50)]  # type: ignore[misc]
        used = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
        print(
            f"  {n_rows} x {DIM} rows in {len(files)} files: fit {fitted:.0f} s, hashes {hashed:.0f} s, "
            f"a removal {median_ms(removed):.2f} ms "
            f"(median of {len(removed)}, the longest {1000 * max(removed):.0f} ms), this process {used:.2f} GiB, all "
            f"processes together {in_use():.1f} GiB at the end"
        )


def in_use() -> float:
    """Memory of the machine that is neither free nor a cache, in GiB."""
    fields = dict(line.split(":") for line in Path("/proc/meminfo").read_text().splitlines())
    kilobytes = {name: int(fields[name].split()[0]) for name in ("MemTotal", "MemAvailable")}
    return (kilobytes["MemTotal"] - kilobytes["MemAvailable"]) / 2**20


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--engines", nargs="+", choices=ENGINES, default=[*ENGINES])
    parser.add_argument("--sizes", nargs="*", type=int, default=[10_000, 100_000, 1_000_000])
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--removals", type=int, default=200)
    parser.add_argument("--large", nargs="?", type=int, const=10_000_000, help="rows of the fit by parts on the disk")
    given = parser.parse_args()
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    with tempfile.TemporaryDirectory(dir=os.environ.get("TMPDIR")) as folder:
        if given.large:
            many = write_parts(Path(folder) / "large", given.large, max(2, given.large // 250_000), np.float16)
        for name in given.engines:
            with ENGINES[name]() as engine:
                print(name)
                for size in given.sizes:
                    files = write_parts(Path(folder) / "parts", size)
                    fits(engine, files, given.repeats)
                    removals(engine, files, given.removals)
                if given.large:
                    large(engine, many, given.large)


if __name__ == "__main__":
    main()
