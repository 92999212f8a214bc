"""What forgetting costs a user, from the call to the last synced byte, at several sizes: `make bench-store`.

Each figure is of the public calls of `Erase` on a store in a folder, embeddings aside. Beside it are the deletions of
what people keep vectors and texts in instead, in the same run on the same rows, and whether a deleted vector and text
can still be found in their files. Bytes are those that the process asked the system to write (/proc/self/io).
"""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np
from erase_core import Erase, scan_folder
from measure import Matrix, around_directions
from store_peers import PEERS

DIM = 384
BATCH = 20_000
SIZES = (1_000, 10_000, 100_000)
# What the design asks for, on a quiet machine of two cores: see docs/performance.md.
TARGETS = {
    "forget, ms": 3.0,
    "forget p99, ms": 10.0,
    "written by it, KiB": 64.0,
    "forget 1000, ms": 100.0,
    "ingest one, ms": 5.0,
    "ingest, rows/s": 20_000.0,
    "reader, ms": 2.0,
    "verify, s": 60.0,
}


class Given:
    """An embedding model whose vectors are there already: the text begins with the number of its row."""

    name, dim = "given", DIM

    def __init__(self, rows: Matrix) -> None:
        self._rows = rows

    def embed(self, texts: Sequence[str], progress: bool = False) -> Matrix:
        """Return the rows that the texts name."""
        return self._rows[[int(text.split(" ", 1)[0]) % len(self._rows) for text in texts]]


def example(number: int) -> dict[str, object]:
    """An example as a shop has it."""
    text = f"{number} where is parcel {number * 7919 % 1_000_003}? it should have been here on monday already"
    return {"id": f"mail-{number}", "input": text, "output": "delivery", "subject": f"customer-{number // 3}"}


def written() -> int:
    """Bytes that this process has asked the system to write."""
    lines = Path("/proc/self/io").read_text().splitlines()
    return int(dict(line.split(": ") for line in lines)["wchar"])


def milliseconds(call: Callable[[], object]) -> float:
    start = time.perf_counter()
    call()
    return 1e3 * (time.perf_counter() - start)


def _read(connection: Connection, folder: Path, rows: Matrix) -> None:
    """Be another process: answer each message with the time of a prompt."""
    with Erase.open(folder, embedder=Given(rows), timeout=60) as erase:
        while connection.recv():
            connection.send(milliseconds(lambda: erase.prompt("0 hello")))


@contextmanager
def reader(folder: Path, rows: Matrix) -> Iterator[Callable[[], float]]:
    """Yield a function that returns how long the next prompt of another process takes."""
    context = get_context("forkserver")
    ours, theirs = context.Pipe()
    process = context.Process(target=_read, args=(theirs, folder, rows[:1]))
    process.start()

    def ask() -> float:
        ours.send(True)
        return float(ours.recv())

    try:
        yield ask
    finally:
        ours.send(False)
        process.join()


def of_a_store(folder: Path, rows: Matrix, *, removals: int) -> dict[str, float]:
    """Return the figures of a store of these rows."""
    n, embedder = len(rows), Given(rows)
    ids = [f"mail-{number}" for number in np.random.default_rng(0).permutation(n).tolist()]
    found: dict[str, float] = {"examples": n}
    with Erase.create(folder, embedder=embedder, timeout=60) as erase:
        reports = [
            erase.ingest([example(number) for number in range(start, min(n, start + BATCH))])
            for start in range(0, n, BATCH)
        ]
        found["ingest, rows/s"] = n / sum(report.seconds - report.embedding_seconds for report in reports)
    with Erase.open(folder, embedder=embedder, timeout=60) as erase:
        found["open and first prompt, s"] = milliseconds(lambda: erase.prompt("0 hello")) / 1e3
        found["first forget, ms"] = milliseconds(lambda: erase.forget(ids.pop()))
        with reader(folder, rows) as ask:
            ask()
            times, core, prompts, before = [], [], [], written()
            for _ in range(removals):
                start = time.perf_counter()
                report = erase.forget(ids.pop())
                times.append(1e3 * (time.perf_counter() - start))
                core.append(1e3 * report.model_seconds)
            found["written by it, KiB"] = (written() - before) / removals / 1024
            ask()
            for _ in range(min(50, removals)):
                erase.forget(ids.pop())
                prompts.append(ask())
        found["forget, ms"] = statistics.median(times)
        found["forget p99, ms"] = float(np.percentile(times, 99))
        found["of it in the core, ms"] = statistics.median(core)
        found["of it in the core p99, ms"] = float(np.percentile(core, 99))
        found["reader, ms"] = statistics.median(prompts)
        ones = [milliseconds(partial(erase.ingest, [example(n + number)])) for number in range(30)]
        found["ingest one, ms"] = statistics.median(ones)
        if len(ids) > 2_000:
            many = [ids.pop() for _ in range(1_000)]
            start = time.perf_counter()
            report = erase.forget(many)
            found["forget 1000, ms"] = 1e3 * (time.perf_counter() - start)
            found["of it in the core (1000), ms"] = 1e3 * report.model_seconds
        if n <= 100_000:
            found["verify, s"] = milliseconds(erase.verify) / 1e3
    found["on disk, B a row"] = sum(file.stat().st_size for file in folder.rglob("*") if file.is_file()) / n
    return found


