"""Fits and removals beside those of scikit-learn, faiss and vector stores, in one run: tables and a plot.

    make compare                 quick
    make compare FULL=1          with a million rows of 384 dimensions, and ten millions of 32

Rows are made from the embeddings that are given (`--data`, see embeddings.py): a real one plus a third of the
difference of two others, normalised. Without data they are mixtures around random directions, easier for removals.
"""

from __future__ import annotations

import argparse
import copy
import json
import time
from collections.abc import Iterable
from functools import partial
from pathlib import Path
from typing import Any

import memory
import numpy as np
from embeddings import embed
from erase_core import QKMeans
from indexes import deletions
from measure import Matrix, Removals, around_directions, partition_inertia, references, seconds, sentence_like
from numpy.typing import NDArray
from peers import peers

DIM = 384
SEEDS = (1, 2, 3)
# Clusters and projections.
SETTINGS = ((8, None), (64, None), (8, 64))
Figures = dict[str, Any]
MORE_THAN_CACHES_HOLD = np.ones(1 << 25, dtype=np.float32)


def table(title: str, *columns: str) -> None:
    """Begin a table in Markdown."""
    print(f"\n## {title}\n\n| {' | '.join(columns)} |\n|{'---|' * len(columns)}", flush=True)


def line(*cells: object) -> None:
    """A row of it."""
    print("|", " | ".join(map(str, cells)), "|", flush=True)


def fits(X: Matrix) -> list[Figures]:
    """Fits by each: the shortest of four. The gain is the mean of three seeds."""
    table(f"Fit, {len(X)} x {X.shape[1]}", "k", "by", "time", "against erase_core", "gain", "what it does less")
    rows = []
    for k in (8, 64):
        random, kmeans = references(X, k, 10, 3)

        def gain(labels: Iterable[NDArray[np.int32]], random: float = random, kmeans: float = kmeans) -> str:
            inertia = float(np.mean([partition_inertia(X, each) for each in labels]))
            return f"{(random - inertia) / (random - kmeans):.1%}"

        model = QKMeans(k, max_norm=1.0)
        ours = seconds(partial(model.fit, X), repeats=4)
        kept = gain(model.set_params(random_state=seed).fit_predict(X) for seed in SEEDS)
        line(k, "erase_core", f"{1e3 * ours:.0f} ms", "1", kept, "chooses centres by the panel")
        for peer in peers(X, k):
            taken = seconds(partial(peer.fit, 1), repeats=4)
            kept = gain(peer.fit(seed)() for seed in SEEDS)
            line(k, peer.name, f"{1e3 * taken:.0f} ms", f"{taken / ours:.1f} x", kept, peer.does_less)
            rows.append({"n": len(X), "k": k, "by": peer.name, "fit": ours, "peer": taken})
    return rows


def seeds_of(n: int, k: int) -> int:
    """With how many seeds removals are measured: fewer where a fit takes long."""
    few_clusters = k == 8
    if n <= 10_000:
        return 24 if few_clusters else 4
    return 3 if few_clusters and n <= 100_000 else 1


