"""Fits and removals beside those of scikit-learn and faiss, in one run: ratios, shares of each path, a plot.

    make compare                 quick: under two minutes
    make compare FULL=1          with a million rows

Rows are made from the embeddings that are given (`--data`, see embeddings.py): a real one plus half the difference of
two others, normalised. Without data they are mixtures around random directions, which removals find easier.
"""

from __future__ import annotations

import argparse
import json
import time
from collections import Counter
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from embeddings import embed
from erase_core import QKMeans
from numpy.typing import NDArray
from sklearn.cluster import KMeans

Matrix = NDArray[np.float32]
DIM = 384


def normalised(X: NDArray[Any]) -> Matrix:
    """Rows of norm 1."""
    return np.asarray(X / np.linalg.norm(X, axis=1, keepdims=True), dtype=np.float32)


def sentence_like(real: Matrix, n: int) -> Matrix:
    """Mixtures of differences of real rows."""
    rng = np.random.default_rng(0)
    a, b, c = (rng.integers(len(real), size=n) for _ in range(3))
    rows = np.empty((n, real.shape[1]), dtype=np.float32)
    for part in np.array_split(np.arange(n), max(1, n // 50_000)):
        rows[part] = normalised(real[a[part]] + 0.5 * (real[b[part]] - real[c[part]]))
    return rows


def around_directions(n: int) -> Matrix:
    """Rows around random directions, where there are no real ones."""
    rng = np.random.default_rng(0)
    return normalised(rng.normal(size=(40, DIM))[rng.integers(40, size=n)] + rng.normal(size=(n, DIM)))


def seconds(run: Callable[[], object], repeats: int = 3) -> float:
    """Shortest wall-clock time of several runs."""
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        run()
        times.append(time.perf_counter() - start)
    return min(times)


def faiss_fit(X: Matrix, k: int) -> Callable[[], object]:
    """Ten iterations on all rows."""
    import faiss

    return lambda: faiss.Kmeans(X.shape[1], k, niter=10, max_points_per_centroid=len(X), seed=1).train(X)


def fits(X: Matrix) -> list[dict[str, Any]]:
    """Fit by each, ten iterations at most."""
    rows = []
    for k, projection in ((8, None), (64, None), (64, 32)):
        model = QKMeans(k, projection=projection, max_norm=1.0)
        ours = seconds(partial(model.fit, X))
        faiss = seconds(faiss_fit(X, k))
        peer = KMeans(k, n_init=1, max_iter=10, tol=0, algorithm="lloyd")
        sklearn = seconds(partial(peer.fit, X), repeats=1)
        row = {"n": len(X), "k": k, "projection": projection, "fit": ours, "faiss": faiss, "scikit-learn": sklearn}
        print(
            f"| {len(X)} | {k} | {projection or '-'} | {1e3 * ours:.0f} ms "
            f"| {faiss / ours:.1f} x | {sklearn / ours:.1f} x |",
            flush=True,
        )
        rows.append(row)
    return rows


def removals(X: Matrix, epsilon: float, projection: int | None, count: int) -> dict[str, Any]:
    """Remove rows at random, one by one."""
    fit = seconds(lambda: QKMeans(epsilon=epsilon, projection=projection, max_norm=1.0).fit(X), repeats=1)
    model = QKMeans(epsilon=epsilon, projection=projection, max_norm=1.0).fit(X)
    rng = np.random.default_rng(1)
    spent: dict[str, list[float]] = {"certified": [], "replayed": [], "reseeded": []}
    work = []
    fit_work = len(X) * model.cluster_centers_.shape[1] * ((model.n_iter_ + 1) * 8 + 29)
    for done, id_ in enumerate(rng.permutation(len(X))[: min(count, len(X) // 2)].tolist()):
        start = time.perf_counter()
        report = model.remove(id_)
        if done >= 20:  # the first few find cold caches
            spent[report.path].append(1e6 * (time.perf_counter() - start))
        if report.path == "replayed":
            work.append(report.work / fit_work)
    every = np.concatenate([np.array(times) for times in spent.values()])
    shares = Counter({path: len(times) / len(every) for path, times in spent.items()})
    row: dict[str, Any] = {
        "n": len(X),
        "projection": projection,
        "epsilon": epsilon,
        "fit": fit,
        **{path: shares[path] for path in spent},
        **{f"{path}_us": float(np.median(times)) if times else None for path, times in spent.items()},
        "replay_work": float(np.median(work)) if work else None,
        "mean_us": float(every.mean()),
        "p50_us": float(np.median(every)),
        "p99_us": float(np.quantile(every, 0.99)),
    }
    replay = f"{row['replay_work']:.2%}" if work else "-"
    median = f"{row['certified_us']:.1f}" if spent["certified"] else "-"
    print(
        f"| {len(X)} | {projection or '-'} | {epsilon:g} | {shares['certified']:.1%} | {shares['replayed']:.1%} "
        f"| {shares['reseeded']:.1%} | {median} | {row['mean_us']:.0f} | {row['p99_us']:.0f} | {replay} "
        f"| {1e6 * fit / row['mean_us']:.0f} x |",
        flush=True,
    )
    return row


def plot(rows: list[dict[str, Any]], path: Path) -> None:
    """Latency of a removal by number of rows."""
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(1, 2, figsize=(9, 3.4), layout="constrained", sharey=True)
    for ax, projection in zip(axes, (None, 32), strict=True):
        line = [row for row in rows if row["projection"] == projection]
        n = [row["n"] for row in line]
        for key, label, scale in (
            ("fit", "a fit", 1e6),
            ("replayed_us", "replayed, median", 1),
            ("mean_us", "all removals, mean", 1),
            ("certified_us", "certified, median", 1),
        ):
            ax.plot(n, [np.nan if row[key] is None else scale * row[key] for row in line], marker="o", label=label)
        ax.set(xscale="log", yscale="log", xlabel="rows")
        ax.set_title(f"{projection or DIM} dimensions{' after projection' if projection else ''}", fontsize=10)
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
    every = sentence_like(real, largest) if real is not None else around_directions(largest)
    print("| n | k | projection | fit | against faiss | against scikit-learn |\n|---|---|---|---|---|---|")
    results: dict[str, Any] = {"fits": fits(every[:96_000])}
    print(
        "\n| n | projection | epsilon | certified | replayed | reseeded | certified, us | mean, us | 99 %, us "
        "| work of a replay, of a fit's | a fit, of the mean |\n|---|---|---|---|---|---|---|---|---|---|---|"
    )
    sizes = [n for n in (1_000, 10_000, 100_000, 1_000_000) if n <= largest]
    count = 3000 if args.full else 1000
    results["removals"] = [
        removals(every[:n], epsilon, projection, count)
        for projection, epsilon in ((None, 2.0), (32, 1.0))
        for n in sizes
    ]
    folder = Path(__file__).with_name("results")
    folder.mkdir(exist_ok=True)
    (folder / "compare.json").write_text(json.dumps(results, indent=1))
    plot(results["removals"], folder / "compare.png")


if __name__ == "__main__":
    main()
