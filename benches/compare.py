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
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import memory
import numpy as np
from embeddings import embed
from erase_core import QKMeans
from measure import Matrix, Removals, around_directions, partition_inertia, references, seconds, sentence_like
from sklearn.cluster import KMeans
from stores import deletions

DIM = 384
SETTINGS = ((None, 1.0), (None, 2.0), (64, 1.0))
Figures = dict[str, Any]
MORE_THAN_CACHES_HOLD = np.ones(1 << 25, dtype=np.float32)


def table(title: str, *columns: str) -> None:
    """Begin a table in Markdown."""
    print(f"\n## {title}\n\n| {' | '.join(columns)} |\n|{'---|' * len(columns)}", flush=True)


def line(*cells: object) -> None:
    """A row of it."""
    print("|", " | ".join(map(str, cells)), "|", flush=True)


def faiss_fit(X: Matrix, k: int) -> Callable[[], object]:
    """Ten iterations on all rows."""
    import faiss

    return lambda: faiss.Kmeans(X.shape[1], k, niter=10, max_points_per_centroid=len(X), seed=1).train(X)


def fits(X: Matrix) -> list[Figures]:
    """Fit by each, ten iterations at most."""
    table("Fit", "n", "k", "projection", "fit", "against faiss", "against scikit-learn")
    rows = []
    for k, projection in ((8, None), (64, None), (64, 32)):
        ours = seconds(partial(QKMeans(k, projection=projection, max_norm=1.0).fit, X))
        faiss = seconds(faiss_fit(X, k))
        sklearn = seconds(partial(KMeans(k, n_init=1, max_iter=10, tol=0, algorithm="lloyd").fit, X), repeats=1)
        line(len(X), k, projection or "-", f"{1e3 * ours:.0f} ms", f"{faiss / ours:.1f} x", f"{sklearn / ours:.1f} x")
        rows.append({"n": len(X), "k": k, "projection": projection, "fit": ours, "faiss": faiss, "sklearn": sklearn})
    return rows


def removals(name: str, X: Matrix, epsilon: float, projection: int | None, count: int) -> Figures:
    """Remove rows at random, one by one; the gain is that of the first few seeds."""
    model = QKMeans(epsilon=epsilon, projection=projection, max_norm=1.0)
    seeds = 8 if len(X) <= 10_000 else 3 if len(X) <= 100_000 else 1
    random, kmeans = references(X, 8, 10, seeds)
    inertias = [partition_inertia(X, model.set_params(random_state=seed).fit_predict(X)) for seed in range(seeds)]
    fit = seconds(lambda: model.fit(X), repeats=1)
    ids = np.random.default_rng(1).permutation(len(X))[: min(count, len(X) // 2)].tolist()
    cold = Removals().run(model, ids[:20], MORE_THAN_CACHES_HOLD.sum)
    warm = Removals().run(model, ids[20:])
    figures: Figures = {
        **{"data": name, "n": len(X), "projection": projection, "epsilon": epsilon, "fit_us": 1e6 * fit},
        "gain": (random - float(np.mean(inertias))) / (random - kmeans),
        "cold_us": 1e6 * float(np.median(cold.all_seconds)),
        **warm.figures(),
    }
    certified, replay = figures.get("certified_us"), figures.get("replay_work")
    line(
        *(name, len(X), projection or "-", f"{epsilon:g}", f"{figures['gain']:.1%}"),
        *(f"{figures[path]:.1%}" for path in ("certified", "replayed", "reseeded")),
        f"{certified:.1f}" if certified else "-",
        *(f"{figures[name]:.0f}" for name in ("us_mean", "us_p99", "cold_us")),
        f"{replay:.2%}" if replay else "-",
        f"{figures['fit_us'] / figures['us_mean']:.0f} x",
    )
    return figures


def random_removals(real: Matrix | None, every: Matrix, count: int) -> list[Figures]:
    """Both settings at all sizes, and where there are real rows, those beside made ones."""
    table(
        "Removals of single random rows",
        *(
            "rows",
            "n",
            "projection",
            "epsilon",
            "gain",
            "certified",
            "replayed",
            "reseeded",
            "certified, us",
            "mean, us",
        ),
        *("99 %, us", "cold, us", "work of a replay, of a fit's", "a fit, of the mean"),
    )
    rows = []
    for projection, epsilon in SETTINGS:
        if real is not None:
            n = min(len(real), 9_000)
            chosen = np.random.default_rng(2).permutation(len(real))[:n]
            rows.append(removals("real", real[chosen], epsilon, projection, count))
            removals("made", every[:n], epsilon, projection, count)
        sizes = [n for n in (1_000, 10_000, 100_000, 1_000_000) if n <= len(every)]
        rows.extend(removals("made", every[:n], epsilon, projection, count) for n in sizes)
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
    table("A random tenth at once", "n", "epsilon", "removal", "a fit on the rest", "of the fit")
    gone = np.random.default_rng(3).permutation(len(X))[: len(X) // 10]
    rest = np.delete(X, gone, axis=0)
    model = QKMeans(max_norm=1.0).fit(X)
    copies = [copy.deepcopy(model) for _ in range(3)]
    removal = seconds(lambda: copies.pop().remove(gone))
    fit = seconds(lambda: model.fit(rest))
    line(len(X), 1, f"{removal:.2f} s", f"{fit:.2f} s", f"{removal / fit:.0%}")
    return {"n": len(X), "removal": removal, "fit": fit}


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
    table(f"One deletion, {len(X)} rows", "by", "median, us")
    model = QKMeans(max_norm=1.0).fit(X)
    done = Removals().run(model, np.random.default_rng(0).permutation(len(X))[:500].tolist())
    line("erase_core", f"{1e6 * np.median(done.all_seconds):.1f}")
    rows = []
    for name, median in deletions(X, 200):
        line(name, f"{1e6 * median:.1f}")
        rows.append({"store": name, "us": 1e6 * median})
    return rows


def plot(rows: list[Figures], path: Path) -> None:
    """Latency of a removal by number of rows."""
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(1, len(SETTINGS), figsize=(10.5, 3.4), layout="constrained", sharey=True)
    for ax, (projection, epsilon) in zip(axes, SETTINGS, strict=True):
        chosen = [
            row for row in rows if (row["projection"], row["epsilon"], row["data"]) == (projection, epsilon, "made")
        ]
        for key, label in (
            ("fit_us", "a fit"),
            ("replayed_us", "replayed, median"),
            ("us_mean", "all removals, mean"),
            ("certified_us", "certified, median"),
        ):
            ax.plot([r["n"] for r in chosen], [r.get(key, np.nan) for r in chosen], marker="o", label=label)
        ax.set(xscale="log", yscale="log", xlabel="rows")
        ax.set_title(
            f"{f'projected to {projection}' if projection else f'{DIM} dimensions'}, epsilon {epsilon:g}", fontsize=10
        )
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
        "fits": fits(every[:96_000]),
        "removals": random_removals(real, every, 3_000 if args.full else 1_000),
        "growth": growth(10_000_000 if args.full else 1_000_000),
        "bulk": bulk(every),
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