def removals(name: str, X: Matrix, k: int, projection: int | None, count: int) -> Figures:
    """Remove rows at random, one by one, from the models of several seeds; gain and times are those of all of them."""
    model = QKMeans(k, projection=projection, max_norm=1.0)
    seeds = seeds_of(len(X), k)
    random, kmeans = references(X, k, 10, seeds)
    cold, warm = Removals(), Removals()
    inertias, fits = [], []
    for seed in range(seeds):
        start = time.perf_counter()
        model.set_params(random_state=seed).fit(X)
        fits.append(time.perf_counter() - start)
        inertias.append(partition_inertia(X, model.labels_))
        ids = np.random.default_rng(seed).permutation(len(X))[: min(count // seeds + 20, len(X) // 2)].tolist()
        cold.run(model, ids[:5], MORE_THAN_CACHES_HOLD.sum)
        warm.run(model, ids[5:])
    figures: Figures = {
        **{"data": name, "n": len(X), "k": k, "projection": projection, "fit_us": 1e6 * float(np.median(fits))},
        "gain": (random - float(np.mean(inertias))) / (random - kmeans),
        "cold_us": 1e6 * float(np.median(cold.all_seconds)),
        "digest_us": 1e6 * _digest_after_a_removal(model),
        **warm.figures(),
    }
    certified, replay = figures.get("certified_us"), figures.get("replay_work")
    line(
        *(name, len(X), k, projection or "-", f"{figures['gain']:.1%}"),
        *(f"{figures[path]:.1%}" for path in ("certified", "replayed", "reseeded")),
        f"{certified:.1f}" if certified else "-",
        *(f"{figures[name]:.0f}" for name in ("us_mean", "us_p99", "cold_us", "digest_us")),
        f"{replay:.2%}" if replay else "-",
        f"{figures['fit_us'] / figures['us_mean']:.0f} x",
    )
    return figures


def _digest_after_a_removal(model: QKMeans) -> float:
    model.digest()
    times = []
    for id_ in np.asarray(model.ids_[:21]).tolist():
        model.remove(id_)
        start = time.perf_counter()
        model.digest()
        times.append(time.perf_counter() - start)
    return float(np.median(times))


def random_removals(real: Matrix | None, every: Matrix, count: int) -> list[Figures]:
    """All settings at all sizes, and where there are real rows, those beside made ones."""
    table(
        "Removals of single random rows",
        *("rows", "n", "k", "projection", "gain", "certified", "replayed", "reseeded", "certified, us", "mean, us"),
        *("99 %, us", "cold, us", "digest, us", "work of a replay / of a fit", "time of a fit / mean"),
    )
    rows: list[Figures] = []
    for k, projection in SETTINGS:
        if real is not None:
            mixed = real[np.random.default_rng(2).permutation(len(real))]
            sizes = [n for n in (1_000, 1_500, 4_000) if n <= len(real)]
            rows.extend(removals("real", mixed[:n], k, projection, count) for n in sizes if n >= 16 * k)
        sizes = [n for n in (1_000, 4_000, 10_000, 100_000, 1_000_000) if 16 * k <= n <= len(every)]
        rows.extend(removals("made", every[:n], k, projection, count) for n in sizes)
    return rows


def growth(largest: int) -> list[Figures]:
    """Certified removals by number of rows, 32 dimensions."""
    table("Certified removals, 32 dimensions", "n", "fit", "certified", "median, us", "of that at 1 000 rows")
    rows: list[Figures] = []
    every = around_directions(largest, 32)
    for n in (1_000, 10_000, 100_000, 1_000_000, 10_000_000):
        if n > largest:
            break
        model = QKMeans(max_norm=1.0)
        fit = seconds(partial(model.fit, every[:n]), repeats=1)
        done = Removals().run(model, np.random.default_rng(1).permutation(n)[: min(5_000, n // 2)].tolist())
        figures = {"n": n, "fit": fit, **done.figures()}
        first = rows[0]["certified_us"] if rows else figures["certified_us"]
        line(
            *(n, f"{fit:.2f} s", f"{figures['certified']:.1%}", f"{figures['certified_us']:.1f}"),
            f"{figures['certified_us'] / first:.2f} x",
        )
        rows.append(figures)
    return rows


def bulk(X: Matrix) -> Figures:
    """A random tenth at once, against a fit on the rest."""
    table("A random tenth at once", "n", "removal", "a fit on the rest", "of the fit")
    gone = np.random.default_rng(3).permutation(len(X))[: len(X) // 10]
    rest = np.delete(X, gone, axis=0)
    model = QKMeans(max_norm=1.0).fit(X)
    copies = [copy.deepcopy(model) for _ in range(3)]
    removal = seconds(lambda: copies.pop().remove(gone))
    fit = seconds(lambda: model.fit(rest))
    line(len(X), f"{removal:.2f} s", f"{fit:.2f} s", f"{removal / fit:.0%}")
    return {"n": len(X), "removal": removal, "fit": fit}


def nearest(every: Matrix) -> list[Figures]:
    """The rows nearest to one query, exact, in turns with faiss."""
    import faiss

    table("The 8 rows nearest to a query", "n", "erase_core, ms", "faiss, all rows, ms", "against faiss")
    rows: list[Figures] = []
    queries = every[-50:]
    for n in (1_000, 10_000, 100_000, 1_000_000):
        if n > len(every):
            break
        model, index = QKMeans(max_norm=1.0).fit(every[:n]), faiss.IndexFlatL2(DIM)
        index.add(every[:n])
        times = [
            (seconds(partial(model.kneighbors, query, 8), 1), seconds(partial(index.search, query, 8), 1))
            for query in queries[:, None]
        ]
        ours, theirs = (1e3 * float(each) for each in np.median(times, axis=0))
        line(n, f"{ours:.2f}", f"{theirs:.2f}", f"{ours / theirs:.2f} x")
        rows.append({"n": n, "ours_ms": ours, "faiss_ms": theirs})
    return rows


def peak_memory(shapes: list[tuple[int, int]]) -> list[Figures]:
    """Each in a process of its own."""
    table("Memory beyond the input", "n", "dim", "peak", "stays", "aim for the peak", "fit")
    rows = [memory.measure(n, dim) for n, dim in shapes]
    for r in rows:
        line(
            *(r["n"], r["dim"], *(f"{r[name] / 2**20:.0f} MiB" for name in ("peak", "stays", "bound"))),
            f"{r['seconds']:.2f} s",
        )
    return rows


def other_stores(X: Matrix) -> list[Figures]:
    """Deletion of one row by vector stores, beside a removal here."""
    table(f"One deletion, {len(X)} rows", "by", "median, us", "mean, us")
    model = QKMeans(max_norm=1.0).fit(X)
    done = Removals().run(model, np.random.default_rng(0).permutation(len(X))[:500].tolist()).all_seconds
    line("erase_core", f"{1e6 * np.median(done):.1f}", f"{1e6 * done.mean():.1f}")
    rows = []
    for name, times in deletions(X, 200):
        line(name, f"{1e6 * np.median(times):.1f}", f"{1e6 * times.mean():.1f}")
        rows.append({"store": name, "us": 1e6 * float(np.median(times))})
    return rows


def plot(rows: list[Figures], path: Path) -> None:
    """Latency of a removal by number of rows."""
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(1, len(SETTINGS), figsize=(10.5, 3.4), layout="constrained", sharey=True)
    for ax, (k, projection) in zip(axes, SETTINGS, strict=True):
        chosen = [row for row in rows if (row["k"], row["projection"], row["data"]) == (k, projection, "made")]
        for key, label in (
            ("fit_us", "a fit"),
            ("us_p99", "all removals, 99 %"),
            ("us_mean", "all removals, mean"),
            ("certified_us", "certified, median"),
        ):
            ax.plot([r["n"] for r in chosen], [r.get(key, np.nan) for r in chosen], marker="o", label=label)
        ax.set(xscale="log", yscale="log", xlabel="rows")
        width = f"projected to {projection}" if projection else f"{DIM} dimensions"
        ax.set_title(f"{k} clusters, {width}", fontsize=10)
        ax.grid(alpha=0.3)
    axes[0].set_ylabel("microseconds")
    axes[0].legend(fontsize=8)
    figure.savefig(path, dpi=130)


def main() -> None:
    """Print the tables, write results/compare.json and results/compare.png."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", nargs="+", type=Path, default=[], help="BIG-bench task files")
    parser.add_argument("--full", action="store_true", help="a million rows too, and more removals")
    args = parser.parse_args()
    real = embed(args.data) if args.data else None
    largest = 1_000_000 if args.full else 100_000
    every = sentence_like(real, largest) if real is not None else around_directions(largest, DIM)
    results: dict[str, Any] = {
        "fits": fits(every[:100_000]),
        "removals": random_removals(real, every, 3_000 if args.full else 1_000),
        "growth": growth(10_000_000 if args.full else 1_000_000),
        "bulk": bulk(every),
        "nearest": nearest(every),
        "stores": other_stores(every[:10_000]),
    }
    del every
    results["memory"] = peak_memory([(100_000, DIM), (largest, DIM), (10 * largest, 32)])
    folder = Path(__file__).with_name("results")
    folder.mkdir(exist_ok=True)
    (folder / "compare.json").write_text(json.dumps(results, indent=1))
    plot(results["removals"], folder / "compare.png")


if __name__ == "__main__":
    main()