def of_peers(rows: Matrix, *, removals: int) -> list[dict[str, Any]]:
    """Return the figures of what people use instead."""
    found = []
    texts = [str(example(number)["input"]) for number in range(len(rows))]
    order = np.random.default_rng(0).permutation(len(rows)).tolist()
    for name, make in PEERS.items():
        folder = Path(tempfile.mkdtemp())
        try:
            peer = make(folder, rows, texts)
        except ImportError:
            print(f"{name} is not installed")
            continue
        times, before, gone = [], written(), []
        for number in order[:removals]:
            times.append(milliseconds(partial(peer.delete, number)))
            gone.append(number)
        kib = (written() - before) / removals / 1024
        peer.close()
        left = scan_folder(folder, [texts[number] for number in gone], rows[gone])
        times.sort()
        found.append(
            {
                "name": name,
                "examples": len(rows),
                "ms": statistics.median(times),
                "p99 ms": float(np.percentile(times, 99)),
                "written, KiB": kib,
                "removed": removals,
                "texts": len(left.numbers("text")),
                "vectors": len(left.numbers("vector")),
            }
        )
        shutil.rmtree(folder)
    return found


def table(stores: list[dict[str, float]], peers: list[dict[str, Any]]) -> str:
    """Return the figures as tables."""
    lines = ["| | target | " + " | ".join(f"{store['examples']:,.0f}" for store in stores) + " |"]
    lines.append("|---" * (len(stores) + 2) + "|")
    for name in dict.fromkeys(name for store in stores for name in store if name != "examples"):
        values = " | ".join(f"{store[name]:,.4g}" if name in store else "" for store in stores)
        lines.append(f"| {name} | {TARGETS.get(name, '')} | {values} |")
    lines += [
        "",
        "| deletion of one | examples | ms | p99 | KiB written | texts left | vectors left |",
        "|---" * 7 + "|",
    ]
    for peer in peers:
        left = f"{peer['texts']} of {peer['removed']} | {peer['vectors']} of {peer['removed']}"
        lines.append(
            f"| {peer['name']} | {peer['examples']:,} | {peer['ms']:.3g} | {peer['p99 ms']:.3g} | "
            f"{peer['written, KiB']:,.0f} | {left} |"
        )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sizes", type=int, nargs="+", default=SIZES, help="numbers of examples")
    parser.add_argument("--removals", type=int, default=300, help="removals one by one at each size")
    parser.add_argument("--peers", type=int, nargs="*", default=[1_000, 10_000], help="sizes at which peers run")
    parser.add_argument("--folder", type=Path, help="where stores are made; by default a temporary folder")
    parser.add_argument("--results", type=Path, help="a JSON file to write")
    parser.add_argument("--picture", type=Path, help="a PNG file to write")
    given = parser.parse_args()
    stores, peers = [], []
    for n in given.sizes:
        rows = around_directions(n, DIM)
        with tempfile.TemporaryDirectory(dir=given.folder) as folder:
            stores.append(of_a_store(Path(folder) / "store", rows, removals=min(given.removals, n // 4)))
        print(table(stores[-1:], []), flush=True)
        if n in given.peers:
            peers += of_peers(rows, removals=20)
    print(table(stores, peers))
    if given.results:
        given.results.write_text(json.dumps({"stores": stores, "peers": peers}, indent=1) + "\n")
    if given.picture:
        from store_picture import draw

        draw(stores, peers, given.picture)


if __name__ == "__main__":
    main()
